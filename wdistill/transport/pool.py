"""Threads that compute barycenters while the next classes are surveyed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Self, TypeVar

import torch

T = TypeVar("T")
MOST_BYTES = 2**29  # of features at a time; a barycenter takes some six times those of its class


class BarycenterPool:
    """As many classes at a time as there are threads, each on one core.

    Threads do, and cost nothing to start: a barycenter spends its time in POT's network simplex
    (``ot.emd``) and in operations of PyTorch, and both let other threads of Python run. With one
    thread of PyTorch in each, sums have the same order however many cores there are.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._executor = ThreadPoolExecutor(threads, "barycenter", torch.set_num_threads, (1,))
        self._running: dict[Future[Any], int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """What runs is waited for; after an error, what has not begun is dropped."""
        self._executor.shutdown(cancel_futures=error is not None)
        torch.set_num_threads(torch.get_num_threads())  # for threads that are started from now on

    def submit(self, size: int, work: Callable[[], T]) -> Future[T]:
        """Begin ``work`` as soon as a thread is free and, with the features of ``size`` bytes that
        it holds, the memory does. What another one has raised is raised here.
        """
        while self._running and (
            len(self._running) >= self._threads or sum(self._running.values()) + size > MOST_BYTES
        ):
            done, _ = wait(self._running, return_when=FIRST_COMPLETED)
            for future in done:
                del self._running[future]
                future.result()
        future = self._executor.submit(work)
        self._running[future] = size
        return future
