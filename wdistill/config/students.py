"""How students are trained."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal, get_args

from wdistill.config.common import CROP
from wdistill.core.settings import NOT_NEGATIVE, POSITIVE, Settings, between, setting
from wdistill.errors import OptionError

Labels = Literal["hard", "soft", "views", "teacher"]
Optimizer = Literal["adamw", "sgd"]

TEMPERATURE, WARM = 1.0, 4.0  # of labels that networks give
LARGE_SET = 500
LEAST_EPOCHS = 30  # of students of large sets
SGD_LR = 0.05
RATES: dict[Optimizer, tuple[float, float]] = {  # learning rate and weight decay
    "adamw": (0.001, 0.01),
    "sgd": (SGD_LR, 5e-4),
}


@dataclass(frozen=True)
class StudentConfig(Settings):
    """How students are trained (paper, section 4.1, and the official validation recipe)."""

    section = "evaluate"
    enabled: bool = setting(
        True,
        "Students at the end of the run; the flag skips them. [default: train them, our choice]",
        "--no-evaluate",
    )
    students: tuple[str, ...] = setting(
        (),
        "Architecture to train, from random weights: Hub id, local folder or built-in; "
        "repeatable. [default: the teacher's, our choice; of a set of others resnet10-w16]",
        "--student",
        metavar="ID|PATH|NAME",
    )
    labels: tuple[Labels, ...] = setting(
        (),
        "Labels that students see: hard, the classes; soft, the one published label of each "
        "image; views, those of single views; teacher, the teacher's answer to every batch. "
        "Repeatable. [default: the best that is published, and hard: what a user of the files "
        "alone can do; official teacher]",
        "--labels",
        allowed=get_args(Labels),
    )
    epochs: int | None = setting(
        None,
        "Epochs of each student; other sets of images get as many optimiser steps. [default: 100 "
        f"up to {LARGE_SET} images, then fewer for as many steps, but not fewer than "
        f"{LEAST_EPOCHS}, our choice; official 300]",
        "--eval-epochs",
        allowed=between(1, 100_000),
    )
    steps: int | None = setting(
        None, "Optimiser steps, instead of epochs. [default: by epochs]", allowed=between(1, 10**7)
    )
    seeds: int = setting(
        2,
        "Students per row of the results. [source: own choice, the fewest that show a spread]",
        "--eval-seeds",
        allowed=between(1, 100),
    )
    batch_size: int | None = setting(
        None,
        "Images per step. [default: 32, or 128 for sets so large that they are seen "
        f"{LEAST_EPOCHS} times, our choice; official 64]",
        allowed=between(1, 100_000),
    )
    optimizers: tuple[Optimizer, ...] = setting(
        ("adamw",),
        "Optimiser of students: adamw, or sgd (momentum 0.9). Repeatable: of both, each trains all "
        "students, and the report says whether a gain under one survives the other. [source: "
        "official AdamW]",
        allowed=get_args(Optimizer),
    )
    lr: float | None = setting(
        None,
        f"Learning rate, with cosine decay; of one optimiser only. [default: 0.001 of AdamW, "
        f"official; {SGD_LR} of SGD, our measurement in tests/benchmarks/README.md#optimisers]",
        allowed=POSITIVE,
    )
    weight_decay: float | None = setting(
        None,
        "Weight decay; of one optimiser only. [default: 0.01 of AdamW, official; 0.0005 of SGD, "
        "as DatasetCondensation]",
        allowed=NOT_NEGATIVE,
    )
    temperature: float | None = setting(
        None,
        f"Of labels that networks give. [default: {TEMPERATURE:g}, or {WARM:g} if short students "
        "learn more from it, our measurement; of a published set its own; official 20]",
        allowed=POSITIVE,
    )
    crop_min: float = setting(
        0.4,
        "Smallest share of the area that a random crop shows. [source: own choice; official 0.08 "
        "at 224 px]",
        allowed=CROP,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs is not None and self.steps is not None:
            raise OptionError(
                "`evaluate.epochs` and `evaluate.steps` are both given; leave one of them out"
            )
        if not self.optimizers:
            raise OptionError("`evaluate.optimizers` is empty; give adamw, sgd or both")
        if len(set(self.optimizers)) > 1:
            for name in ("lr", "weight_decay"):
                if getattr(self, name) is not None:
                    raise OptionError(
                        f"`evaluate.{name}` is of one optimiser, but `evaluate.optimizers` names "
                        "two; leave out one or the other"
                    )

    def with_labels(self, *published: Labels) -> StudentConfig:
        """The same with its kinds of labels; where they are left open, the ``published`` ones."""
        return self if self.labels else dataclasses.replace(self, labels=published)

    @property
    def label_temperature(self) -> float:
        """Of labels that networks give; the usual one as long as it is left open."""
        return self.temperature or TEMPERATURE

    def at(self, temperature: float) -> StudentConfig:
        """The same with this temperature where it is left open."""
        return dataclasses.replace(self, temperature=self.temperature or temperature)

    def rates(self, optimizer: Optimizer) -> tuple[float, float]:
        """(learning rate, weight decay)."""
        lr, decay = RATES[optimizer]
        return self.lr or lr, decay if self.weight_decay is None else self.weight_decay

    def budget(self, images: int) -> tuple[int, int]:
        """(optimiser steps, batch size) for a set of ``images``.

        A student of a larger set sees no fewer images than one of a smaller set, within rounding.
        """
        epochs = max(LEAST_EPOCHS, math.ceil(100 * LARGE_SET / max(images, LARGE_SET)))
        size = min(self.batch_size or (32 if epochs > LEAST_EPOCHS else 128), images)
        return self.steps or (self.epochs or epochs) * math.ceil(images / size), size
