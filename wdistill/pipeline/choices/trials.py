"""What short students make of images that a budget could be spent on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from wdistill.artifact.candidate import Candidate
from wdistill.artifact.records import BudgetTrial
from wdistill.config import Labels, RunConfig, StudentConfig
from wdistill.core.settings import stable_hash
from wdistill.data.content.coding import Coding
from wdistill.labels.views import LabelViews
from wdistill.pipeline.choices.givers import Giver, open_givers
from wdistill.pipeline.choices.prices import views_of
from wdistill.pipeline.choices.short import ShortStudents
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.teacher import Teacher

BATCH = 32  # [own] images of a step, whatever their number, so that all see as many
Images = Literal["random", "chosen", "distilled"]


def budget_giver(run: Run, teacher: Teacher) -> Giver:
    """Who labels the images of short students: the committee where the run has one."""
    return open_givers(run, teacher).get(
        "committee", Giver("teacher", teacher.network, teacher.key)
    )


def class_weights(labels: Tensor) -> Tensor:
    """(n,) weights of images of classes ``labels``, mean 1, with equal sums of all classes."""
    counts = torch.bincount(labels)
    return len(labels) / int((counts > 0).sum()) / counts[labels]


@dataclass(frozen=True, eq=False)
class Shown:
    """Images as students get them, coded and labelled as the run's settings say.

    Attributes:
        candidate: The images; their views are labelled once, when they are first asked for.
        key: A hash of what they depend on.
    """

    run: Run
    teacher: Teacher
    candidate: Callable[[], Candidate]
    images: int
    key: str

    def trial(self, steps: int, seeds: int, images: Images) -> BudgetTrial:
        """What short students learn from them: so many of each kind, in so many steps.

        All processes must call it; they share the students.
        """
        config = self.run.config
        labels: Labels = "views" if config.label_views.count else "hard"
        temperature = config.evaluate.label_temperature
        recipe = StudentConfig(
            steps=steps, batch_size=config.evaluate.batch_size or BATCH, seeds=seeds,
            labels=(labels,), temperature=temperature,
        )  # fmt: skip
        students = ShortStudents(self.run, self.teacher, recipe, "budget")
        top1 = students.scores(self.candidate, self.images, [self.key]).ravel()
        return BudgetTrial(
            ipc=config.barycenter.ipc,
            quality=_coding(config).quality,
            views=config.label_views.count or 0,
            temperature=temperature,
            images=images,
            steps=steps,
            top1=tuple(np.round(top1, 6).tolist()),
        )


def shown(run: Run, teacher: Teacher, images: Candidate, key: str) -> Shown:
    """Images as the run would publish them.

    Args:
        images: As they are before they are coded, with hard labels.
        key: A hash of what they depend on, beside the coding.
    """
    giver, config = budget_giver(run, teacher), run.config
    coding, count = _coding(config), config.label_views.count or 0

    @cache
    def views() -> LabelViews:
        return views_of(run, giver, coding.seen(images.pixels), count)

    def candidate() -> Candidate:
        labelled = views() if count else None
        return replace(images, pixels=coding.seen(images.pixels), views=labelled)

    shared, own = config.barycenter, replace(config.label_views, count=count)
    labels = vars(own) if count else None
    inputs = stable_hash([key, giver.key, shared.ipc, shared.allocation, labels, *coding.key])
    return Shown(run, teacher, candidate, len(images.labels), inputs)


def _coding(config: RunConfig) -> Coding:
    return Coding.of(config.coding) or Coding("webp")
