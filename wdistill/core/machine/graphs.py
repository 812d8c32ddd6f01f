"""CUDA graphs: work of many short operations that the host starts as one.

On small images a GPU is done with an operation before the host has started the next one. A graph
holds all operations of a step with the places of their inputs and outputs in memory, and is started
at once (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs). Where recording one
fails, work goes on without.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Generic, Protocol, TypeVar, cast

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

LARGEST = 64  # pixels of a side; larger images keep a GPU busy without graphs
T = TypeVar("T")


class GraphSwitch:
    """Whether to record graphs: as the user says, until recording one fails."""

    def __init__(self, on: bool = False) -> None:
        self.on = on

    def fail(self, error: Exception) -> None:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        logger.warning(f"warning: CUDA graphs are not used, results are the same ({reason})")
        self.on = False


class Recorder(Protocol):
    """What records on one kind of device."""

    def aside(self) -> AbstractContextManager[None]:
        """A context for work before it is recorded, under the circumstances of recording."""

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], object]]:
        """The result of ``work``, whose tensors hold nothing yet, and what computes them each time
        it is called, from what the inputs of ``work`` then hold.
        """


@dataclass(frozen=True)
class _Recording(Generic[T]):
    inputs: tuple[Tensor, ...]
    result: T
    replay: Callable[[], object]


class Graphs:
    """The graphs of some work on one device. They live as long as this object.

    Args:
        switch: Whether to record.
        device: Where the work runs. Other devices than CUDA's have no graphs.
        side: Pixels of a side of the images; above ``LARGEST`` nothing is recorded.
    """

    def __init__(self, switch: GraphSwitch, device: torch.device, side: int) -> None:
        kind = RECORDERS.get(device.type) if switch.on and side <= LARGEST else None
        self._switch, self._recorder = switch, kind and kind(device)
        self._recordings: dict[tuple[object, ...], _Recording[object] | None] = {}

    def run(self, work: Callable[..., T], *inputs: Tensor) -> T:
        """``work(*inputs)``; the result may be overwritten by the next run.

        The first run of the same ``work`` (the very object) with inputs of the same shapes and
        types is an ordinary one, in which libraries choose and allocate what they need. The second
        is recorded, and it and all later ones replay what was recorded. So ``work`` has to do the
        same each time, with tensors that stay where they are, and must not wait for the device.
        """
        recorder = self._recorder
        if recorder is None or not self._switch.on:
            self.release()
            return work(*inputs)
        key = (work, *((x.shape, x.dtype) for x in inputs))
        if key not in self._recordings:
            with recorder.aside():
                result = work(*inputs)
            self._recordings[key] = None
            return result
        recording = self._recordings[key]
        if recording is None:
            try:
                recording = _recorded(recorder, work, inputs)
            except Exception as error:
                self._switch.fail(error)
            if recording is None:  # outside the except clause, where the error keeps tensors alive
                return self.run(work, *inputs)
            self._recordings[key] = recording
        for place, value in zip(recording.inputs, inputs, strict=True):
            place.copy_(value)
        recording.replay()
        return cast(T, recording.result)

    def release(self) -> None:
        """Give the memory of all graphs back."""
        self._recordings.clear()


def _recorded(
    recorder: Recorder, work: Callable[..., object], inputs: tuple[Tensor, ...]
) -> _Recording[object]:
    places = tuple(x.detach().clone() for x in inputs)
    result, replay = recorder.record(partial(work, *places))
    return _Recording(places, result, replay)


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """The same for all graphs of a process: cuBLAS never frees what it allocates for a stream."""
    return torch.cuda.Stream(device)


class CudaRecorder:
    """Records on a GPU, in memory that its graphs share: one runs after the other, and none reads
    what another has left there.

    Of a recording that CUDA refuses, PyTorch keeps the memory until the process ends. Before its
    pull request 180395 (April 2026) it can then free no other memory either, so that a process
    whose memory runs out later ends, where it would have taken its images in parts.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = _side_stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """On the stream on which graphs are recorded: libraries prepare themselves for a stream,
        and autograd remembers the one on which a parameter was first seen.
        """
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            current.wait_stream(self._stream)

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], object]]:
        graph = torch.cuda.CUDAGraph()
        # Only this thread is forbidden what would break a recording: others decode and pin images.
        recording = torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        )
        generator = torch.cuda.default_generators[self._stream.device.index]
        before = generator.clone_state()
        try:
            # In `aside` too, because a recording that fails leaves its stream the current one.
            with self.aside(), recording:
                result = work()
        except Exception:
            # Older versions of PyTorch would refuse to draw random numbers outside a graph.
            generator.graphsafe_set_state(before)
            raise
        return result, graph.replay


RECORDERS: dict[str, Callable[[torch.device], Recorder]] = {"cuda": CudaRecorder}
