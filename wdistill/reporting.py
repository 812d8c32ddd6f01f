"""report.json and the gallery: what an evaluation found, as plain data."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from wdistill.accuracy import score_network
from wdistill.artifact import FORMAT_VERSION
from wdistill.bench import Bench
from wdistill.data import ImageData
from wdistill.distances import nearest_real
from wdistill.equivalent import Equivalent
from wdistill.evaluate import Contest, summarise
from wdistill.manifest import device_name, displayed, versions, without_folders
from wdistill.pixels import to_float
from wdistill.ranking import augmentation_robust_score, label_robust_score
from wdistill.report import Gallery
from wdistill.seeds import stream

SHOWN_CLASSES, SHOWN_REAL = 10, 150  # in the projection

Json = dict[str, Any]


def build_report(
    bench: Bench,
    contest: Contest,
    outcomes: list[Json],
    worth: Mapping[tuple[str, str], Equivalent],
    command: str,
) -> Json:
    """The content of report.json, see REPORT in :mod:`wdistill.schema`."""
    candidate, real, subject = bench.candidate, bench.real, bench.subject
    count = len(candidate.labels)
    teacher = _teacher(bench)
    accuracy = teacher["accuracy"] if teacher else None
    summary = summarise(outcomes, contest.config, count, accuracy, len(bench.test))
    recipe = {k: v for k, v in summary["recipe"].items() if k != "eval_images"}
    names = displayed(bench.students)
    rows = [{**row, "student": names[row["student"]]} for row in summary["rows"]]
    for row in rows:
        row["bytes"] = _bytes(bench, row)
    counts = torch.bincount(candidate.labels, minlength=bench.classes)
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
        "resolution": bench.train.preprocessing.resolution,
        "recipe": recipe,
        "teacher": teacher,
        "rows": [row for row in rows if row["augment"]],
        "plain_rows": [row for row in rows if not row["augment"]],
        "equivalents": [
            {"student": names[student], "labels": labels, **vars(found)}
            for (student, labels), found in worth.items()
        ],
        "scores": _scores(rows),
        "projection": _projection(bench),
        "device": device_name(bench.accelerator.device),
        "versions": versions(),
    }


def _teacher(bench: Bench) -> Json | None:
    if bench.teacher is None or bench.network is None:
        return None
    known = bench.subject.manifest if bench.config.teacher is None else None
    name = known["teacher"]["backbone"] if known else str(without_folders(bench.teacher.name))
    if known and bench.subject.folder is not None and _is_of(bench.real, known["source"]):
        return {"name": name, "accuracy": known["teacher"]["accuracy"]}
    return {"name": name, "accuracy": score_network(bench.network, bench.test).top1}


def _is_of(real: ImageData, recorded: Json) -> bool:
    """Whether what ``recorded`` says of its evaluation images is said of those of ``real``."""
    return real.is_of(recorded["fingerprint"]) and real.eval_split == recorded["eval_split"]


def _bytes(bench: Bench, row: Json) -> int:
    """Of the images as PNG at the working resolution, of their weights and of what labels them:
    8 for a class, 4 C for a soft label, and the teacher's weights where it is asked.
    """
    candidate = bench.candidate
    if row["images"] == "distilled":
        images, count = bench.own_bytes, len(candidate.labels)
    else:
        count = len(bench.train) if row["images"] == "full" else row["ipc"] * bench.classes
        images = round(bench.real_bytes * count)
    own = bench.subject.label_bytes / len(candidate.labels)  # of the views of one image
    label = {"hard": 8, "soft": 4 * bench.classes, "views": own, "teacher": 0}[row["labels"]]
    weight = 4 if row["images"] in ("distilled", "nearest") else 0
    teacher = 0
    if row["labels"] == "teacher" and bench.teacher is not None:
        teacher = 4 * sum(p.numel() for p in bench.teacher.model.parameters())
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
def _projection(bench: Bench) -> Json | None:
    """The first two principal axes of the real features: real images, atoms and the set."""
    if bench.network is None:
        return None
    classes = range(min(SHOWN_CLASSES, bench.classes))
    real, draw = [], stream(bench.seed, "projection")
    for c in classes:
        order = torch.randperm(len(bench.features[c]), generator=draw)
        real.append(bench.features[c][order[:SHOWN_REAL]])
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

    given = bench.candidate
    own = [
        bench.network(to_float(given.pixels[given.labels == c], bench.network.device), False)
        for c in classes
    ]
    return {
        "method": "principal components of the teacher's features of real images",
        "real": points(real),
        "atoms": points([bench.transport[c].positions for c in classes]),
        "distilled": points([out.features.cpu() for out in own]),
    }


def gallery(bench: Bench) -> Gallery:
    """The set's images and the real one nearest to each, within its class."""
    given = bench.candidate
    nearest, distances = torch.zeros_like(given.pixels), torch.zeros(len(given.labels))
    for c in range(bench.classes):
        mine, rows = (given.labels == c).nonzero()[:, 0], bench.rows(c)
        found, distance = nearest_real(
            given.pixels[mine], bench.train.batches(rows, 512), bench.accelerator.device
        )
        nearest[mine], distances[mine] = bench.train.get(rows[found]), distance
    shares = given.weights / torch.bincount(given.labels)[given.labels]
    return Gallery(
        images=given.pixels.permute(0, 2, 3, 1).contiguous().numpy(),
        labels=given.labels.numpy(),
        weights=None if bench.subject.weights is None else shares.numpy(),
        nearest=nearest.permute(0, 2, 3, 1).contiguous().numpy(),
        distances=distances.numpy(),
    )
