"""Honest evaluation: distilled against real images, same recipe, seeds and optimiser steps."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from wdistill.artifact.distilled_set import Candidate, weights_alike
from wdistill.artifact.model import Count, Number, Record
from wdistill.artifact.report import Curve, Recipe
from wdistill.config import Labels, LabelViewsConfig, RelabelConfig, StudentConfig
from wdistill.core.files import on_disk, write_json
from wdistill.core.processes import Work, share_out
from wdistill.core.seeds import stream, stream_seed
from wdistill.core.settings import stable_hash
from wdistill.data.content.coding import Coding
from wdistill.data.pixels import PixelStore
from wdistill.errors import OptionError
from wdistill.evaluation.metrics import score_network
from wdistill.evaluation.recipes.datasets import Colour
from wdistill.evaluation.sets.baselines import TILES, mosaics, noise_images, random_rows
from wdistill.evaluation.sets.tiles import decoded
from wdistill.evaluation.training import Training, TrainingSet, train_student
from wdistill.labels.committee import LabelGiver
from wdistill.labels.soft import soft_labels
from wdistill.labels.views import LabelViews, ViewRecipe, label_views, rounded
from wdistill.networks.backbones import new_network
from wdistill.networks.checkpoints.source import BackboneSource
from wdistill.networks.features import FeatureNetwork

STORED: tuple[Labels, ...] = ("soft", "views")  # labels that are made for a small set
Images = Literal[
    "distilled", "random", "nearest", "herding", "k-centre", "easy", "tiles", "noise", "full"
]
CURVE_POINTS = 50
DECODED_AT_ONCE = 256
CONFUSION_CLASSES = 100  # a larger matrix is not stored


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


class Outcome(Record):
    """What the student of a job has reached after its last step, on all test images.

    confusion: None where it would have more than CONFUSION_CLASSES rows.
    """

    job: Job
    top1: Number
    top5: Number | None
    per_class: tuple[Number, ...]
    confusion: tuple[tuple[Count, ...], ...] | None
    steps: Count
    curve: Curve
    seconds: Number


@dataclass(frozen=True)
class StudentSetting:
    """Everything the jobs share.

    network: the teacher, or None; chosen: rows of ``train`` and their weights for the images picked
    by a rule, by its name; scratch: a folder for the pixels of real images; coding: of the set,
    which real images in equal numbers go through as well; giver: of the set's labels, which labels
    real images alike, or None; hard_soft: whether the soft label of an image is its class;
    weighted: whether images count by their weights; colours: mean and deviation of the channels by
    which students see images, None for those of the pixel stores;
    counts: images of each class of the set, where they differ.
    """

    candidate: Candidate
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


def _real_rows(setting: StudentSetting, job: Job) -> tuple[Tensor, Tensor]:
    """Rows of real images, and their weights."""
    labels = setting.train.labels
    if job.images == "random":
        counts = setting.counts_at(job.ipc)
        rows = random_rows(labels, counts, setting.seed, job.seed)
        if setting.counts is None:
            return rows, torch.ones(len(rows))
        return rows, weights_alike(setting.candidate, labels[rows])
    if job.images == "full":
        return torch.arange(len(labels)), torch.ones(len(labels))
    return setting.chosen[job.images]


def _tiled(images: Tensor, coding: Coding) -> Tensor:
    """Images four of which were stored as one, as its decoder gives them back."""
    stored = coding.seen(mosaics(images)).float() / 255
    return (decoded(stored, TILES) * 255).round().to(torch.uint8)


def _pixels(setting: StudentSetting, rows: Tensor) -> Tensor:
    """(n, 3, R, R) uint8 of real images, as files of the set's kind would give them."""
    store = setting.train
    shape = (len(rows), 3, store.preprocessing.resolution, store.preprocessing.resolution)
    parts = store.batches(rows, DECODED_AT_ONCE)
    batches = (setting.coding.seen(batch).numpy() for batch in parts)
    return torch.from_numpy(on_disk(batches, shape, np.uint8, setting.scratch))


def training_set(setting: StudentSetting, job: Job) -> TrainingSet:
    """The images and labels that a job's student sees."""
    soft, views = None, None
    images: Tensor | PixelStore
    if job.images in ("distilled", "noise"):
        given = setting.candidate
        images, labels, weights, soft = given.pixels, given.labels, given.weights, given.soft
        views = given.views if job.labels == "views" else None
        if job.images == "noise":
            images = noise_images(given.pixels, setting.seed, job.seed)
    else:
        rows, weights = _real_rows(setting, job)
        labels = setting.train.labels[rows]
        images = setting.train if job.images == "full" else _pixels(setting, rows)
        if job.images == "tiles" and isinstance(images, Tensor):
            images = _tiled(images, setting.coding)
        if job.labels == "soft" and isinstance(images, Tensor) and setting.hard_soft:
            soft = F.one_hot(labels, len(setting.class_names)).float()
        elif job.labels == "soft" and isinstance(images, Tensor) and setting.giver is not None:
            generator = stream(setting.seed, "relabel-random", job.seed)
            soft = soft_labels(setting.giver, images, setting.relabel, generator)
        if job.labels == "views" and isinstance(images, Tensor) and setting.giver is not None:
            views = _views_alike(setting, images, job.seed)
    missing = {"soft": soft is None, "views": views is None}
    if missing.get(job.labels):
        raise OptionError(
            f"there are no labels of kind {job.labels} for the {job.images} images; leave out "
            f"`evaluate.labels` {job.labels}, or name the network that gives them with `teacher`"
        )
    targets = soft if job.labels == "soft" and soft is not None else labels
    weights = weights if setting.weighted else torch.ones(len(weights))
    online = setting.network if job.labels == "teacher" else None
    soft_targets = job.labels != "hard"
    return TrainingSet(images, targets, weights, soft_targets, online, job.augment, views)


def _views_alike(setting: StudentSetting, pixels: Tensor, draw: int) -> LabelViews | None:
    """Labels of the views of real images, as many and as coarse as those of the set."""
    own = setting.candidate.views
    if own is None or setting.giver is None:
        return None
    config = LabelViewsConfig(
        own.count, own.logits.shape[1], crop_min=setting.recipe.crop_min or 1.0
    )
    seed = stream_seed(setting.seed, "label-views-random", draw)
    temperature = setting.recipe.temperature
    views = label_views(setting.giver, pixels, ViewRecipe(config, temperature, seed))
    return rounded(views, config.levels, len(setting.class_names), temperature)


def run_job(
    setting: StudentSetting,
    job: Job,
    source: BackboneSource,
    on_step: Callable[[], object] = lambda: None,
) -> Outcome:
    """Train one student from random weights and test its last step on all test images."""
    began = time.perf_counter()
    preprocessing, device = setting.train.preprocessing, setting.device
    if setting.colours is not None:
        preprocessing = replace(preprocessing, mean=setting.colours[0], std=setting.colours[1])
    seed = stream_seed(setting.seed, "student", job.student, job.seed) % 2**31
    model = new_network(source, setting.class_names, preprocessing.resolution, seed)
    losses: list[Tensor] = []

    def stepped(loss: Tensor) -> None:
        losses.append(loss)
        on_step()

    training = Training(setting.recipe, seed, device, setting.autocast)
    train_student(model, training_set(setting, job), preprocessing, training, stepped)
    score = score_network(FeatureNetwork(model, preprocessing, device), setting.test)
    few = len(score.confusion) <= CONFUSION_CLASSES
    return Outcome(
        job=job,
        top1=score.top1,
        top5=score.top5,
        per_class=tuple(round(value, 4) for value in score.per_class),
        confusion=tuple(map(tuple, score.confusion.tolist())) if few else None,
        steps=len(losses),
        curve=_curve(losses),
        seconds=round(time.perf_counter() - began, 2),
    )


def _curve(losses: Sequence[Tensor]) -> Curve:
    """Mean losses of about CURVE_POINTS stretches of training, and the step each ends with."""
    if not losses:
        return Curve()
    parts = torch.stack(list(losses)).float().cpu().tensor_split(min(CURVE_POINTS, len(losses)))
    ends = np.cumsum([len(part) for part in parts])
    return Curve(
        step=tuple(ends.tolist()), loss=tuple(round(float(part.mean()), 5) for part in parts)
    )


@dataclass(frozen=True)
class Jobs:
    """Where outcomes are kept, and who works on them. shared: where those of the full data are,
    which many sets are compared with.
    """

    folder: Path
    accelerator: Accelerator
    quiet: bool
    shared: Path | None = None

    def path(self, job: Job, key: str) -> Path:
        """The file of a job's outcome; another key means another file, so that each one stays."""
        shared = self.shared if job.images == "full" else None
        return (shared or self.folder) / f"{job.name}-{key}.json"


def job_key(setting: StudentSetting, job: Job, source: BackboneSource) -> list[Any]:
    """What a job's outcome depends on, beside the images."""
    recipe = setting.recipe.model_dump(exclude={"epochs", "name", "changed"})
    described = source.config.to_json_string()
    return [asdict(job), recipe, described, setting.seed, setting.weighted, setting.colours]


def run_jobs(
    place: Jobs,
    setting: StudentSetting,
    every: Sequence[Job],
    keys: Mapping[Job, str],
    sources: Mapping[str, BackboneSource],
) -> list[Outcome]:
    """The outcomes of ``every`` job, in order; those stored under their key are not run again."""
    paths = [place.path(job, keys[job]) for job in every]

    def compute(index: int, advance: Callable[[int], object]) -> None:
        job = every[index]
        outcome = run_job(setting, job, sources[job.student], lambda: advance(1))
        write_json(paths[index], outcome.model_dump(mode="json"))

    pieces = Work(
        name="students",
        paths=paths,
        valid=lambda index: read_outcome(paths[index]) is not None,
        compute=compute,
        ticks=lambda _: setting.recipe.steps,
        tick_name="step",
    )
    share_out(pieces, place.accelerator, place.quiet)
    outcomes = [read_outcome(path) for path in paths]
    return [outcome for outcome in outcomes if outcome is not None]


def read_outcome(path: Path) -> Outcome | None:
    """None if there is none, or a damaged one."""
    try:
        return Outcome.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
