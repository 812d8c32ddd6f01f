"""Honest evaluation: distilled against real images, same recipe, seeds and optimiser steps."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from wdistill.accuracy import Score, score_network
from wdistill.artifact import FORMAT_VERSION, DistilledSet
from wdistill.backbone import BackboneSource, new_network
from wdistill.config import EvalConfig, Labels, LabelViewsConfig, RelabelConfig, stable_hash
from wdistill.errors import OptionError
from wdistill.features import FeatureNetwork
from wdistill.files import on_disk
from wdistill.label_views import LabelViews, label_views, rounded
from wdistill.pixels import PixelStore
from wdistill.relabel import soft_labels
from wdistill.seeds import stream, stream_seed
from wdistill.student import TrainingSet, train_student

STORED: tuple[Labels, ...] = ("soft", "views")  # labels that are made for a small set
Images = Literal["distilled", "random", "nearest", "herding", "full"]
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


@dataclass(frozen=True)
class Candidate:
    """The images that are judged.

    pixels: (n, 3, R, R) uint8; labels: (n,) int64; weights: (n,) float32, mean 1 within each class;
    soft: (n, C) float32 probabilities, or None if there are none; views: likewise.
    """

    pixels: Tensor
    labels: Tensor
    weights: Tensor
    soft: Tensor | None
    views: LabelViews | None = None

    @property
    def ipc(self) -> int:
        """Images per class, rounded where classes differ."""
        return max(1, round(len(self.labels) / (int(self.labels.max()) + 1)))


def mean_one(weights: Tensor, labels: Tensor) -> Tensor:
    """Weights (n,) of sum 1 within each class as weights of mean 1."""
    return weights * torch.bincount(labels)[labels]


def candidate(distilled: DistilledSet, views: LabelViews | None = None) -> Candidate:
    labels = torch.from_numpy(distilled.labels)
    return Candidate(
        pixels=torch.from_numpy(distilled.images).permute(0, 3, 1, 2),
        labels=labels,
        weights=mean_one(torch.from_numpy(distilled.weights), labels),
        soft=torch.from_numpy(distilled.soft_labels),
        views=views,
    )


@dataclass(frozen=True)
class Contest:
    """Everything the jobs share.

    network: the teacher, which also labels the real images, or None; chosen: rows of ``train`` and
    their weights for the images picked by a rule, by its name; config: with a fixed budget;
    scratch: a folder for the pixels of real images.
    """

    candidate: Candidate
    class_names: tuple[str, ...]
    train: PixelStore
    test: PixelStore
    network: FeatureNetwork | None
    config: EvalConfig
    relabel: RelabelConfig
    seed: int
    device: torch.device
    scratch: Path
    autocast: torch.dtype | None = None
    chosen: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


def jobs(
    config: EvalConfig,
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


def random_rows(labels: Tensor, classes: int, ipc: int, seed: int, draw: int) -> Tensor:
    """``ipc`` rows of each class, drawn anew for each ``draw``, class by class.

    Those of a smaller ``ipc`` are among those of a larger one.
    """
    chosen = []
    for label in range(classes):
        rows = (labels == label).nonzero()[:, 0]
        order = torch.randperm(len(rows), generator=stream(seed, "random-real", draw, label))
        chosen.append(rows[order[:ipc]])
    return torch.cat(chosen)


def _real_rows(contest: Contest, job: Job) -> tuple[Tensor, Tensor]:
    """Rows of real images, and their weights."""
    labels = contest.train.labels
    if job.images == "random":
        classes = len(contest.class_names)
        rows = random_rows(labels, classes, job.ipc, contest.seed, job.seed)
        return rows, torch.ones(len(rows))
    if job.images == "full":
        return torch.arange(len(labels)), torch.ones(len(labels))
    return contest.chosen[job.images]


def _pixels(contest: Contest, rows: Tensor) -> Tensor:
    """(n, 3, R, R) uint8 of real images."""
    store = contest.train
    shape = (len(rows), 3, store.preprocessing.resolution, store.preprocessing.resolution)
    batches = (batch.numpy() for batch in store.batches(rows, DECODED_AT_ONCE))
    return torch.from_numpy(on_disk(batches, shape, np.uint8, contest.scratch))


def training_set(contest: Contest, job: Job) -> TrainingSet:
    """The images and labels that a job's student sees."""
    soft, views = None, None
    images: Tensor | PixelStore
    if job.images == "distilled":
        given = contest.candidate
        images, labels, weights, soft = given.pixels, given.labels, given.weights, given.soft
        views = given.views if job.labels == "views" else None
    else:
        rows, weights = _real_rows(contest, job)
        labels = contest.train.labels[rows]
        images = contest.train if job.images == "full" else _pixels(contest, rows)
        if job.labels == "soft" and isinstance(images, Tensor) and contest.network is not None:
            generator = stream(contest.seed, "relabel-random", job.seed)
            soft = soft_labels(contest.network, images, contest.relabel, generator)
        if job.labels == "views" and isinstance(images, Tensor) and contest.network is not None:
            views = _views_alike(contest, images, job.seed)
    missing = {"soft": soft is None, "views": views is None}
    if missing.get(job.labels):
        raise OptionError(
            f"there are no labels of kind {job.labels} for the {job.images} images; leave out "
            f"--labels {job.labels}, or name the network that gives them with --teacher"
        )
    targets = soft if job.labels == "soft" and soft is not None else labels
    online = contest.network if job.labels == "teacher" else None
    soft_targets = job.labels != "hard"
    return TrainingSet(images, targets, weights, soft_targets, online, job.augment, views)


def _views_alike(contest: Contest, pixels: Tensor, draw: int) -> LabelViews | None:
    """Labels of the views of real images, as many and as coarse as those of the set."""
    own = contest.candidate.views
    if own is None or contest.network is None:
        return None
    config = LabelViewsConfig(own.count, own.logits.shape[1], crop_min=contest.config.crop_min)
    seed = stream_seed(contest.seed, "label-views-random", draw)
    temperature = contest.config.temperature
    views = label_views(contest.network, pixels, config, seed, temperature=temperature)
    return rounded(views, config.levels)


def run_job(
    contest: Contest,
    job: Job,
    source: BackboneSource,
    on_step: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Train one student from random weights and test its last step on all test images."""
    began = time.perf_counter()
    preprocessing = contest.train.preprocessing
    seed = stream_seed(contest.seed, "student", job.student, job.seed) % 2**31
    model = new_network(source, contest.class_names, preprocessing.resolution, seed)
    device = contest.device
    losses: list[Tensor] = []

    def told(loss: Tensor) -> None:
        losses.append(loss)
        on_step()

    data = training_set(contest, job)
    train_student(model, data, preprocessing, contest.config, seed, device, contest.autocast, told)
    score = score_network(FeatureNetwork(model, preprocessing, device), contest.test)
    return {
        **asdict(job),
        **_told(score),
        "steps": len(losses),
        "curve": _curve(losses),
        "seconds": round(time.perf_counter() - began, 2),
    }


def _told(score: Score) -> dict[str, Any]:
    few = len(score.confusion) <= CONFUSION_CLASSES
    return {
        "top1": score.top1,
        "top5": score.top5,
        "per_class": [round(value, 4) for value in score.per_class],
        "confusion": score.confusion.tolist() if few else None,
    }


def _curve(losses: Sequence[Tensor]) -> dict[str, list[float]]:
    """Mean losses of about CURVE_POINTS stretches of training, and the step each ends with."""
    if not losses:
        return {"step": [], "loss": []}
    parts = torch.stack(list(losses)).float().cpu().tensor_split(min(CURVE_POINTS, len(losses)))
    ends = np.cumsum([len(part) for part in parts])
    return {"step": ends.tolist(), "loss": [round(float(part.mean()), 5) for part in parts]}


def summarise(
    outcomes: Iterable[dict[str, Any]],
    config: EvalConfig,
    images: int,
    teacher_accuracy: float | None,
    eval_images: int,
) -> dict[str, Any]:
    """The content of results.json: one row per student, images, labels and IPC.

    config: with the fixed budget for a set of ``images``.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for outcome in outcomes:
        key = tuple(outcome[name] for name in ("student", "images", "labels", "ipc", "augment"))
        groups.setdefault(key, []).append(outcome)
    steps, batch_size = config.budget(images)
    recipe = {
        "epochs": round(steps / math.ceil(images / batch_size)),
        "steps": steps,
        "batch_size": batch_size,
        "optimizer": "AdamW",
        "lr": config.lr,
        "weight_decay": config.weight_decay,
        "schedule": "cosine",
        "temperature": config.temperature,
        "cutmix": 1.0,
        "crop_min": config.crop_min,
        "eval_images": eval_images,
    }
    return {
        "format_version": FORMAT_VERSION,
        "recipe": recipe,
        "teacher_accuracy": teacher_accuracy,
        "rows": [_row(group) for group in groups.values()],
    }


def _row(group: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and sample deviation over seeds; confusion matrices are added up."""
    group = sorted(group, key=lambda outcome: outcome["seed"])
    first, top1 = group[0], [outcome["top1"] for outcome in group]
    top5 = [outcome["top5"] for outcome in group if outcome["top5"] is not None]
    counts = [outcome["confusion"] for outcome in group if outcome["confusion"] is not None]
    losses = np.mean([outcome["curve"]["loss"] for outcome in group], axis=0)
    return {
        **{name: first[name] for name in ("student", "images", "labels", "ipc", "augment")},
        "steps": first["steps"],
        "top1_mean": float(np.mean(top1)),
        "top1_std": _deviation(top1),
        "n": len(group),
        "top1": top1,
        "top5_mean": float(np.mean(top5)) if top5 else None,
        "top5_std": _deviation(top5) if top5 else None,
        "per_class": np.mean([o["per_class"] for o in group], axis=0).round(4).tolist(),
        "confusion": np.sum(counts, axis=0).tolist() if counts else None,
        "curve": {"step": first["curve"]["step"], "loss": losses.round(5).tolist()},
        "seeds": [outcome["seed"] for outcome in group],
        "seconds": round(sum(outcome["seconds"] for outcome in group), 2),
    }


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
