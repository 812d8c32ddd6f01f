"""What the images of a class aim at and start from, out of its unit of the transport stage."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wdistill.config import SynthesisConfig
from wdistill.core.seeds import stream
from wdistill.core.units import Tensors
from wdistill.data.pixels import PixelStore, to_float
from wdistill.synthesis.optimise import ClassTarget
from wdistill.synthesis.spaces import FeatureSpace, SpaceTarget, plan_means, space_target
from wdistill.synthesis.spectrum import Spectrum
from wdistill.transport.barycenter import Barycenter
from wdistill.transport.plan import Plan
from wdistill.transport.survey import ClassSurvey

SPACE_SAMPLE = 300  # real images per class and space of the pool; its means need no more


def class_tensors(
    label: int, survey: ClassSurvey, found: Barycenter, rows: Tensor, shares: Tensor
) -> Tensors:
    """What the stages after transport need of a class. rows: (N_c,) of the training split;
    shares: what each counts.
    """
    centre = shares @ survey.features
    spread = shares @ (survey.features - centre).square().sum(1)
    return {
        f"{label}.atoms": found.atoms,
        f"{label}.weights": found.weights,
        f"{label}.nearest": rows[found.nearest],
        f"{label}.plan.rows": rows[found.rows],
        f"{label}.plan.owner": found.owner,
        f"{label}.plan.mass": found.mass,
        f"{label}.spread": spread,
        f"{label}.channels": torch.tensor([len(layer) for layer in survey.means]),
        f"{label}.means": torch.cat([torch.empty(0), *survey.means]),
        f"{label}.variances": torch.cat([torch.empty(0), *survey.variances]),
        f"{label}.grey": torch.tensor(survey.grey),
        f"{label}.w2": torch.tensor([found.w2, found.w2_random], dtype=torch.float64),
    }


def class_plan(tensors: Tensors, label: int) -> Plan:
    """The transport plan of a class."""
    rows, owner, mass = (tensors[f"{label}.plan.{name}"] for name in ("rows", "owner", "mass"))
    return Plan(rows, owner, mass, len(tensors[f"{label}.weights"]))


def teacher_target(tensors: Tensors, label: int) -> SpaceTarget:
    """The barycenter and the class's moments, of the teacher's own survey."""
    channels = tensors[f"{label}.channels"].tolist()
    return SpaceTarget(
        atoms=tensors[f"{label}.atoms"],
        variance=max(float(tensors[f"{label}.spread"]), 1e-12),
        means=tensors[f"{label}.means"].split(channels) if channels else (),
        variances=tensors[f"{label}.variances"].split(channels) if channels else (),
    )


def sampled(tensors: Tensors, label: int, seed: int) -> Plan:
    """Of the plan, what the spaces of the pool look at."""
    return class_plan(tensors, label).sample(SPACE_SAMPLE, stream(seed, "space-rows", label))


def class_target(
    store: PixelStore, pool: Sequence[FeatureSpace], tensors: Tensors, label: int, seed: int
) -> ClassTarget:
    """What a class aims at in the teacher's space, and by a sample of its images in the pool's."""
    part = sampled(tensors, label, seed)
    aims = tuple(space_target(space.network, store, part) for space in pool)
    weights, grey = tensors[f"{label}.weights"], bool(tensors[f"{label}.grey"])
    return ClassTarget(label, weights, (teacher_target(tensors, label), *aims), grey)


def class_start(
    store: PixelStore,
    spectrum: Spectrum,
    config: SynthesisConfig,
    tensors: Tensors,
    label: int,
    seed: int,
) -> Tensor:
    """(n, 3, R, R) float pixels in [0, 1] from which a class's images start.

    Noise has the spectrum of real images; the official code's has one deviation for all pixels.
    """
    if config.init == "real":
        return to_float(store.get(tensors[f"{label}.nearest"]), torch.device("cpu"))
    if config.init == "mean":
        return plan_means(store, class_plan(tensors, label))
    size, ipc = store.preprocessing.resolution, len(tensors[f"{label}.weights"])
    noise = torch.randn(ipc, 3, size, size, generator=stream(seed, "noise", label))
    return spectrum.pixels(noise).clamp(0, 1)


def rows_seen(
    config: SynthesisConfig, pooled: bool, tensors: Tensors, label: int, seed: int
) -> Tensor:
    """The real images that :func:`class_start` and :func:`class_target` look at."""
    rows = [torch.empty(0, dtype=torch.int64)]
    if config.init == "real":
        rows.append(tensors[f"{label}.nearest"])
    if config.init == "mean":
        rows.append(class_plan(tensors, label).rows)
    if pooled:
        rows.append(sampled(tensors, label, seed).rows)
    distinct: Tensor = torch.cat(rows).unique()
    return distinct
