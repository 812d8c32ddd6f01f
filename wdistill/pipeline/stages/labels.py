"""The teacher's labels of the distilled images, and their distance to real images."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from wdistill.core.files import on_disk
from wdistill.core.seeds import stream
from wdistill.core.settings import stable_hash
from wdistill.core.text import human_bytes
from wdistill.core.units import Advance, Stage, StageOutput, Tensors, Unit
from wdistill.data.content.coding import Coding
from wdistill.evaluation.metrics import nearest_real
from wdistill.labels.codec import fit
from wdistill.labels.soft import soft_labels
from wdistill.labels.views import LabelViews, ViewRecipe, join, label_views, rounded
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.teacher import Teacher
from wdistill.synthesis.optimise import DistilledUnit

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledUnit:
    """The teacher's labels of the G * n images of a unit.

    Attributes:
        soft_labels: (G * n, C) float32, rows sum to 1.
        nearest: (G, n) float32, the distance of each image to the nearest real one of its class,
            see :func:`nearest_real`.
    """

    soft_labels: Tensor
    nearest: Tensor

    def to_tensors(self) -> Tensors:
        return dict(vars(self))

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> LabelledUnit:
        return cls(**tensors)


def relabel_stage(
    run: Run, teacher: Teacher, images: StageOutput[DistilledUnit], coding: Coding
) -> StageOutput[LabelledUnit]:
    """Label each unit's images as a reader gets them; measure how close they are to real ones."""
    key = stable_hash([images.key, vars(run.config.relabel), *coding.key, "relabel"])

    def compute(unit: Unit, advance: Advance) -> LabelledUnit:
        labels, nearest = [], []
        shown = coding.seen(images.units[unit.index].pixels)
        for label, pixels in zip(unit.classes, shown, strict=True):
            generator = stream(run.config.seed, "relabel", label)
            labels.append(soft_labels(teacher.network, pixels, run.config.relabel, generator))
            real = teacher.images.batches(teacher.class_rows(label), 512)
            nearest.append(nearest_real(pixels, real, teacher.network.device)[1])
            advance(1)
        return LabelledUnit(torch.cat(labels), torch.stack(nearest))

    return run.compute(Stage("relabel", key, LabelledUnit), compute)


def label_views_stage(
    run: Run, teacher: Teacher, images: StageOutput[DistilledUnit], coding: Coding
) -> tuple[str, LabelViews | None]:
    """The key of the label views and the views; None if they are turned off."""
    config, classes = run.config.label_views, len(run.data.class_names)
    if config.count == 0:
        return "", None
    temperature = run.config.evaluate.temperature
    settings = {name: value for name, value in vars(config).items() if name != "budget"}
    key = stable_hash([images.key, settings, temperature, *coding.key, "views"])
    recipe = ViewRecipe(config, temperature, run.config.seed)
    ipc, side = run.config.barycenter.ipc, teacher.train.preprocessing.resolution

    @cache  # computed only if a unit is missing
    def pixels() -> Tensor:
        parts = (coding.seen(unit.pixels).flatten(0, 1).numpy() for unit in images.units)
        return torch.from_numpy(on_disk(parts, (ipc * classes, 3, side, side), np.uint8, run.work))

    def compute(unit: Unit, advance: Advance) -> LabelViews:
        rows = torch.arange(unit.classes[0] * ipc, (unit.classes[-1] + 1) * ipc)
        ticks = len(unit.classes)
        return label_views(teacher.network, pixels(), recipe, rows, lambda: advance(ticks))

    output = run.compute(Stage("views", key, LabelViews, config.count, "view"), compute)
    views = rounded(join(list(output.units)), config.levels)
    selection, size = fit(views, classes, config.budget)
    logger.info(
        f"label views: {selection.count} of each image, {selection.logits.shape[1]} logits a view: "
        f"{human_bytes(size)}"
    )
    return stable_hash([key, selection.count]), selection
