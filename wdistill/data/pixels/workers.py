"""Threads or processes that decode images, task by task."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from wdistill.errors import ProcessError

Task = Sequence[int]  # rows; a thread or process decodes them one after the other
Decode = Callable[[Task], None]
TASK = 16  # images of a task
FEW = 64  # images for each process, below which threads do not take longer than its start
AHEAD = 32  # tasks that are done before they are needed
THREADS = 8  # up to which threads decode, see :func:`processes_pay`
STOPPING = {signal.SIGINT, signal.SIGTERM}


def processes_pay(workers: int) -> bool:
    """Whether so many processes decode faster than threads do, and can be had.

    Threads run Python one at a time, and of the 1.59 ms of a decode 0.166 are Python (measured on
    photographs): beyond 1.59 / 0.166 = 9.6 threads none gains anything, and eight take five sixths
    of what there is. Processes are forked, since a process that starts anew imports seconds of
    code, and the script of the user with it; elsewhere than on Linux that is unsafe beside threads.
    """
    may_fork = sys.platform == "linux" and not multiprocessing.current_process().daemon
    return may_fork and workers > THREADS


def decoded(
    decode: Decode, tasks: Iterable[Task], images: int, threads: int, processes: int = 0
) -> Generator[Task, None, None]:
    """Each of the ``tasks`` in order, as soon as a thread or process has called ``decode`` with it.

    PyTorch's DataLoader is not used for it: it tells of a worker that was killed by an exception
    out of a signal handler, wherever the main thread happens to be, and of an error as text of
    several lines. Here every worker has a pipe of its own: one that ends closes it, and so does
    this process, whatever ends it.

    Args:
        decode: Called with the rows of a task.
        tasks: Looked at no sooner than workers are free for them.
        images: Of all tasks, at most.
        threads: That decode where processes do not.
        processes: That decode where there are enough images for each; 0: threads do.
    """
    if processes and images >= processes * FEW:
        yield from _in_processes(decode, tasks, processes)
    else:
        yield from _in_threads(decode, tasks, threads)


def _in_threads(decode: Decode, tasks: Iterable[Task], threads: int) -> Iterator[Task]:
    queue: deque[tuple[Task, Future[None]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for task in tasks:
            queue.append((task, pool.submit(decode, task)))
            if len(queue) > AHEAD:
                yield _result(*queue.popleft())
        while queue:
            yield _result(*queue.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _result(task: Task, future: Future[None]) -> Task:
    future.result()
    return task


def _in_processes(decode: Decode, tasks: Iterable[Task], count: int) -> Iterator[Task]:
    """In turns, since the oldest task is waited for anyway; an empty one is nobody's turn."""
    queue: deque[tuple[Task, _Child | None]] = deque()
    children: list[_Child] = []
    try:
        _start(decode, count, children)
        turns = itertools.cycle(children)
        for task in tasks:
            child = next(turns) if task else None
            if child:
                child.send(task)
            queue.append((task, child))
            if len(queue) > AHEAD + count:
                yield _received(*queue.popleft())
        while queue:
            yield _received(*queue.popleft())
    finally:
        for child in children:
            child.end()


def _received(task: Task, child: _Child | None) -> Task:
    if child:
        child.receive()
    return task


class _Child:
    """A forked process that decodes what it is sent."""

    def __init__(self, process: BaseProcess, connection: Connection, siblings: int) -> None:
        self._process, self._connection, self._siblings = process, connection, siblings

    def send(self, task: Task) -> None:
        try:
            self._connection.send(task)
        except ConnectionError:
            raise self._ended() from None

    def receive(self) -> None:
        """Wait for the oldest task that was sent; what it has raised is raised here."""
        try:
            error = self._connection.recv()
        except (EOFError, ConnectionError):
            raise self._ended() from None
        if error is not None:
            raise error

    def _ended(self) -> ProcessError:
        self._process.join()
        code = self._process.exitcode or 0
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return ProcessError(
            f"one of {self._siblings} processes that decode images was ended {how}, as happens "
            "where memory is short; what was finished is kept, run the same command again with a "
            "smaller `runtime.num_workers`"
        )

    def end(self) -> None:
        """At once: a task that is not done leaves rows that count as missing."""
        self._connection.close()
        self._process.terminate()
        self._process.join()


def _start(decode: Decode, count: int, children: list[_Child]) -> None:
    """Fork ``count`` processes. Signals that end this one wait until they simply end its children,
    too, which have inherited how it handles them.
    """
    context = multiprocessing.get_context("fork")
    ours: list[Connection] = []
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        for _ in range(count):
            here, there = context.Pipe()
            ours.append(here)
            process = context.Process(target=_serve, args=(decode, there, ours), daemon=True)
            with there, warnings.catch_warnings():
                # Python warns of a fork beside threads, whose locks may be held for ever in the
                # child: it takes none of PyTorch's, and those of other libraries know of forks
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            children.append(_Child(process, here, count))
    except OSError as error:
        raise ProcessError(
            f"cannot start {count} processes that decode images ({error.strerror}); lower "
            "`runtime.num_workers`"
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _serve(decode: Decode, tasks: Connection, parents: Sequence[Connection]) -> None:
    """In a child: decode until the parent closes the pipe or ends. Nothing that the parent has made
    is finalised here.
    """
    gc.freeze()
    for number in STOPPING:  # without a word, which the parent has
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    for connection in parents:  # or the parent's end would not close with it
        connection.close()
    with suppress(EOFError, ConnectionError):
        while True:
            tasks.send(_error_of(decode, tasks.recv()))
    os._exit(0)


def _error_of(decode: Decode, task: Task) -> Exception | None:
    try:
        decode(task)
    except Exception as error:  # raised again by the parent
        return error
    return None
