"""How many images each class gets."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from wdistill.core.seeds import stream
from wdistill.core.settings import stable_hash
from wdistill.core.text import clean
from wdistill.core.units import Advance, Stage, Tensors, Unit
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.teacher import Teacher
from wdistill.transport.allocation import quantisation_errors, shared_out
from wdistill.transport.survey import survey_class

logger = logging.getLogger(__name__)
BATCH = 128
SAMPLE = 1000  # [own] real images that stand for all of a class
DEEPEST = 4  # times the mean number of images per class, up to which atoms are tried
SHOWN = 20  # classes


@dataclass(frozen=True)
class UnitErrors:
    """For each class of a unit, by its label, J(1), J(2), ... in float64."""

    classes: Mapping[int, Tensor]

    def to_tensors(self) -> Tensors:
        return {str(label): errors for label, errors in self.classes.items()}

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> UnitErrors:
        return cls({int(label): errors for label, errors in tensors.items()})


def share_out_images(run: Run, teacher: Teacher) -> Run:
    """The run with its images per class: equal numbers, or shared out by the gain in W2, see
    :mod:`wdistill.transport.allocation`. Groups of the real images are taken together.

    Of equal numbers that a budget has room for, a class with fewer real images has all of them.
    """
    if run.config.barycenter.allocation == "uniform":
        return _as_far_as_present(run, teacher)
    errors = _errors(run, teacher)
    counts = shared_out([each.numpy() for each in errors], run.images)
    if run.accelerator.is_main_process:
        for line in _told(run.data.class_names, counts, teacher.train.labels):
            logger.info(line)
    return replace(run, shares=counts)


def _as_far_as_present(run: Run, teacher: Teacher) -> Run:
    names, ipc = run.data.class_names, run.ipc
    present = torch.bincount(teacher.train.labels, minlength=len(names)).tolist()
    rare = [label for label, count in enumerate(present) if count < ipc]
    if run.budget is None or not rare:
        return run
    if run.accelerator.is_main_process:
        some = [f"{clean(names[label])} {present[label]}" for label in rare[:SHOWN]]
        more = ", ..." if len(rare) > SHOWN else ""
        logger.info(
            f"images per class: {ipc}, where there are as many real ones; all of {', '.join(some)}"
            f"{more}"
        )
    return replace(run, shares=tuple(min(ipc, count) for count in present))


def _errors(run: Run, teacher: Teacher) -> list[Tensor]:
    """J(1), J(2), ... of each class, as far as it could get images."""
    seed, classes, images = run.config.seed, len(run.data.class_names), teacher.images
    present = torch.bincount(teacher.train.labels, minlength=classes)
    most = present.clamp(max=run.images - classes + 1).tolist()

    def compute(unit: Unit, advance: Advance) -> UnitErrors:
        errors = {}
        for label in unit.classes:
            generator = stream(seed, "allocation", label)
            rows = teacher.class_rows(label)
            rows = rows[torch.randperm(len(rows), generator=generator)[:SAMPLE].sort().values]
            batches = images.batches(rows, BATCH)
            features = survey_class(teacher.network, batches, torch.ones(len(rows))).features
            found = quantisation_errors(features, most[label], DEEPEST * run.ipc, generator)
            errors[label] = torch.from_numpy(found)
            advance(1)
        return UnitErrors(errors)

    key = stable_hash([teacher.key, seed, run.images, most, "allocation"])
    units = run.compute(Stage("allocation", key, UnitErrors), compute).units
    found: dict[int, Tensor] = {}
    for unit in units:
        found |= unit.classes
    return [found[label] for label in range(classes)]


def _told(names: tuple[str, ...], counts: tuple[int, ...], labels: Tensor) -> list[str]:
    """The numbers in words, and the classes without more real images.

    labels: of all real images.
    """
    present = torch.bincount(labels, minlength=len(names)).tolist()
    order = np.argsort([-count for count in counts], kind="stable").tolist()
    each = [f"{clean(names[label])} {counts[label]}" for label in order]
    if len(each) > SHOWN:
        each = [*each[: SHOWN // 2], "...", *each[-SHOWN // 2 :]]
    lines = [f"images per class, by their gain in W2: {', '.join(each)}"]
    full = [clean(names[label]) for label in order if counts[label] == present[label]]
    if full:
        some = ", ".join(full[:SHOWN]) + (", ..." if len(full) > SHOWN else "")
        lines.append(f"images per class: {some}: no more real images; others get the rest")
    return lines
