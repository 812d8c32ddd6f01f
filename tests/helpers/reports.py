"""A report as `evaluate` writes it, with numbers of the right order, and a gallery for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from wdistill.artifact.report import (
    Curve,
    Equivalent,
    EvaluatedSet,
    Projection,
    RealData,
    Recipe,
    Report,
    ResultRow,
    Scores,
    TeacherScore,
)
from wdistill.config import FORMAT_VERSION
from wdistill.evaluation.page.report import Gallery

NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
         "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")  # fmt: skip
IPC = 10
SETS = {"distilled": 0.07, "random": 0.0, "nearest": 0.02, "herding": -0.03}
SHIFTS = {"hard": 0.0, "soft": 0.08, "views": 0.1, "teacher": 0.11}


def _top1(images: str, labels: str, ipc: int) -> float:
    if images == "full":
        return 0.91 + SHIFTS[labels] / 10
    return 0.45 + 0.17 * float(np.log10(ipc)) + SHIFTS[labels] + SETS.get(images, 0.0)


def report_row(
    images: str,
    labels: str = "hard",
    ipc: int = IPC,
    student: str = "resnet10-w16",
    names: tuple[str, ...] = NAMES,
    n: int = 3,
    **changes: Any,
) -> ResultRow:
    rng = np.random.default_rng(abs(hash((len(images), labels == "hard", ipc))) % 2**32)
    top1 = np.clip(_top1(images, labels, ipc) + rng.normal(0, 0.012, n), 0, 1).round(4)
    per_class = np.clip(top1.mean() + rng.normal(0, 0.09, len(names)), 0, 1).round(4)
    step = np.unique(np.linspace(0, 2000, 41).astype(int))
    loss = 0.3 + 2 * np.exp(-step / (500 + 30 * len(images))) + rng.normal(0, 0.03, len(step))
    values = {
        "student": student,
        "images": images,
        "labels": labels,
        "ipc": ipc,
        "bytes": ipc * len(names) * {"hard": 430, "soft": 470}.get(labels, 2400),
        "steps": 2000,
        "n": n,
        "top1_mean": float(top1.mean()),
        "top1_std": float(top1.std(ddof=1)) if n > 1 else 0.0,
        "top1": tuple(top1.tolist()),
        "top5_mean": 0.9734,
        "top5_std": 0.0021 if n > 1 else 0.0,
        "seeds": tuple(range(n)),
        "seconds": 41.7,
        "per_class": tuple(per_class.tolist()),
        "confusion": _confusion(per_class, rng) if images == "distilled" else None,
        "curve": Curve(step=tuple(step.tolist()), loss=tuple(loss.round(4).tolist())),
    }
    return ResultRow.model_validate(values | changes, strict=False)


def _confusion(per_class: np.ndarray, rng: np.random.Generator) -> tuple[tuple[int, ...], ...]:
    """Counts out of 200 test images of each class."""
    size = len(per_class)
    others = rng.dirichlet(np.full(size, 0.3), size) * (1 - np.eye(size))
    others /= np.maximum(others.sum(1, keepdims=True), 1e-9)
    shares = per_class[:, None] * np.eye(size) + (1 - per_class[:, None]) * others
    return tuple(tuple(int(value) for value in row) for row in (200 * shares).round())


def equivalent(labels: str = "hard", **changes: Any) -> Equivalent:
    values = {
        "student": "resnet10-w16",
        "labels": labels,
        "ipc": 23.4,
        "low": 19.2,
        "high": 28.1,
        "bound": "interpolated",
    }
    return Equivalent(**values | changes)


def _rows(labels: str, names: tuple[str, ...], n: int) -> list[ResultRow]:
    sets = [("distilled", IPC), ("nearest", IPC), ("herding", IPC), ("full", 1000)]
    sets += [("random", ipc) for ipc in (1, 5, IPC, 20, 50)]
    return [report_row(images, labels, ipc, names=names, n=n) for images, ipc in sets]


def projection(classes: int, ipc: int = IPC) -> ResultRow:
    rng = np.random.default_rng(1)
    centres = rng.normal(0, 4, (classes, 2))

    def cloud(each: int, spread: float) -> tuple[tuple[float, float, int], ...]:
        labels = np.repeat(np.arange(classes), each)
        points = centres[labels] + rng.normal(0, spread, (len(labels), 2))
        return tuple((float(x), float(y), int(c)) for (x, y), c in zip(points, labels, strict=True))

    return Projection(
        method="PCA", real=cloud(80, 1.0), atoms=cloud(ipc, 0.6), distilled=cloud(ipc, 0.65)
    )


def report(
    names: tuple[str, ...] = NAMES,
    labels: tuple[str, ...] = ("hard", "soft"),
    n: int = 3,
    ipc: int = IPC,
    **changes: Any,
) -> Report:
    values = {
        "format_version": FORMAT_VERSION,
        "created": "2026-01-01T00:00:00Z",
        "command": "wdistill evaluate runs/fashion-mnist-ipc10 --seeds 3",
        "source": EvaluatedSet(
            id="runs/fashion-mnist-ipc10",
            kind="run",
            url=None,
            revision=None,
            fingerprint="feedc0de",
            images=ipc * len(names),
            ipc=ipc,
            classes=names,
        ),
        "against": RealData(
            id="zalando-datasets/fashion_mnist",
            url="https://huggingface.co/datasets/zalando-datasets/fashion_mnist",
            revision="0123456789abcdef0123456789abcdef01234567",
            fingerprint="c0ffee",
            train_split="train",
            eval_split="test",
            train_images=10000,
            eval_images=2000,
        ),
        "resolution": 28,
        "recipe": Recipe(
            lr=0.001,
            weight_decay=0.01,
            epochs=None,
            steps=2000,
            batch_size=64,
            temperature=20.0,
            crop_min=0.4,
        ),
        "teacher": TeacherScore(name="resnet18-w64", accuracy=0.9312),
        "rows": [row for each in labels for row in _rows(each, names, n)],
        "equivalents": [equivalent(each) for each in labels],
        "plain_rows": [],
        "scores": [scores()],
        "local_students": {},
        "projection": projection(len(names)),
        "device": "cpu (2 threads)",
        "versions": {"python": "3.11.7", "torch": "2.13.0", "wdistill": "0.2.0"},
    } | changes
    return Report.model_validate(values, strict=False)


def scores(**changes: Any) -> Scores:
    values = {
        "student": "resnet10-w16",
        "improvement_over_random": 6.94,
        "hard_label_recovery": 22.71,
        "label_robust_score": 23.84,
        "augmentation_robust_score": None,
    }
    return Scores(**values | changes)


def run_report(**changes: tuple[float, float, int]) -> Report:
    """As a run of three classes with four images each ends with; rows are given as
    ``distilled_soft=(mean, std, n)``.
    """
    numbers = {
        "distilled_soft": (0.7345, 0.0041, 2),
        "random_soft": (0.6918, 0.0123, 2),
        "distilled_hard": (0.6021, 0.0080, 2),
        "random_hard": (0.6347, 0.0052, 2),
    } | changes
    rows = [
        report_row(
            *name.split("_"), ipc=4, names=NAMES[:3], n=n, top1_mean=mean, top1_std=std,
            top1=(mean,) * n, seconds=12.3,
        )
        for name, (mean, std, n) in numbers.items()
    ]  # fmt: skip
    return report(NAMES[:3], ipc=4, rows=rows, equivalents=[], scores=[], projection=None)


def gallery(names: tuple[str, ...] = NAMES, ipc: int = IPC, side: int = 28) -> Gallery:
    """Soft blobs, a shape for each class: every image differs."""
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(len(names)), ipc)
    y, x = np.mgrid[0:side, 0:side] / side
    waves = np.stack([np.sin(6 * x * (1 + c % 3) + 4 * y * (1 + c % 4)) for c in labels])
    real = np.repeat((127 + 90 * waves)[..., None], 3, axis=-1)
    images = np.clip(real + rng.normal(0, 22, real.shape), 0, 255).astype(np.uint8)
    real = np.clip(real, 0, 255).astype(np.uint8)
    distances = np.sqrt(np.mean((images / 255 - real / 255) ** 2, axis=(1, 2, 3)))
    weights = rng.dirichlet(np.full(ipc, 3.0), len(names)).reshape(-1)
    return Gallery(images, labels, weights, real, distances)
