"""Initial pixels and targets of a class, from its transport result."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wdistill.config import Init
from wdistill.core.seeds import stream
from wdistill.data.pixels import PixelStore, to_float
from wdistill.synthesis.optimise import ClassTarget
from wdistill.synthesis.spaces import FeatureSpace, SpaceTarget, plan_means, space_targets
from wdistill.synthesis.spectrum import Spectrum
from wdistill.transport.plan import ClassTransport, Plan

SPACE_SAMPLE = 300  # real images per class and space of the pool; enough for its means
STATE_SAMPLE = 100  # [own] likewise, of each state of a trained ConvNet
LEAST_VARIANCE = 1e-12  # of a class of identical images


def teacher_target(transport: ClassTransport) -> SpaceTarget:
    """The target in the teacher's space: the barycenter and the moments of the class."""
    return SpaceTarget(
        atoms=transport.atoms.positions,
        variance=max(transport.spread, LEAST_VARIANCE),
        means=transport.means,
        variances=transport.variances,
    )


def sampled_plan(transport: ClassTransport, label: int, seed: int) -> Plan:
    """The sample of the class's plan that the spaces of the pool use."""
    return transport.plan.sample(SPACE_SAMPLE, stream(seed, "space-rows", label))


def class_target(
    store: PixelStore,
    pool: Sequence[FeatureSpace],
    transport: ClassTransport,
    label: int,
    seed: int,
) -> ClassTarget:
    """The targets of a class in the teacher's space and, from samples of its real images, in the
    spaces of the pool.
    """
    targets = (teacher_target(transport), *_pool_targets(store, pool, transport, label, seed))
    return ClassTarget(label, transport.atoms.weights, targets, transport.grey)


def _pool_targets(
    store: PixelStore,
    pool: Sequence[FeatureSpace],
    transport: ClassTransport,
    label: int,
    seed: int,
) -> list[SpaceTarget]:
    """One sample for all spaces, or, where each has its operation, one for each: their errors are
    then independent, and the many spaces need fewer images.
    """
    if any(space.operation is None for space in pool):
        return space_targets(pool, store, sampled_plan(transport, label, seed))
    targets = []
    for index, space in enumerate(pool):
        generator = stream(seed, "space-rows", label, index)
        plan = transport.plan.sample(STATE_SAMPLE, generator)
        targets += space_targets([space], store, plan)
    return targets


def class_start(
    store: PixelStore,
    spectrum: Spectrum,
    init: Init,
    transport: ClassTransport,
    label: int,
    seed: int,
) -> Tensor:
    """The initial pixels of a class, (n, 3, R, R) float in [0, 1].

    Noise has the spectrum of real images; in the official code it is white with one deviation.
    """
    if init == "real":
        return to_float(store.get(transport.atoms.nearest), torch.device("cpu"))
    if init == "mean":
        return plan_means(store, transport.plan)
    size, ipc = store.preprocessing.resolution, len(transport.atoms.weights)
    noise = torch.randn(ipc, 3, size, size, generator=stream(seed, "noise", label))
    return spectrum.pixels(noise).clamp(0, 1)
