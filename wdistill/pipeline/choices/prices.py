"""What the files of images and of label views take, and what fits into a budget of bytes."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wdistill.artifact.distilled_set import DistilledSet, write_data
from wdistill.artifact.parquet import Pictures
from wdistill.core.text import human_bytes
from wdistill.data.content.coding import Coding, decode_file, is_grey
from wdistill.errors import OptionError
from wdistill.evaluation.sets.baselines import random_rows
from wdistill.labels.codec import encode
from wdistill.labels.rounding import rounded
from wdistill.labels.views import LabelViews, ViewRecipe, label_views
from wdistill.pipeline.choices.givers import Giver
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.teacher import Teacher
from wdistill.transport.allocation import even_share

GROWTH = 1.2  # [own] size of a distilled image's file / a real one's: 1.12 to 1.17 on CIFAR-10
PROBE = 8  # images per class whose files are measured
LABEL_BYTES = 30  # [own] of an image in parquet, beside its file


@dataclass(frozen=True)
class Prices:
    """Bytes: of a set without images, of a file of views without any, of an image and of a view of
    an image beyond that.
    """

    fixed: float
    fixed_views: float
    image: float
    view: float

    def images(self, budget: int, views: int) -> int:
        """Images of all classes that fit, with their views."""
        room = budget - self.fixed - (self.fixed_views if views else 0)
        return max(0, int(room / (GROWTH * self.image + views * self.view)))

    def of(self, images: int, views: int) -> int:
        """Bytes of a set."""
        each = GROWTH * self.image + views * self.view
        return math.ceil(self.fixed + (self.fixed_views if views else 0) + images * each)


def prices_of(run: Run, teacher: Teacher, giver: Giver, quality: int | None) -> Prices:
    """What the files of real images take, from two sets of them that are written."""
    coding, classes = Coding("webp", quality), len(run.data.class_names)
    numbers, sizes, view_sizes = [], [], []
    for ipc in (1, PROBE):
        pixels, labels = real_images(run, teacher, ipc)
        numbers.append(len(labels))
        sizes.append(_parquet(run, pixels, labels, coding))
        views = [encode(views_of(run, giver, pixels, n), classes) for n in (1, 5)]
        view_sizes.append([len(file) for file in views])
    image = (sizes[1] - sizes[0]) / max(1, numbers[1] - numbers[0])
    view = (view_sizes[1][1] - view_sizes[1][0]) / (4 * numbers[1])
    fixed_views = max(0.0, view_sizes[1][0] - numbers[1] * view)
    return Prices(sizes[0] - numbers[0] * image, fixed_views, image, view)


def present(run: Run, teacher: Teacher) -> NDArray[np.int64]:
    """Real images of each class."""
    counts = torch.bincount(teacher.train.labels, minlength=len(run.data.class_names))
    return counts.numpy()  # type: ignore[no-any-return]


def real_images(run: Run, teacher: Teacher, ipc: int) -> tuple[Tensor, Tensor]:
    """Random real images (n, 3, R, R) and their classes: ``ipc`` of each, or all that it has; where
    the run shares images out, others stand for those that a class lacks.
    """
    counts = present(run, teacher)
    most = ipc
    if run.config.barycenter.allocation == "w2":
        most = even_share(counts.tolist(), ipc * len(counts))
    labels = teacher.train.labels
    rows = random_rows(labels, np.minimum(counts, most).tolist(), run.config.seed, 0)
    return teacher.train.get(rows), labels[rows]


def views_of(run: Run, giver: Giver, pixels: Tensor, count: int) -> LabelViews:
    config = replace(run.config.label_views, count=count)
    temperature = run.config.evaluate.label_temperature
    views = label_views(giver.network, pixels, ViewRecipe(config, temperature, run.config.seed))
    return rounded(views, config.levels, len(run.data.class_names), temperature)


def _parquet(run: Run, pixels: Tensor, labels: Tensor, coding: Coding) -> int:
    """Bytes of the parquet file of images with hard labels."""
    images, names = pixels.permute(0, 2, 3, 1).contiguous().numpy(), run.data.class_names
    grey, count = is_grey(images), torch.bincount(labels, minlength=len(names))[labels]
    files = Pictures(coding.files(images, grey), run.work)
    return written(
        DistilledSet(
            images=np.stack([decode_file(files[row], grey) for row in range(len(images))]),
            labels=labels.numpy(),
            weights=(1 / count.float()).numpy(),
            soft_labels=np.eye(len(names), dtype=np.float32)[labels.numpy()],
            class_names=names,
            grey=grey,
            files=files,
        ),
        run.work,
    )


def written(distilled: DistilledSet, folder: Path) -> int:
    """Bytes of the parquet files of a set, which is written to a passing folder in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as passing:
        return write_data(Path(passing), distilled).parquet


def finest_coding(size: Callable[[int], int], budget: int) -> Coding:
    """The best quality whose ``size`` is within ``budget``, by bisection.

    Raises:
        OptionError: There is none.
    """
    low, high = 0, 101
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) <= budget else (low, middle)
    if low == 0:
        raise OptionError(
            f"`budget` leaves {human_bytes(budget)} for the images, but they take "
            f"{human_bytes(size(1))} at the lowest quality; give more"
        )
    return Coding("webp", low)
