"""How the images are made: atoms of a barycenter, then pixels that match them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from wdistill.config.common import CROP
from wdistill.core.settings import (
    NOT_NEGATIVE,
    POSITIVE,
    Range,
    Settings,
    between,
    setting,
)
from wdistill.errors import OptionError

Weights = Literal["uniform", "free"]
Init = Literal["real", "mean", "noise"]
GroupWeights = Literal["equal", "proportional"]
Allocation = Literal["uniform", "w2"]
Aim = Literal["any", "convnet"]

MOST_IPC = 1000  # of a run; sets of others may have more
_OF_ANY = (  # settings of images that are made for any student
    "feature_weight", "bn_weight", "ce_weight", "feature_spaces", "space_weight",
    "space_mean_weight",
)  # fmt: skip


@dataclass(frozen=True)
class BarycenterConfig(Settings):
    """Atoms and weights per class (paper, section 3.2)."""

    section = "barycenter"
    ipc: int = setting(
        10,
        f"Images per class, 1 to {MOST_IPC}. [source: the field's middle setting]",
        "--ipc",
        allowed=Range(f"a number from 1 to {MOST_IPC}", 1, math.inf),
    )
    images: int | None = setting(
        None,
        "Images in all, in place of a number for each class. [default: by the number per class]",
        "--images",
        allowed=Range("a number of images from 1", 1, 1e9),
        metavar="N",
    )
    allocation: Allocation = setting(
        "uniform",
        "How the images are shared out: the same number for each class, or more for classes "
        "whose W2 one more image lowers most. [source: the field's]",
        "--allocation",
        allowed=get_args(Allocation),
    )
    weights: Weights = setting(
        "uniform",
        "Masses of the atoms: equal, or optimised too, for a lower W2. [source: paper; own "
        "measurement agrees]",
        "--weights",
        allowed=get_args(Weights),
    )
    group_weights: GroupWeights = setting(
        "equal",
        "What each group of the group column counts: the same, or by its number of images. "
        "[source: Cuturi and Doucet 2014, their unweighted mean]",
        "--group-weights",
        allowed=get_args(GroupWeights),
    )
    restarts: int = setting(
        8,
        "Starts of k-means++ per class; there are more of them below 80 atoms. [source: own "
        "choice]",
        allowed=between(1, 10_000),
    )
    max_iterations: int = setting(
        100,
        "Iterations of k-means at most. [source: own choice; it converges long before]",
        allowed=between(1, 100_000),
    )

    def total(self, classes: int) -> int:
        """Images of all classes together."""
        return self.ipc * classes if self.images is None else self.images

    def mean(self, classes: int) -> int:
        """Images per class: of each, or on average, rounded."""
        return max(1, round(self.total(classes) / classes))

    def check(self, counts: Sequence[int]) -> None:
        """Raise OptionError unless the images can be shared out over classes of which so many real
        images are there.
        """
        classes, total = len(counts), self.total(len(counts))
        each, rest = divmod(total, classes)
        if each == 0:
            raise OptionError(
                f"`barycenter.images` is {total}, fewer than the {classes} classes; give {classes} "
                "or more"
            )
        if each > MOST_IPC:
            raise OptionError(
                f"`barycenter.images` is {total}, {each} for each class; give up to "
                f"{MOST_IPC * classes}"
            )
        if self.allocation == "uniform" and rest:
            raise OptionError(
                f"`barycenter.images` is {total}, which {classes} classes cannot share equally; "
                f"give {each * classes} or {(each + 1) * classes}, or `barycenter.allocation=w2`"
            )
        if self.allocation == "w2" and total > sum(counts):
            raise OptionError(
                f"{total} images are more than the {sum(counts)} real ones; lower "
                f"`barycenter.{'ipc' if self.images is None else 'images'}`"
            )


@dataclass(frozen=True)
class SynthesisConfig(Settings):
    """Pixels towards atoms and statistics (paper, section 3.3) in one or more feature spaces."""

    section = "synthesis"
    aim: Aim = setting(
        "any",
        "Students that the images are made for: any, or ConvNets that learn from class labels, in "
        "states of whose training they are matched, at the expense of other students. [source: "
        "own choice]",
        "--for",
        allowed=get_args(Aim),
    )
    state_steps: int = setting(
        320,
        "Steps of each ConvNet in whose states the images are matched with aim convnet. [source: "
        "own choice, the only one that was tried]",
        allowed=between(1, 100_000),
    )
    init: Init = setting(
        "real",
        "Start from the real image nearest to each atom, the mean of the real images that the "
        "atom stands for, or noise with the real images' spectrum. [source: own choice; official "
        "plain noise]",
        "--init",
        allowed=get_args(Init),
    )
    iterations: int = setting(
        300,
        "Synthesis steps. [source: own measurement; official 2000 from noise]",
        "--iterations",
        allowed=between(0, 100_000),
    )
    lr: float = setting(
        0.05,
        "Step size in units of the real images' deviation, frequency by frequency. [source: own "
        "measurement]",
        allowed=POSITIVE,
    )
    feature_weight: float = setting(
        0.05,
        "Weight of the distance to the atoms, in units of the class's variance. [source: own "
        "measurement]",
        allowed=NOT_NEGATIVE,
    )
    bn_weight: float = setting(
        10.0,
        "Weight of the norm-layer statistics. [source: official for ImageNette]",
        "--bn-weight",
        allowed=NOT_NEGATIVE,
    )
    ce_weight: float = setting(
        1.0,
        "Weight of the teacher's cross-entropy. [source: own measurement]",
        allowed=NOT_NEGATIVE,
    )
    feature_spaces: tuple[str, ...] = setting(
        ("convnet-w64:12",),
        "Networks beside the backbone in which the images are matched as well: Hub id, folder or "
        "built-in, randomly initialised if it has no weights; repeatable; none is the paper's "
        "method. [source: own measurement]",
        "--feature-spaces",
        metavar="NAME[:COUNT]",
    )
    space_weight: float = setting(
        0.1,
        "Length of these networks' gradient, as a share of the teacher's. [source: own "
        "measurement]",
        allowed=NOT_NEGATIVE,
    )
    space_mean_weight: float = setting(
        10.0,
        "Weight of the class mean in these networks, beside 1 of the single images. [source: own "
        "measurement]",
        allowed=NOT_NEGATIVE,
    )
    crop_min: float = setting(
        0.4,
        "Smallest share of the area that a random crop shows. [source: own measurement]",
        allowed=CROP,
    )
    whole_share: float = setting(
        0.5,
        "Share of the steps that see whole images instead of crops. [source: own measurement; "
        "official 0]",
        allowed=between(0, 1),
    )
    images_per_step: int = setting(
        100,
        "Images that are made together; groups of whole classes fill it. [source: official batch "
        "size]",
        allowed=between(1, 100_000),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.pool()
        if self.aim == "any":
            return
        for name in _OF_ANY:
            if getattr(self, name) != getattr(SynthesisConfig, name):
                raise OptionError(
                    f"`synthesis.{name}` has no effect with `synthesis.aim={self.aim}`, which has "
                    "networks and weights of its own; leave one of them out"
                )

    def pool(self) -> tuple[tuple[str, int], ...]:
        """(network, how many of it) for each of ``feature_spaces``, where they are used; ``none``
        means no pool.
        """
        networks: list[tuple[str, int]] = []
        for text in self.feature_spaces if self.aim == "any" else ():
            name, colon, count = text.rpartition(":")
            if not (colon and count.isdecimal()):
                name, count = text, "1"
            if not name or not 1 <= int(count) <= 100:
                raise OptionError(
                    f"`synthesis.feature_spaces` is {text!r}; give a network, NETWORK:COUNT with a "
                    "count from 1 to 100, or none"
                )
            networks.append((name, int(count)))
        if ("none", 1) not in networks:
            return tuple(networks)
        if len(networks) > 1:
            raise OptionError(
                "`synthesis.feature_spaces=none` excludes others; leave out one or the other"
            )
        return ()
