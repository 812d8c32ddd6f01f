"""report.json and the gallery: what an evaluation found, as plain data."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wdistill.config import FORMAT_VERSION, StudentConfig
from wdistill.core.devices import device_name, versions
from wdistill.core.seeds import stream
from wdistill.core.text import displayed, without_folders
from wdistill.data.dataset import ImageData
from wdistill.data.pixels import to_float
from wdistill.evaluation.comparison import Comparison
from wdistill.evaluation.metrics import (
    Equivalent,
    augmentation_robust_score,
    label_robust_score,
    nearest_real,
    score_network,
)
from wdistill.evaluation.page.report import Gallery
from wdistill.evaluation.students import (
    StudentSetting,
)

SHOWN_CLASSES, SHOWN_REAL = 10, 150  # in the projection
Json = dict[str, Any]


def build_report(
    comparison: Comparison,
    setting: StudentSetting,
    outcomes: list[Json],
    worth: Mapping[tuple[str, str], Equivalent],
    command: str,
) -> Json:
    """The content of report.json, see REPORT in :mod:`wdistill.artifact.schema`."""
    candidate, real, subject = comparison.candidate, comparison.real, comparison.subject
    count = len(candidate.labels)
    teacher = _teacher(comparison)
    accuracy = teacher["accuracy"] if teacher else None
    summary = summarise(outcomes, setting.config, count, accuracy, len(comparison.test))
    recipe = {k: v for k, v in summary["recipe"].items() if k != "eval_images"}
    names = displayed(comparison.students)
    rows = [{**row, "student": names[row["student"]]} for row in summary["rows"]]
    for row in rows:
        row["bytes"] = _bytes(comparison, row)
    counts = torch.bincount(candidate.labels, minlength=comparison.classes)
    return {
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": shlex.join(without_folders(shlex.split(command))),
        "source": {
            **{name: getattr(subject, name) for name in ("id", "kind", "url", "revision")},
            "fingerprint": subject.fingerprint,
            "images": count,
            "ipc": int(counts[0]) if bool((counts == counts[0]).all()) else None,
            "classes": list(real.class_names),
        },
        "against": {
            **{name: getattr(real.source, name) for name in ("id", "url", "revision")},
            "fingerprint": real.source.fingerprint,
            "train_split": real.train_split,
            "eval_split": real.eval_place if real.eval_is_holdout else real.eval_split,
            "train_images": len(real.train),
            "eval_images": len(real.eval),
        },
        "resolution": comparison.train.preprocessing.resolution,
        "recipe": recipe,
        "teacher": teacher,
        "rows": [row for row in rows if row["augment"]],
        "plain_rows": [row for row in rows if not row["augment"]],
        "equivalents": [
            {"student": names[student], "labels": labels, **vars(found)}
            for (student, labels), found in worth.items()
        ],
        "scores": _scores(rows),
        "projection": _projection(comparison),
        "device": device_name(comparison.accelerator.device),
        "versions": versions(),
    }


def _teacher(comparison: Comparison) -> Json | None:
    if comparison.teacher is None or comparison.network is None:
        return None
    known = comparison.subject.manifest if comparison.config.teacher is None else None
    name = known["teacher"]["backbone"] if known else str(without_folders(comparison.teacher.name))
    if known and comparison.subject.folder is not None and _is_of(comparison.real, known["source"]):
        return {"name": name, "accuracy": known["teacher"]["accuracy"]}
    return {"name": name, "accuracy": score_network(comparison.network, comparison.test).top1}


def _is_of(real: ImageData, recorded: Json) -> bool:
    """Whether what ``recorded`` says of its evaluation images is said of those of ``real``."""
    return real.is_of(recorded["fingerprint"]) and real.eval_split == recorded["eval_split"]


def _bytes(comparison: Comparison, row: Json) -> int:
    """Of the images as PNG at the working resolution, of their weights and of what labels them:
    8 for a class, 4 C for a soft label, and the teacher's weights where it is asked.
    """
    candidate = comparison.candidate
    if row["images"] == "distilled":
        images, count = comparison.own_bytes, len(candidate.labels)
    else:
        count = (
            len(comparison.train) if row["images"] == "full" else row["ipc"] * comparison.classes
        )
        images = round(comparison.real_bytes * count)
    own = comparison.subject.label_bytes / len(candidate.labels)  # of the views of one image
    label = {"hard": 8, "soft": 4 * comparison.classes, "views": own, "teacher": 0}[row["labels"]]
    weight = 4 if row["images"] in ("distilled", "nearest") else 0
    teacher = 0
    if row["labels"] == "teacher" and comparison.teacher is not None:
        teacher = 4 * sum(p.numel() for p in comparison.teacher.model.parameters())
    return round(images + count * (label + weight) + teacher)


def _scores(rows: list[Json]) -> list[Json]:
    """DD-Ranking's scores of each student, in percent; None where a part is missing."""
    own = {row["student"]: row["ipc"] for row in rows if row["images"] == "distilled"}
    top1 = {
        (r["student"], r["images"], r["labels"], r["augment"]): r["top1_mean"]
        for r in rows  # random real images were also tried at other numbers of images
        if r["images"] != "random" or r["ipc"] == own[r["student"]]
    }
    scores = []
    for student in dict.fromkeys(row["student"] for row in rows):

        def gain(labels: str, augment: bool = True, student: str = student) -> float | None:
            own, rival = (
                top1.get((student, kind, labels, augment)) for kind in ("distilled", "random")
            )
            return None if own is None or rival is None else own - rival

        best = next(
            (x for x in ("soft", "views", "teacher", "hard") if gain(x) is not None), "hard"
        )
        improvement, full = gain(best), top1.get((student, "full", "hard", True))
        hard = top1.get((student, "distilled", "hard", True))
        recovery = None if full is None or hard is None else full - hard
        robust = with_out = None
        if improvement is not None and recovery is not None:
            robust = label_robust_score(improvement, recovery)
        plain = gain(best, False)
        if improvement is not None and plain is not None:
            with_out = augmentation_robust_score(improvement, plain)
        values = (improvement, recovery, robust, with_out)
        names = (
            "improvement_over_random", "hard_label_recovery", "label_robust_score",
            "augmentation_robust_score",
        )  # fmt: skip
        told = {n: None if v is None else 100 * v for n, v in zip(names, values, strict=True)}
        scores.append({"student": student, **told})
    return scores


@torch.no_grad()
def _projection(comparison: Comparison) -> Json | None:
    """The first two principal axes of the real features: real images, atoms and the set."""
    if comparison.network is None:
        return None
    classes = range(min(SHOWN_CLASSES, comparison.classes))
    real, draw = [], stream(comparison.seed, "projection")
    for c in classes:
        order = torch.randperm(len(comparison.features[c]), generator=draw)
        real.append(comparison.features[c][order[:SHOWN_REAL]])
    everything = torch.cat(real).double()
    centre = everything.mean(0)
    axes = torch.linalg.svd(everything - centre, full_matrices=False)[2][:2]
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()

    def points(parts: list[Tensor]) -> list[list[float]]:
        return [
            [round(float(x), 4), round(float(y), 4), c]
            for c, part in zip(classes, parts, strict=True)
            for x, y in (part.double() - centre) @ axes.T
        ]

    given = comparison.candidate
    own = [
        comparison.network(
            to_float(given.pixels[given.labels == c], comparison.network.device), False
        )
        for c in classes
    ]
    return {
        "method": "principal components of the teacher's features of real images",
        "real": points(real),
        "atoms": points([comparison.transport[c].positions for c in classes]),
        "distilled": points([out.features.cpu() for out in own]),
    }


def gallery(comparison: Comparison) -> Gallery:
    """The set's images and the real one nearest to each, within its class."""
    given = comparison.candidate
    nearest, distances = torch.zeros_like(given.pixels), torch.zeros(len(given.labels))
    for c in range(comparison.classes):
        mine, rows = (given.labels == c).nonzero()[:, 0], comparison.rows(c)
        found, distance = nearest_real(
            given.pixels[mine], comparison.train.batches(rows, 512), comparison.accelerator.device
        )
        nearest[mine], distances[mine] = comparison.train.get(rows[found]), distance
    shares = given.weights / torch.bincount(given.labels)[given.labels]
    return Gallery(
        images=given.pixels.permute(0, 2, 3, 1).contiguous().numpy(),
        labels=given.labels.numpy(),
        weights=None if comparison.subject.weights is None else shares.numpy(),
        nearest=nearest.permute(0, 2, 3, 1).contiguous().numpy(),
        distances=distances.numpy(),
    )


def summarise(
    outcomes: Iterable[dict[str, Any]],
    config: StudentConfig,
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
