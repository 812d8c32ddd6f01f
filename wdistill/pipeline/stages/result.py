"""What a run has made, before it is judged and published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wdistill.artifact.distilled_set import DistilledSet
from wdistill.artifact.records import BudgetTrial
from wdistill.config import RunConfig
from wdistill.labels.views import LabelViews
from wdistill.pipeline.choices.coding import ChosenCoding
from wdistill.pipeline.choices.givers import ChosenLabels


@dataclass(frozen=True, eq=False)
class RunResult:
    """The result of a run.

    Attributes:
        distilled: Images, labels, weights and soft labels.
        views: The label views; None if they are turned off.
        chosen: How the images became files.
        labels: Who labelled them.
        w2: (classes, 2), W2^2 of the barycenter and of random real images.
        nearest: (N,), pixel distance of each image to the nearest real one.
        settings: As they were given; a budget leaves the number of images open.
        spendings: What was compared to spend the budget on, if there is one.
        label_files: Those of the label views, where they have been made already.
        images: Distilled ones, or real ones that were chosen because of the budget.
    """

    distilled: DistilledSet
    views: LabelViews | None
    chosen: ChosenCoding
    labels: ChosenLabels
    w2: NDArray[np.float64]
    nearest: NDArray[np.float32]
    settings: RunConfig
    spendings: tuple[BudgetTrial, ...] = ()
    label_files: tuple[Path, ...] = ()
    images: Literal["chosen", "distilled"] = "distilled"
