"""Barycenters of several classes at once: the same ones, within bounds, and errors are told."""

from __future__ import annotations

import os
import signal
import threading

import pytest
import torch
from torch import Tensor

from wdistill.config import BarycenterConfig
from wdistill.core.seeds import stream
from wdistill.errors import NumericalError
from wdistill.transport import pool as pools
from wdistill.transport.barycenter import Barycenter, class_barycenter
from wdistill.transport.pool import BarycenterPool

PATIENCE = 30.0


def solve(label: int) -> Barycenter:
    features = torch.randn(300, 8, generator=stream(label, "features"))
    return class_barycenter(features, BarycenterConfig(ipc=4), stream(0, "transport", label))


def values(barycenter: Barycenter) -> list[Tensor]:
    return [torch.as_tensor(value) for value in vars(barycenter).values()]


@pytest.mark.parametrize("threads", [1, 4])
def test_barycenters_do_not_depend_on_the_number_of_threads(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = [values(solve(label)) for label in range(6)]
    torch.set_num_threads(before)
    with BarycenterPool(threads) as pool:
        futures = [pool.submit(1, lambda label=label: solve(label)) for label in range(6)]
        actual = [values(future.result()) for future in futures]
    for found, reference in zip(actual, expected, strict=True):
        assert all(map(torch.equal, found, reference))
    assert torch.get_num_threads() == before


def test_a_worker_has_one_thread_of_pytorch_and_others_keep_theirs() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    with BarycenterPool(2) as pool:
        assert pool.submit(1, torch.get_num_threads).result() == 1
        assert torch.get_num_threads() == 3
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    torch.set_num_threads(before)
    assert later == [3]


def together(pool: BarycenterPool, size: int, count: int) -> bool:
    """Whether ``count`` pieces of ``size`` bytes run at the same time."""
    barrier = threading.Barrier(count)

    def meet() -> bool:
        try:
            barrier.wait(PATIENCE if size <= 1 else 0.2)
        except threading.BrokenBarrierError:
            return False
        return True

    futures = [pool.submit(size, meet) for _ in range(count)]
    return all(future.result() for future in futures)


def test_classes_are_computed_at_the_same_time_as_long_as_memory_holds_them() -> None:
    with BarycenterPool(3) as pool:
        assert together(pool, 1, 3)
        assert not together(pool, pools.MOST_BYTES // 2 + 1, 2)


def test_an_error_ends_what_comes_after() -> None:
    def fail() -> None:
        raise NumericalError("features are not finite")

    with BarycenterPool(1) as pool:
        assert isinstance(pool.submit(1, fail).exception(PATIENCE), NumericalError)
        with pytest.raises(NumericalError, match="features are not finite"):
            pool.submit(1, lambda: None)


def test_what_has_not_begun_is_dropped_at_an_interruption() -> None:
    go, ran = threading.Event(), []

    def work() -> None:
        with BarycenterPool(1) as pool:
            pool.submit(1, lambda: go.wait(PATIENCE))
            pool._executor.submit(ran.append, 1)
            threading.Timer(0.2, go.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert ran == []
    assert go.is_set()  # what ran has ended: nothing goes on behind the caller's back


def test_a_signal_is_heard_while_all_threads_are_at_work() -> None:
    go = threading.Event()

    def work() -> None:
        with BarycenterPool(1) as pool:
            pool.submit(1, lambda: go.wait(PATIENCE))
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                pool.submit(1, lambda: None)
            finally:
                assert not go.is_set()
                go.set()

    with pytest.raises(KeyboardInterrupt):
        work()
