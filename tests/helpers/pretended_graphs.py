"""Work that is recorded and replayed on the pretended device, as CUDA graphs do it: what came out
with and without, and how many operations the host started, as JSON.

python -m helpers.pretended_graphs
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

from helpers.pretend import NAME, Device, Pretended, Seen, install, pretended
from helpers.stages import Stages
from wdistill.config import LabelViewsConfig, Optimizer, StudentConfig
from wdistill.core.machine import graphs
from wdistill.core.machine.graphs import GraphSwitch
from wdistill.data.content.coding import Coding
from wdistill.evaluation.training import Training, TrainingSet, recipe_for, train_student
from wdistill.labels.views import ViewRecipe, label_views
from wdistill.networks.backbones import new_network
from wdistill.networks.checkpoints.source import find_backbone

T = TypeVar("T")
SIZE, IMAGES = 16, 8
REFUSED = "CUDA error: operation not permitted when stream is capturing"


def _tensors(tree: Any) -> list[Pretended]:
    return [x for x in tree_flatten(tree)[0] if isinstance(x, Pretended)]


def _memory(tensor: Pretended) -> int:
    return tensor.inner.untyped_storage().data_ptr()


class Tape:
    """The operations of a graph. While it is recorded nothing is computed: what is new holds NaN,
    and what was there before keeps its values.
    """

    def __init__(self, device: Device, room: int | None) -> None:
        self.device, self.room = device, room
        self.operations: list[tuple[Any, Any, dict[str, Any], Any]] = []
        self.new: list[Tensor] = []

    def add(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        read = _tensors((args, kwargs))
        if not read and torch.device(kwargs.get("device") or "cpu").type != NAME:
            return func(*args, **kwargs)  # on the host, once
        if self.room == len(self.operations):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.\nMore.")
        stores = [x.inner.untyped_storage() for x in read]
        before = [store.clone() for store in stores]
        seen = self.device.seen
        waited = seen.waits.total() + seen.sent.total()
        result = self.device.compute(func, args, kwargs)
        if seen.waits.total() + seen.sent.total() > waited:
            raise RuntimeError(f"{REFUSED}\nSearch for it.")
        for store, values in zip(stores, before, strict=True):
            store.copy_(values)
        known = {store.data_ptr() for store in stores}
        new = [x.inner for x in _tensors(result) if _memory(x) not in known]
        _forget(new)
        self.new += new
        args, kwargs = tree_map(_as_it_is, (args, kwargs))  # scalars of the host are its numbers
        self.operations.append((func, args, kwargs, result))
        return result

    def replay(self) -> None:
        """Compute everything again into the same memory, where views of it need nothing."""
        seen, self.device.seen = self.device.seen, Seen()
        try:
            with torch.no_grad(), _disable_current_modes():
                for func, args, kwargs, result in self.operations:
                    again = self.device.compute(func, args, dict(kwargs))
                    for old, new in zip(_tensors(result), _tensors(again), strict=True):
                        if _memory(old) != _memory(new):
                            old.inner.copy_(new.inner)
        finally:
            self.device.seen = seen
        seen.kernels["graph"] += 1


def _forget(tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        tensor.fill_(torch.nan if tensor.is_floating_point() else 0)


def _as_it_is(x: Any) -> Any:
    return x.clone() if isinstance(x, Tensor) and not isinstance(x, Pretended) else x


class PretendedRecorder:
    """room: operations until the memory is full, or None."""

    room: int | None = None

    def __init__(self, device: torch.device) -> None:
        self.tapes: list[Tape] = []

    @contextmanager
    def aside(self) -> Iterator[None]:
        yield

    def record(self, work: Callable[[], T]) -> tuple[T, Callable[[], object]]:
        device = Pretended.device_of_all
        tape, draws = Tape(device, self.room), torch.get_rng_state()
        device.tape = tape
        try:
            result = work()
        finally:
            device.tape = None
            torch.set_rng_state(draws)
        self.tapes.append(tape)

        def replay() -> None:
            for other in self.tapes:  # all have the same memory
                if other is not tape:
                    _forget(other.new)
            tape.replay()

        return result, replay


class Dropping(nn.Module):
    """A network that draws random numbers on its device."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.config, self.drop = network, network.config, nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Any:
        return self.network(self.drop(x))


class Sending(Dropping):
    """A network to which the host sends a number in each pass."""

    def forward(self, x: Tensor) -> Any:
        return self.network(x * torch.tensor([1.5]).to(x.device))


def _sending_last(network: nn.Module) -> nn.Module:
    """A network that draws random numbers before recording it fails."""
    return Dropping(Sending(network))


@dataclass(frozen=True)
class Student:
    """wrap: around the network; soft: with a teacher's labels, of stored views or of the images."""

    network: str = "resnet10-w16"
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network
    optimizer: Optimizer = "adamw"
    temperature: float | None = None
    views: bool = False
    steps: int = 6

    def train(self, stages: Stages, switch: GraphSwitch) -> dict[str, Tensor]:
        """Its state and its losses. Seven images are batches of four and of three in turn."""
        count = 7
        generator = torch.Generator().manual_seed(1)
        labels = torch.rand(count, 2, generator=generator).softmax(1)
        soft = self.views or self.temperature is not None
        stored = None
        if self.views:
            recipe = ViewRecipe(LabelViewsConfig(2))
            stored = label_views(stages.network, stages.real[:count], recipe)
        data = TrainingSet(
            stages.real[:count], labels if soft else labels.argmax(1), torch.ones(count), soft,
            views=stored,
        )  # fmt: skip
        config = StudentConfig(steps=self.steps, batch_size=4, temperature=self.temperature)
        recipe = recipe_for(config, count, optimizer=self.optimizer)
        source = find_backbone(self.network, resolution=stages.size)
        model = self.wrap(new_network(source, stages.names, stages.size, 0))
        training = Training(recipe, 0, stages.device, stages.autocast, switch)
        losses: list[Tensor] = []
        train_student(model, data, stages.pixels, training, losses.append)
        state = {name: value.cpu() for name, value in model.state_dict().items()}
        return {**state, "losses": torch.stack(losses).cpu()}


STUDENTS = {
    "BatchNorm": Student(),
    "ConvNet": Student("convnet-w64"),
    "SGD, temperature 2": Student("convnet-w64", optimizer="sgd", temperature=2.0),
    "SGD, temperature 4": Student("convnet-w64", optimizer="sgd", temperature=4.0),
    "views": Student(views=True),
    "dropout": Student("convnet-w64", Dropping),
}
SYNTHESES = ("synthesis", "synthesis, little memory", "synthesis, no room")
FAILING = ("synthesis, no room", "student, no room", "student, refused", "dropout, refused")


def synthesis(stages: Stages, switch: GraphSwitch, steps: int = 8) -> dict[str, Tensor]:
    """Two turns of the spaces, and a second half that sees images as they will be decoded."""
    stages.graphs = switch
    return stages.synthesis(steps, coding=Coding("webp", 20), pool=2).to_tensors()


Made = dict[str, Tensor]
Making = Callable[[Stages, GraphSwitch], Made]


def both(make: Making, stages: Stages, room: int | None = None, limit: int = 0) -> dict[str, Any]:
    """How what is made with graphs differs from what is made without, and what was said."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("wdistill")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    PretendedRecorder.room = room
    within = "synthesis/gradient.py" if limit else ""
    switch = GraphSwitch(True)
    with pretended(limit, within):
        plain = make(stages, GraphSwitch())
    with pretended(limit, within) as seen:
        graphed = make(stages, switch)
    with pretended(limit, within) as again:
        if not switch.on:
            make(stages, switch)
    logger.removeHandler(handler)
    return {
        "apart": {name: _apart(plain[name], graphed[name]) for name in plain},
        "graphs": seen.kernels["graph"],
        "again": again.kernels["graph"],
        "said": said,
        "losses": graphed["losses"].tolist() if "losses" in graphed else [],
        "memory": seen.memory.total(),
        "tracked": [int(v) for name, v in graphed.items() if name.endswith("batches_tracked")],
    }


def _apart(first: Tensor, second: Tensor) -> float:
    assert first.dtype == second.dtype
    return float((first.double() - second.double()).abs().max())


def started(make: Callable[[int], object], few: int, more: int) -> float:
    """Operations that the host starts in a step."""
    counts = []
    for steps in (few, more):
        with pretended() as seen:
            make(steps)
        counts.append(seen.kernels.total())
    return (counts[1] - counts[0]) / (more - few)


def counted(stages: Stages) -> dict[str, list[float]]:
    """Operations that the host starts in a step of each stage, without graphs and with."""
    found: dict[str, list[float]] = {"synthesis": [], "student": []}
    for on in (False, True):
        stages.graphs = GraphSwitch(on)
        for name, values in found.items():
            values.append(started(getattr(stages, name), 3, 5))
    return found


def found(stages: Stages) -> dict[str, Any]:
    results = {name: both(student.train, stages) for name, student in STUDENTS.items()}
    results["synthesis"] = both(synthesis, stages)
    results["synthesis, little memory"] = both(synthesis, stages, limit=400_000)
    results["synthesis, no room"] = both(synthesis, stages, room=100)
    results["student, no room"] = both(STUDENTS["BatchNorm"].train, stages, room=20)
    results["student, refused"] = both(Student("convnet-w64", Sending).train, stages)
    results["dropout, refused"] = both(Student("convnet-w64", _sending_last).train, stages)
    PretendedRecorder.room = None
    return results


def main(size: str = "16", images: str = "8", network: str = "resnet10-w16") -> None:
    """With a size, only what is counted."""
    install()
    graphs.RECORDERS[NAME] = PretendedRecorder
    os.environ["ACCELERATE_TORCH_DEVICE"] = f"{NAME}:0"
    with pretended():
        stages = Stages(int(size), int(images), network, Accelerator())
    results = {} if len(sys.argv) > 1 else found(stages)
    print(json.dumps({**results, "started": counted(stages)}))
    sys.stdout.flush()
    os._exit(0)  # PyTorch ends badly with tensors of a backend in Python


if __name__ == "__main__":
    main(*sys.argv[1:])
