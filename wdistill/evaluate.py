"""Honest evaluation: distilled against random real images, same recipe, seeds and budget."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from wdistill.artifact import FORMAT_VERSION, DistilledSet
from wdistill.backbone import BackboneSource, new_network
from wdistill.config import EvalConfig, Labels, RelabelConfig, stable_hash
from wdistill.features import FeatureNetwork
from wdistill.pixels import PixelStore, to_float
from wdistill.relabel import soft_labels
from wdistill.seeds import stream, stream_seed
from wdistill.student import TrainingSet, train_student

Images = Literal["distilled", "random"]


@dataclass(frozen=True)
class Job:
    """One student to train: the unit of work of this stage."""

    student: str
    images: Images
    labels: Labels
    seed: int

    @property
    def name(self) -> str:
        safe = "".join(ch if ch.isalnum() or ch in "-_." else "-" for ch in self.student)
        return f"{safe}-{stable_hash(self.student)[:6]}-{self.images}-{self.labels}-{self.seed}"


@dataclass(frozen=True)
class Contest:
    """Everything the jobs share.

    network is the teacher, which also labels the random real images.
    """

    distilled: DistilledSet
    train: PixelStore
    test: PixelStore
    network: FeatureNetwork
    config: EvalConfig
    relabel: RelabelConfig
    ipc: int
    seed: int
    autocast: torch.dtype | None = None


def jobs(config: EvalConfig, students: Sequence[str]) -> list[Job]:
    images: tuple[Images, ...] = ("distilled", "random")
    return [
        Job(*combination)
        for combination in itertools.product(students, images, config.labels, range(config.seeds))
    ]


def random_rows(labels: Tensor, classes: int, ipc: int, seed: int, draw: int) -> Tensor:
    """``ipc`` rows of each class, drawn anew for each ``draw``, class by class."""
    chosen = []
    for label in range(classes):
        rows = (labels == label).nonzero()[:, 0]
        order = torch.randperm(len(rows), generator=stream(seed, "random-real", draw, label))
        chosen.append(rows[order[:ipc]])
    return torch.cat(chosen)


def training_set(contest: Contest, job: Job) -> TrainingSet:
    """The images and labels that a job's student sees."""
    classes = len(contest.distilled.class_names)
    if job.images == "distilled":
        images = torch.from_numpy(contest.distilled.images).permute(0, 3, 1, 2).contiguous()
        labels = torch.from_numpy(contest.distilled.labels)
        weights = torch.from_numpy(contest.distilled.weights) * contest.ipc
        soft = torch.from_numpy(contest.distilled.soft_labels)
    else:
        rows = random_rows(contest.train.labels, classes, contest.ipc, contest.seed, job.seed)
        images, labels = contest.train.get(rows), contest.train.labels[rows]
        weights = torch.ones(len(rows))
        generator = stream(contest.seed, "relabel-random", job.seed)
        soft = torch.empty(0)
        if job.labels == "soft":
            soft = soft_labels(contest.network, images, contest.relabel, generator)
    hard = torch.nn.functional.one_hot(labels, classes).float()
    return TrainingSet(
        images,
        soft if job.labels == "soft" else hard,
        weights,
        soft=job.labels != "hard",
        teacher=contest.network if job.labels == "teacher" else None,
    )


def run_job(
    contest: Contest,
    job: Job,
    source: BackboneSource,
    on_step: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Train one student from random weights and test its last epoch on all test images."""
    began = time.perf_counter()
    preprocessing = contest.train.preprocessing
    seed = stream_seed(contest.seed, "student", job.student, job.seed) % 2**31
    model = new_network(source, contest.distilled.class_names, preprocessing.resolution, seed)
    device = contest.network.device
    train_student(
        model,
        training_set(contest, job),
        preprocessing,
        contest.config,
        seed,
        device,
        contest.autocast,
        on_step,
    )
    top1 = accuracy(FeatureNetwork(model, preprocessing, device), contest.test)
    return {**asdict(job), "top1": top1, "seconds": round(time.perf_counter() - began, 2)}


@torch.no_grad()
def accuracy(network: FeatureNetwork, store: PixelStore) -> float:
    """Share of ``store``'s images whose highest logit is their class."""
    rows = torch.arange(len(store))
    correct = 0
    for chunk, pixels in zip(rows.split(256), store.batches(rows, 256), strict=True):
        logits = network(to_float(pixels, network.device), moments=False).logits
        correct += int((logits.argmax(1).cpu() == store.labels[chunk]).sum())
    return correct / len(store)


def summarise(
    outcomes: Iterable[dict[str, Any]],
    config: EvalConfig,
    ipc: int,
    teacher_accuracy: float,
    eval_images: int,
) -> dict[str, Any]:
    """The content of results.json: one row per student, images and labels; std is the sample's."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for outcome in outcomes:
        key = (outcome["student"], outcome["images"], outcome["labels"])
        groups.setdefault(key, []).append(outcome)
    rows = []
    for (student, images, labels), group in groups.items():
        group.sort(key=lambda outcome: outcome["seed"])
        top1 = [outcome["top1"] for outcome in group]
        rows.append(
            {
                "student": student,
                "images": images,
                "labels": labels,
                "ipc": ipc,
                "top1_mean": float(np.mean(top1)),
                "top1_std": float(np.std(top1, ddof=1)) if len(top1) > 1 else 0.0,
                "n": len(top1),
                "top1": top1,
                "seeds": [outcome["seed"] for outcome in group],
                "seconds": round(sum(outcome["seconds"] for outcome in group), 2),
            }
        )
    recipe = {
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "optimizer": "AdamW",
        "lr": config.lr,
        "weight_decay": config.weight_decay,
        "temperature": config.temperature,
        "cutmix": 1.0,
        "crop_min": config.crop_min,
        "eval_images": eval_images,
    }
    return {
        "format_version": FORMAT_VERSION,
        "recipe": recipe,
        "teacher_accuracy": teacher_accuracy,
        "rows": rows,
    }
