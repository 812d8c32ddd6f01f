"""What steps of each stage ask of device and host, counted on the pretended device.

Numbers of operations do not depend on the size of a batch, bytes and floating-point operations are
linear in it. So few images of the right size are enough, see :func:`of_images`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import flop_registry

from helpers.pretend import Pretended, pretended
from helpers.stages import Stages
from wdistill.config import LabelViewsConfig, RelabelConfig
from wdistill.core.seeds import stream
from wdistill.data.pixels import to_float
from wdistill.evaluation.metrics import nearest_real
from wdistill.labels.soft import soft_labels
from wdistill.labels.views import ViewRecipe, label_views
from wdistill.synthesis.spaces import FeatureSpace, Terms, space_targets
from wdistill.transport.plan import Plan


@dataclass(frozen=True)
class Count:
    """Attributes:
    kernels: Operations of the device.
    bytes: That they read and write.
    flops: Floating-point operations of its convolutions and matrix products; those in bf16, which
        take half of the time on tensor cores, count half.
    dispatched: Operations that the host starts, on the device or on itself, views of memory too.
    waits: Times that the host waits for the device, without looks at the loss of synthesis.
    """

    kernels: float = 0
    bytes: float = 0
    flops: float = 0
    dispatched: float = 0
    waits: float = 0

    def __add__(self, other: Count) -> Count:
        return Count(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, factor: float) -> Count:
        return Count(*(factor * value for value in astuple(self)))

    def __sub__(self, other: Count) -> Count:
        return self + other * -1


class _Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.flops, self.dispatched = 0.0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self.dispatched += 1
        packet = func.overloadpacket
        if packet in flop_registry and any(
            isinstance(x, Pretended) for x in tree_flatten((args, kwargs))[0]
        ):
            parts = [x for x in tree_flatten(result)[0] if isinstance(x, torch.Tensor)]
            weight = 0.5 if parts[0].dtype == torch.bfloat16 else 1.0
            self.flops += weight * flop_registry[packet](*args, **kwargs, out_val=result)
        return result


def counted(work: Callable[[], object]) -> Count:
    """What ``work`` asks for; :func:`helpers.pretend.install` comes first."""
    with pretended() as seen, _Operations() as operations:
        work()
    kernels = sum(seen.kernels.values())
    return Count(
        kernels, seen.bytes, operations.flops, operations.dispatched, seen.waits_in("_look")
    )


def per_step(stage: Callable[[int], object], few: int = 2, more: int = 3) -> Count:
    """What a step asks for, without what happens once: ``stage`` is called with its steps."""
    first, second = counted(partial(stage, few)), counted(partial(stage, more))
    return (second - first) * (1 / (more - few))


def of_images(small: tuple[int, Count], large: tuple[int, Count], images: int) -> Count:
    """What a step of ``images`` asks for, from steps of two smaller numbers of images."""
    (few, first), (many, second) = small, large
    linear = first + (second - first) * ((images - few) / (many - few))
    return replace(second, bytes=linear.bytes, flops=linear.flops)


class CountedStages(Stages):
    """Further parts of a run. Each does ``steps`` times what its first line says."""

    def forward(self, steps: int) -> None:
        """A batch goes through the network, as in a test."""
        with torch.no_grad():
            for _ in range(steps):
                pixels = to_float(self.real[: self.images], self.device)
                self.network(pixels, moments=False).logits.argmax(1)

    def target(self, steps: int) -> None:
        """A batch of real images of a class goes through a network of the pool."""
        store = self.store(self.images)
        space = FeatureSpace("", self.opened("convnet-w64"), Terms(1.0), "")
        owner = torch.arange(self.images) % 2
        plan = Plan(torch.arange(self.images), owner, torch.ones(self.images), 2)
        for _ in range(steps):
            space_targets([space], store, plan)

    def nearest(self, steps: int) -> None:
        """Distilled images of a class meet a batch of real ones."""
        for _ in range(steps):
            nearest_real(self.real[:2], [self.real[: self.images]], self.device)

    def soft(self, steps: int) -> None:
        """A view of the images of a class is labelled."""
        config = RelabelConfig(views=steps)
        soft_labels(self.network, self.real[: self.images], config, stream(0, "soft"))

    def views(self, steps: int) -> None:
        """A view of the images of a unit is labelled, to be stored."""
        recipe = ViewRecipe(LabelViewsConfig(steps))
        label_views(self.network, self.real[: self.images], recipe)
