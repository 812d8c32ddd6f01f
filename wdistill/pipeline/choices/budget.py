"""How to spend a budget of bytes: on more images, on finer ones, or on more views of labels."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wdistill.artifact.distilled_set import Candidate, DistilledSet, write_data
from wdistill.artifact.manifest import BudgetTrial
from wdistill.artifact.parquet import Pictures
from wdistill.config import MOST_IPC, Labels, RunConfig, StudentConfig
from wdistill.core.settings import stable_hash
from wdistill.core.text import human_bytes
from wdistill.data.content.coding import Coding, decode_file, file_sizes, is_grey
from wdistill.errors import OptionError
from wdistill.evaluation.sets.baselines import random_rows
from wdistill.labels.codec import encode
from wdistill.labels.views import LabelViews, ViewRecipe, label_views, rounded
from wdistill.pipeline.choices.givers import Giver, open_givers
from wdistill.pipeline.choices.short import ShortStudents
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.teacher import Teacher

logger = logging.getLogger(__name__)

QUALITIES = (60, 20)  # of WebP
VIEWS = (10, 40, 100)  # of each image
STEPS = (150, 300, 600)  # of short students; from one to the next, the better half goes on
GROWTH = 1.2  # [own] size of a distilled image's file / a real one's: 1.12 to 1.17 on CIFAR-10
PROBE = 8  # images per class whose files are measured
LABEL_BYTES = 30  # [own] of an image in parquet, beside its file
FOR_VIEWS = 0.02  # [own] least share of the budget that is left for views


@dataclass(frozen=True)
class Spending:
    """Images per class, their quality as WebP (None without loss), and views of each."""

    ipc: int
    quality: int | None
    views: int

    @property
    def coding(self) -> Coding:
        return Coding("webp", self.quality)


@dataclass(frozen=True)
class Prices:
    """Bytes: of a set without images, of a file of views without any, of an image and of a view of
    an image beyond that.
    """

    fixed: float
    fixed_views: float
    image: float
    view: float

    def ipc(self, budget: int, views: int, classes: int) -> int:
        """Images per class that fit, with their views."""
        room = budget - self.fixed - (self.fixed_views if views else 0)
        return int(room / (classes * (GROWTH * self.image + views * self.view)))

    def of(self, ipc: int, views: int, classes: int) -> int:
        """Bytes of a set."""
        each = GROWTH * self.image + views * self.view
        return math.ceil(self.fixed + (self.fixed_views if views else 0) + ipc * classes * each)


@dataclass(frozen=True)
class Spent:
    """tried: the spendings that were compared, with the accuracies of short students."""

    config: RunConfig
    tried: tuple[BudgetTrial, ...] = ()


def spend(run: Run, teacher: Teacher) -> Spent:
    """The settings of the run with as many images, coded and labelled, as its budget is best spent
    on; the settings as they are where there is no budget.

    Spendings are compared by short students of random real images, which are coded and labelled as
    the distilled ones will be, on held-out training images: all of them at first, then the better
    half with twice the steps (successive halving, Jamieson and Talwalkar 2016).

    Raises:
        OptionError: Not even one image per class fits.
    """
    config, budget = run.config, run.config.budget
    if budget is None:
        return Spent(config)
    giver = budget_giver(run, teacher)
    every = _spendings(run, teacher, giver, budget)
    tried: list[BudgetTrial] = []
    for steps in STEPS:
        scores = [_score(run, teacher, each, steps) for each in every]
        tried += [
            BudgetTrial(ipc=s.ipc, quality=s.quality, views=s.views, steps=steps, top1=tuple(top1))
            for s, top1 in zip(every, scores, strict=True)
        ]
        order = np.argsort([-np.mean(top1) for top1 in scores], kind="stable")
        every = [every[index] for index in order[: math.ceil(len(every) / 2)]]
        if len(every) == 1:
            break
    chosen = every[0]
    if run.accelerator.is_main_process:
        logger.info(spending_table(tried))
        logger.info(f"budget: {human_bytes(budget)} for {_told(chosen)}")
    return Spent(applied(config, chosen), tuple(tried))


def applied(config: RunConfig, chosen: Spending) -> RunConfig:
    """``config`` with what was chosen in place of what was left open."""
    quality = "lossless" if chosen.quality is None else str(chosen.quality)
    return replace(
        config,
        barycenter=replace(config.barycenter, ipc=chosen.ipc),
        coding=replace(config.coding, image_format="webp", image_quality=quality),
        label_views=replace(config.label_views, count=chosen.views),
    )


def spending_table(tried: Sequence[BudgetTrial]) -> str:
    """What was compared: mean accuracies of short students after more and more steps."""
    rows: dict[tuple[str, int, int | None, int], dict[int, float]] = {}
    for trial in tried:
        row = rows.setdefault((trial.images, trial.ipc, trial.quality, trial.views), {})
        row[trial.steps] = trial.mean
    steps = sorted({trial.steps for trial in tried})
    lines = ["images     IPC   quality   views" + "".join(f"{f'{n} steps':>12}" for n in steps)]
    for (images, ipc, quality, views), scores in rows.items():
        cells = [f"{scores[n]:>12.1%}" if n in scores else " " * 12 for n in steps]
        shown = "lossless" if quality is None else f"{quality}"
        lines.append(f"{images:9}  {ipc:3}  {shown:>8}  {views:>6}" + "".join(cells))
    return "\n".join(line.rstrip() for line in lines)


def rough(config: RunConfig, sample: Tensor, classes: int) -> RunConfig:
    """Settings without a budget, of about the cost of one that is spent on middling quality and ten
    views, whose logits take half a byte each. No network is asked.

    sample: (n, 3, R, R) uint8, some real images.
    """
    if config.budget is None:
        return config
    image = float(np.mean(file_sizes(sample, Coding("webp", 20), False)))
    each = classes * (GROWTH * image + LABEL_BYTES + 10 * (classes / 2))
    ipc = max(1, min(MOST_IPC, int(config.budget / each)))
    return replace(applied(config, Spending(ipc, 20, 10)), budget=None)


def _told(spending: Spending) -> str:
    images = "image" if spending.ipc == 1 else "images"
    return f"{spending.ipc} {images} per class, {spending.coding}, {spending.views} views of each"


def _spendings(run: Run, teacher: Teacher, giver: Giver, budget: int) -> list[Spending]:
    """All that are tried: as many images as fit, for each quality and number of views."""
    config, classes = run.config, len(run.data.class_names)
    given = Coding.of(config.coding) if config.coding.image_format == "webp" else None
    qualities: Sequence[int | None] = QUALITIES if given is None else (given.quality,)
    counts = VIEWS if config.label_views.count is None else (config.label_views.count,)
    if config.relabel.giver == "none":
        counts = (0,)
    most = min(MOST_IPC, int(torch.bincount(teacher.train.labels, minlength=classes).min()))
    found: dict[Spending, None] = {}
    prices = {quality: prices_of(run, teacher, giver, quality) for quality in qualities}
    for quality, price in prices.items():
        for views in counts:
            ipc = min(most, price.ipc(budget, views, classes))
            if ipc >= 1:
                found[Spending(ipc, quality, views)] = None
    if not found:
        needed = min(price.of(1, min(counts), classes) for price in prices.values())
        raise OptionError(
            f"`budget` is {human_bytes(budget)}, but one image per class takes "
            f"{human_bytes(needed)} with its labels; give as much or more"
        )
    return list(found)


def prices_of(run: Run, teacher: Teacher, giver: Giver, quality: int | None) -> Prices:
    """What the files of real images take, from two sets of them that are written."""
    coding, classes = Coding("webp", quality), len(run.data.class_names)
    most = int(torch.bincount(teacher.train.labels, minlength=classes).min())
    counts = (1, max(2, min(PROBE, most)))
    sizes, view_sizes = [], []
    for ipc in counts:
        pixels, labels = _real(run, teacher, ipc)
        sizes.append(_parquet(run, pixels, labels, coding))
        views = [encode(_views(run, giver, pixels, n), classes) for n in (1, 5)]
        view_sizes.append([len(file) for file in views])
    images = classes * (counts[1] - counts[0])
    image = (sizes[1] - sizes[0]) / images
    view = (view_sizes[1][1] - view_sizes[1][0]) / (4 * classes * counts[1])
    fixed_views = max(0.0, view_sizes[1][0] - classes * counts[1] * view)
    return Prices(sizes[0] - classes * image, fixed_views, image, view)


def _real(run: Run, teacher: Teacher, ipc: int) -> tuple[Tensor, Tensor]:
    """Random real images (n, 3, R, R) and their classes."""
    labels, classes = teacher.train.labels, len(run.data.class_names)
    rows = random_rows(labels, classes, ipc, run.config.seed, 0)
    return teacher.train.get(rows), labels[rows]


def _views(run: Run, giver: Giver, pixels: Tensor, count: int) -> LabelViews:
    config = replace(run.config.label_views, count=count)
    temperature = run.config.evaluate.temperature
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


def budget_giver(run: Run, teacher: Teacher) -> Giver:
    """Who labels the images of short students: the committee where the run has one."""
    return open_givers(run, teacher).get(
        "committee", Giver("teacher", teacher.network, teacher.key)
    )


def _score(run: Run, teacher: Teacher, each: Spending, steps: int) -> list[float]:
    """Accuracies of short students of random real images, one of each kind."""
    own = replace(run, config=applied(run.config, each))
    pixels, labels = _real(own, teacher, each.ipc)
    images = Candidate(pixels, labels, torch.ones(len(labels)), None)
    config = StudentConfig(steps=steps, seeds=1)
    return judged(own, teacher, images, config, run.data.source.fingerprint)


def judged(
    run: Run, teacher: Teacher, images: Candidate, students: StudentConfig, key: str
) -> list[float]:
    """Accuracies of short students of images that are coded and labelled as the run's settings say.

    Args:
        images: As they are before they are coded, with hard labels.
        students: Steps and seeds.
        key: A hash of what the images depend on, beside the coding.
    """
    giver, config = budget_giver(run, teacher), run.config
    coding, count = Coding.of(config.coding) or Coding("webp"), config.label_views.count or 0
    pixels = coding.seen(images.pixels)
    views = _views(run, giver, pixels, count) if count else None
    labelled: Labels = "views" if views else "hard"
    recipe = replace(students, labels=(labelled,), temperature=config.evaluate.temperature)
    inputs = stable_hash([key, giver.key, config.barycenter.ipc, count, *coding.key])
    candidate = replace(images, pixels=pixels, views=views)
    scores = ShortStudents(run, teacher, recipe, "budget").scores(candidate, [inputs])
    return [float(top1) for top1 in scores.ravel()]


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
