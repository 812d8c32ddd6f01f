"""How to spend a budget of bytes: on more images, on finer ones, or on more views of labels."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from wdistill.artifact.candidate import Candidate
from wdistill.artifact.records import BudgetTrial
from wdistill.config import MOST_IPC, WARM, RunConfig
from wdistill.core.text import human_bytes
from wdistill.data.content.coding import Coding, file_sizes
from wdistill.errors import OptionError
from wdistill.pipeline.choices.givers import Giver
from wdistill.pipeline.choices.prices import (
    GROWTH,
    LABEL_BYTES,
    present,
    prices_of,
    real_images,
)
from wdistill.pipeline.choices.short import KINDS
from wdistill.pipeline.choices.trials import Shown, budget_giver, class_weights, shown
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.teacher import Teacher
from wdistill.transport.allocation import even_share

logger = logging.getLogger(__name__)

QUALITIES = (60, 20)  # of WebP
VIEWS = (10, 40, 100)  # of each image
STEPS = (150, 300, 600)  # of short students; from one to the next, the better half goes on
MOST_STEPS = 2000  # [own, for the time it takes] of a short student
FOR_VIEWS = 0.02  # [own] least share of the budget that is left for views


@dataclass(frozen=True)
class Spending:
    """Images per class, or all that a class has where those are fewer, their quality as WebP (None
    without loss), and views of each.
    """

    ipc: int
    quality: int | None
    views: int

    @property
    def coding(self) -> Coding:
        return Coding("webp", self.quality)


@dataclass(frozen=True)
class Spent:
    """config: with what the budget is spent on in its place; tried: the spendings that were
    compared, with the accuracies of short students.
    """

    config: RunConfig
    tried: tuple[BudgetTrial, ...] = ()


def spend(run: Run, teacher: Teacher) -> Spent:
    """The settings of the run with as many images, coded and labelled, as its budget is best spent
    on; the settings as they are where there is no budget.

    Spendings are compared by short students of random real images, which are coded and labelled as
    the distilled ones will be, on held-out training images: all of them at first, then the better
    half with twice the steps (successive halving, Jamieson and Talwalkar 2016). Where the settings
    name more steps for the run's own students than the last of these take, all rounds are longer:
    the longer students train, the more they make of many views of few images. At last labels of the
    best at a higher temperature are tried, where it is left open.

    Raises:
        OptionError: Not even one image per class fits.
    """
    config, budget = run.config, run.config.budget
    if budget is None:
        return Spent(config)
    giver = budget_giver(run, teacher)
    every = {each: _real(run, teacher, each) for each in _spendings(run, teacher, giver, budget)}
    tried: list[BudgetTrial] = []
    for steps in rounds(config):
        trials = {each: real.trial(steps, 1, "random") for each, real in every.items()}
        tried += trials.values()
        order = sorted(trials, key=lambda each: -trials[each].mean)
        every = {each: every[each] for each in order[: math.ceil(len(order) / 2)]}
        if len(every) == 1:
            break
    chosen, best = order[0], trials[order[0]]
    if chosen.views and config.evaluate.temperature is None:
        tried.append(_real(run.at(WARM), teacher, chosen).trial(best.steps, 1, "random"))
        best = max(best, tried[-1], key=lambda trial: trial.mean)
    if run.accelerator.is_main_process:
        logger.info(spending_table(tried))
        rare = int(present(run, teacher).min()) < chosen.ipc
        logger.info(f"budget: {human_bytes(budget)} for {_told(chosen, rare)}")
    return Spent(applied(run.at(best.temperature).config, chosen), tuple(tried))


def applied(config: RunConfig, chosen: Spending) -> RunConfig:
    """``config`` with what was chosen in place of the budget and of what was left open."""
    quality = "lossless" if chosen.quality is None else str(chosen.quality)
    return replace(
        config,
        budget=None,
        barycenter=replace(config.barycenter, ipc=chosen.ipc),
        coding=replace(config.coding, image_format="webp", image_quality=quality),
        label_views=replace(config.label_views, count=chosen.views),
    )


def spending_table(tried: Sequence[BudgetTrial]) -> str:
    """What was compared: mean accuracies of short students after more and more steps."""
    rows: dict[tuple[str, int, int | None, int, float], dict[int, float]] = {}
    for trial in tried:
        way = trial.images, trial.ipc, trial.quality, trial.views, trial.temperature
        rows.setdefault(way, {})[trial.steps] = trial.mean
    steps = sorted({trial.steps for trial in tried})
    lines = ["images     IPC   quality   views   T" + "".join(f"{f'{n} steps':>12}" for n in steps)]
    for (images, ipc, quality, views, temperature), scores in rows.items():
        cells = [f"{scores[n]:>12.1%}" if n in scores else " " * 12 for n in steps]
        shown = "lossless" if quality is None else f"{quality}"
        row = f"{images:9}  {ipc:3}  {shown:>8}  {views:>6}  {temperature:>2g}"
        lines.append(row + "".join(cells))
    return "\n".join(line.rstrip() for line in lines)


def rounds(config: RunConfig) -> tuple[int, ...]:
    """Steps of short students, round by round; at last as many as the run's own students take,
    where their number is given, within STEPS[-1] and MOST_STEPS.
    """
    longer = min(MOST_STEPS, config.evaluate.steps or 0) / STEPS[-1]
    return tuple(round(max(1.0, longer) * steps) for steps in STEPS)


def students_of_choice(config: RunConfig) -> tuple[int, int]:
    """How many short students spend a budget, and the steps that they take together: one of each
    kind on labels at another temperature, and two on chosen and on distilled images, at last.
    """
    if config.budget is None:
        return 0, 0
    qualities, counts = _choices(config)
    left, every = [len(qualities) * len(counts)], rounds(config)
    while left[-1] > 1 and len(left) < len(every):
        left.append(math.ceil(left[-1] / 2))
    last = 4 if config.synthesis.init == "real" and config.synthesis.iterations else 0
    last += config.evaluate.temperature is None and max(counts) > 0
    students = [len(KINDS) * count for count in (*left, last)]
    steps = (*every[: len(left)], every[-1])
    return sum(students), sum(map(math.prod, zip(students, steps, strict=True)))


def rough(config: RunConfig, sample: Tensor, counts: Sequence[int]) -> RunConfig:
    """Settings without a budget, of about the cost of one that is spent on middling quality and ten
    views, whose logits take half a byte each. No network is asked.

    Args:
        sample: (n, 3, R, R) uint8, some real images.
        counts: Real images of each class.
    """
    if config.budget is None:
        return config
    image = float(np.mean(file_sizes(sample, Coding("webp", 20), False)))
    images = int(config.budget / (GROWTH * image + LABEL_BYTES + 10 * (len(counts) / 2)))
    ipc = max(1, min(MOST_IPC, even_share(counts, images)))
    settings = applied(config, Spending(ipc, 20, 10))
    if min(counts) >= ipc:
        return settings
    total = sum(min(ipc, count) for count in counts)  # as many, however they are shared out
    unequal = replace(config.barycenter, images=total, allocation="w2")
    return replace(settings, barycenter=unequal)


def _told(spending: Spending, rare: bool) -> str:
    """rare: whether a class has fewer real images."""
    images = "image" if spending.ipc == 1 else "images"
    number = f"up to {spending.ipc}" if rare else f"{spending.ipc}"
    return f"{number} {images} per class, {spending.coding}, {spending.views} views of each"


def _spendings(run: Run, teacher: Teacher, giver: Giver, budget: int) -> list[Spending]:
    """All that are tried: as many images as fit, for each quality and number of views."""
    qualities, counts = _choices(run.config)
    own = present(run, teacher).tolist()
    found: dict[Spending, None] = {}
    prices = {quality: prices_of(run, teacher, giver, quality) for quality in qualities}
    for quality, price in prices.items():
        for views in counts:
            images = min(sum(own), price.images(budget, views))
            shared = run.config.barycenter.allocation == "w2"
            ipc = min(MOST_IPC, images // len(own) if shared else even_share(own, images))
            if ipc >= 1:
                found[Spending(ipc, quality, views)] = None
    if not found:
        needed = min(price.of(len(own), min(counts)) for price in prices.values())
        raise OptionError(
            f"`budget` is {human_bytes(budget)}, but one image per class takes "
            f"{human_bytes(needed)} with its labels; give as much or more"
        )
    return list(found)


def _choices(config: RunConfig) -> tuple[Sequence[int | None], Sequence[int]]:
    """Qualities and numbers of views, where the settings leave them open."""
    given = None if config.coding.image_quality is None else Coding.of(config.coding)
    qualities: Sequence[int | None] = QUALITIES if given is None else (given.quality,)
    counts = VIEWS if config.label_views.count is None else (config.label_views.count,)
    return qualities, (0,) if config.relabel.giver == "none" else counts


def _real(run: Run, teacher: Teacher, each: Spending) -> Shown:
    """Random real images, as many and treated as it says."""
    own = replace(run, config=applied(run.config, each))
    pixels, labels = real_images(own, teacher, each.ipc)
    images = Candidate(pixels, labels, class_weights(labels), None)
    return shown(own, teacher, images, run.data.source.fingerprint)
