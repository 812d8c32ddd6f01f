"""When work is recorded and replayed, and what becomes of a recording that fails.

That replays compute what the work computes is seen in tests/integration/test_device_graphs.py.
"""

from __future__ import annotations

import gc
import inspect
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

from wdistill.core.machine import graphs
from wdistill.core.machine.graphs import LARGEST, CudaRecorder, Graphs, GraphSwitch

T = TypeVar("T")
CPU = torch.device("cpu")


class Recorder:
    """Records on the CPU; ``error`` is what recording raises."""

    error: Exception | None = None

    def __init__(self, device: torch.device) -> None:
        self.beside = 0

    @contextmanager
    def aside(self) -> Iterator[None]:
        self.beside += 1
        yield

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], object]]:
        if self.error is not None:
            raise self.error
        result: Any = work()
        return result, lambda: result.copy_(work())


class Squares:
    """Counts how often Python runs it."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x.square()


@pytest.fixture(autouse=True)
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    monkeypatch.setitem(graphs.RECORDERS, "cpu", Recorder)
    monkeypatch.setattr(Recorder, "error", None)
    return Recorder


def squares(made: Graphs, work: Squares, numbers: list[float]) -> list[float]:
    return [float(made.run(work, torch.tensor(x))) for x in numbers]


def recordings(made: Graphs) -> int:
    return sum(recording is not None for recording in made._recordings.values())


def test_the_second_run_is_recorded_and_every_run_sees_its_own_inputs() -> None:
    made, work = Graphs(GraphSwitch(True), CPU, 32), Squares()
    counts = []
    for number in (2.0, 3.0, 4.0, 5.0):
        assert squares(made, work, [number]) == [number**2]
        counts.append(recordings(made))
    assert counts == [0, 1, 1, 1]


def test_the_inputs_themselves_are_not_touched() -> None:
    made, work = Graphs(GraphSwitch(True), CPU, 32), Squares()
    inputs = [torch.tensor([float(x)]) for x in range(4)]
    for x in inputs:
        made.run(work, x)
    assert torch.cat(inputs).tolist() == [0, 1, 2, 3]


def test_other_shapes_types_and_work_have_recordings_of_their_own() -> None:
    made, work, other = Graphs(GraphSwitch(True), CPU, 32), Squares(), Squares()
    for inputs in (torch.ones(2), torch.ones(3), torch.ones(2, dtype=torch.float64)):
        for each in (work, other):
            for factor in (1, 2, 3):
                result = made.run(each, factor * inputs)
                assert torch.equal(result, (factor * inputs).square())
                assert result.dtype == inputs.dtype
    assert recordings(made) == 6


@pytest.mark.parametrize(
    ("on", "device", "side"),
    [(False, "cpu", 32), (True, "mps", 32), (True, "cpu", LARGEST + 1)],
)
def test_nothing_is_recorded_unasked_elsewhere_or_of_large_images(
    on: bool, device: str, side: int, caplog: pytest.LogCaptureFixture
) -> None:
    made, work = Graphs(GraphSwitch(on), torch.device(device), side), Squares()
    assert squares(made, work, [1.0, 2.0, 3.0]) == [1.0, 4.0, 9.0]
    assert work.calls == 3
    assert recordings(made) == 0
    assert caplog.text == ""


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("out of memory.\nMore."), RuntimeError("not permitted"),
              ValueError()],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_a_recording_that_fails_is_the_last(
    error: Exception, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for other objects with the same switch, and what was recorded before is given back."""
    switch, work = GraphSwitch(True), Squares()
    made, other = (Graphs(switch, CPU, 32) for _ in range(2))
    squares(made, work, [1.0, 2.0])
    monkeypatch.setattr(Recorder, "error", error)
    caplog.set_level(logging.INFO, "wdistill")
    assert squares(other, work, [2.0, 3.0, 4.0]) == [4.0, 9.0, 16.0]
    assert squares(made, work, [5.0, 6.0]) == [25.0, 36.0]
    assert recordings(made) == recordings(other) == 0
    assert not switch.on
    (line,) = caplog.messages
    assert line.startswith("warning: CUDA graphs are not used")
    assert (str(error).split("\n")[0] or "ValueError") in line


def test_an_error_of_the_work_itself_is_raised() -> None:
    made = Graphs(GraphSwitch(True), CPU, 32)
    with pytest.raises(ZeroDivisionError):
        made.run(lambda x: x / (1 // 0), torch.ones(1))


def test_graphs_go_with_their_object() -> None:
    """At once, not when Python next looks for cycles: they hold a GPU's memory."""
    made, work = Graphs(GraphSwitch(True), CPU, 32), Squares()
    squares(made, work, [1.0, 2.0])
    (recording,) = made._recordings.values()
    assert recording is not None
    result = weakref.ref(recording.result)
    del recording
    gc.disable()
    try:
        del made
        assert result() is None
    finally:
        gc.enable()


class Cuda:
    """In place of ``torch.cuda``: what was asked of it, and its current stream."""

    def __init__(self, fails: bool) -> None:
        self.asked: list[str] = []
        self.now, self.fails = "the user's", fails
        self.device = torch.device("cuda", 0)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        signature = inspect.signature(torch.cuda.graph.__init__)

        @contextmanager
        def graph(*arguments: Any, **options: Any) -> Iterator[None]:
            """Its parameters are those of PyTorch; as there, an error leaves the stream."""
            given = signature.bind(None, *arguments, **options).arguments
            assert given["stream"].name == self.now == "beside"
            assert given["capture_error_mode"] == "thread_local"
            self.asked.append(f"record in {given['pool']}")
            yield
            if self.fails:
                self.now = "left by PyTorch"
                raise RuntimeError("invalidated")
            self.asked.append("recorded")

        @contextmanager
        def stream(which: Any) -> Iterator[None]:
            before, self.now = self.now, which.name
            yield from self._until(before)

        made = {
            "Stream": lambda device: self._stream("beside"), "graph": graph, "stream": stream,
            "current_stream": lambda device: self._stream(self.now),
            "graph_pool_handle": lambda: "a pool",
            "CUDAGraph": lambda: SimpleNamespace(replay=lambda: self.asked.append("replayed")),
            "default_generators": [SimpleNamespace(
                clone_state=lambda: "as before",
                graphsafe_set_state=lambda state: self.asked.append(f"numbers {state}"),
            )],
        }  # fmt: skip
        for name, value in made.items():
            monkeypatch.setattr(torch.cuda, name, value)
        graphs._side_stream.cache_clear()

    def _until(self, before: str) -> Iterator[None]:
        try:
            yield
        finally:
            self.now = before

    def _stream(self, name: str) -> Any:
        waits = lambda other: self.asked.append(f"{name} waits for {other.name}")  # noqa: E731
        return SimpleNamespace(name=name, device=self.device, wait_stream=waits)


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_asked_of_cuda(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the notes on CUDA graphs: on a stream of its own, before which and after which the
    others wait. After a failure all is as it was, which PyTorch leaves to its users.
    """
    cuda = Cuda(fails)
    cuda.install(monkeypatch)
    recorder = CudaRecorder(cuda.device)
    with recorder.aside():
        assert cuda.now == "beside"
    waits = ["beside waits for the user's", "the user's waits for beside"]
    assert cuda.asked == waits
    cuda.asked.clear()
    if fails:
        with pytest.raises(RuntimeError, match="invalidated"):
            recorder.record(lambda: 1)
        assert cuda.asked == [waits[0], "record in a pool", waits[1], "numbers as before"]
    else:
        result, replay = recorder.record(lambda: 1)
        replay()
        assert result == 1
        assert cuda.asked == [waits[0], "record in a pool", "recorded", waits[1], "replayed"]
    assert cuda.now == "the user's"
    graphs._side_stream.cache_clear()


def test_graphs_are_cudas() -> None:
    assert graphs.RECORDERS["cuda"] is CudaRecorder
