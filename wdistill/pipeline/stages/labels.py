"""What the teacher says of the distilled images, and how near they are to real ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from wdistill.config import stable_hash
from wdistill.core.files import on_disk
from wdistill.core.seeds import stream
from wdistill.core.text import human_bytes
from wdistill.core.units import StoredUnits, Tensors, Unit, run_units
from wdistill.data.pixels import PixelStore
from wdistill.evaluation.metrics import nearest_real
from wdistill.labels.codec import fit
from wdistill.labels.soft import soft_labels
from wdistill.labels.views import LabelViews, join, label_views, rounded
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.teacher import Teacher

logger = logging.getLogger(__name__)


def class_rows(store: PixelStore, label: int) -> Tensor:
    return (store.labels == label).nonzero()[:, 0]


def relabel_stage(
    run: Run, teacher: Teacher, key: str, images: Sequence[Tensors]
) -> tuple[str, Sequence[Tensors]]:
    """Label each unit's images, and measure how close they are to real ones.

    Units hold ``soft_labels`` (G * n, C) and ``nearest`` (G, n), see :func:`nearest_real`.
    """
    key = stable_hash([key, vars(run.config.relabel), "relabel"])

    def compute(unit: Unit, advance: Callable[[int], object]) -> Tensors:
        labels, nearest = [], []
        for label, pixels in zip(unit.classes, images[unit.index]["pixels"], strict=True):
            generator = stream(run.config.seed, "relabel", label)
            labels.append(soft_labels(teacher.network, pixels, run.config.relabel, generator))
            real = teacher.train.batches(class_rows(teacher.train, label), 512)
            nearest.append(nearest_real(pixels, real, teacher.network.device)[1])
            advance(1)
        return {
            "soft_labels": torch.cat(labels),
            "nearest": torch.stack(nearest),
        }

    run_units("relabel", run.mine, run.work, key, compute, 1, "class", run.accelerator, run.quiet)
    return key, StoredUnits(run.work, "relabel", run.units, key)


def label_views_stage(
    run: Run, teacher: Teacher, key: str, images: Sequence[Tensors], temperature: float
) -> tuple[str, LabelViews | None]:
    """The key of the labels of single views, and the labels; None if none are wanted."""
    config, classes = run.config.label_views, len(run.data.class_names)
    if config.count == 0:
        return "", None
    made = {name: value for name, value in vars(config).items() if name != "budget"}
    units_key = stable_hash([key, made, temperature, "views"])
    side = teacher.train.preprocessing.resolution

    @cache  # not before a unit is missing
    def pixels() -> Tensor:
        shape = (run.config.barycenter.ipc * classes, 3, side, side)
        parts = (unit["pixels"].flatten(0, 1).numpy() for unit in images)
        return torch.from_numpy(on_disk(parts, shape, np.uint8, run.work))

    def compute(unit: Unit, advance: Callable[[int], object]) -> Tensors:
        ipc = run.config.barycenter.ipc
        rows = torch.arange(unit.classes[0] * ipc, (unit.classes[-1] + 1) * ipc)
        seed, ticks = run.config.seed, len(unit.classes)
        found = label_views(
            teacher.network, pixels(), config, seed, rows, temperature, lambda: advance(ticks)
        )
        return dict(vars(found))

    ticks = config.count
    run_units(
        "views", run.units, run.work, units_key, compute, ticks, "view", run.accelerator, run.quiet
    )
    found = StoredUnits(run.work, "views", run.units, units_key)
    every = rounded(join([LabelViews(**unit) for unit in found]), config.levels)
    kept, size = fit(every, classes, config.budget)
    logger.info(
        f"label views: {kept.count} of each image, {kept.logits.shape[1]} logits a view: "
        f"{human_bytes(size)}"
    )
    return stable_hash([units_key, kept.count]), kept
