"""Which students are to be trained, and what all of them share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from wdistill.artifact.candidate import Candidate
from wdistill.artifact.report import Recipe
from wdistill.config import Labels, RelabelConfig, StudentConfig
from wdistill.core.machine.graphs import GraphSwitch
from wdistill.core.settings import stable_hash
from wdistill.data.content.coding import Coding
from wdistill.data.pixels import PixelStore
from wdistill.evaluation.recipes.datasets import Colour
from wdistill.labels.committee import LabelGiver
from wdistill.networks.features import FeatureNetwork

STORED: tuple[Labels, ...] = ("soft", "views")  # labels that are made for a small set
Images = Literal[
    "distilled", "random", "nearest", "herding", "k-centre", "easy", "tiles", "noise", "full"
]


@dataclass(frozen=True)
class Job:
    """One student to train: the unit of work of this stage. ipc: images per class."""

    student: str
    images: Images
    labels: Labels
    ipc: int
    seed: int
    augment: bool = True

    @property
    def name(self) -> str:
        safe = "".join(ch if ch.isalnum() or ch in "-_." else "-" for ch in self.student)
        plain = "" if self.augment else "-plain"
        given = f"{self.images}-{self.ipc}-{self.labels}{plain}-{self.seed}"
        return f"{safe}-{stable_hash(self.student)[:6]}-{given}"


@dataclass(frozen=True)
class StudentSetting:
    """Everything the jobs share.

    candidate: gives the set, when a student needs it; network: the teacher, or None; chosen:
    rows of ``train`` and their weights for the images picked by a rule, by its name; scratch: a
    folder for the pixels of real images; coding: of the set, which real images in equal numbers
    go through as well; giver: of the set's labels, which labels real images alike, or None;
    hard_soft: whether the soft label of an image is its class; weighted: whether images count
    by their weights; colours: mean and deviation of the channels by which students see images,
    None for those of the pixel stores; counts: images of each class of the set, where they
    differ; graphs: whether to use CUDA graphs.
    """

    candidate: Callable[[], Candidate]
    class_names: tuple[str, ...]
    train: PixelStore
    test: PixelStore
    network: FeatureNetwork | None
    recipe: Recipe
    relabel: RelabelConfig
    seed: int
    device: torch.device
    scratch: Path
    autocast: torch.dtype | None = None
    chosen: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    coding: Coding = field(default_factory=Coding)
    giver: LabelGiver | None = None
    hard_soft: bool = False
    weighted: bool = True
    colours: tuple[Colour, Colour] | None = None
    counts: tuple[int, ...] | None = None
    graphs: GraphSwitch = field(default_factory=GraphSwitch)

    def counts_at(self, ipc: int) -> list[int]:
        """Random real images of each class: ``ipc``, or in proportion to the set's."""
        if self.counts is None:
            return [ipc] * len(self.class_names)
        return in_proportion(self.counts, ipc)


def in_proportion(counts: Sequence[int], ipc: int) -> list[int]:
    """``counts`` scaled to a mean of about ``ipc``: as they are where that is their rounded mean;
    no class that has images loses all of them.
    """
    own = max(1, round(sum(counts) / len(counts)))
    return [max(min(count, 1), round(count * ipc / own)) for count in counts]


def jobs(
    config: StudentConfig,
    students: Sequence[str],
    ipc: int,
    images: Sequence[Images] = ("distilled", "random"),
) -> list[Job]:
    """Every combination; the full data have no stored labels but their own."""
    return [
        Job(student, kind, labels, ipc, seed)
        for student, kind, labels, seed in itertools.product(
            students, images, config.labels, range(config.seeds)
        )
        if not (kind == "full" and labels in STORED)
    ]
