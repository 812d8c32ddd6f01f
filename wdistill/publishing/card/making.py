"""How a set was made: the teacher, the labels, the budget, the transport."""

from __future__ import annotations

import statistics
from itertools import chain
from typing import Any

from wdistill.artifact.manifest import Manifest
from wdistill.artifact.records import BudgetRecord, CodingRecord, LabelRecord
from wdistill.core.text import human_bytes, human_seconds
from wdistill.data.content.coding import Coding
from wdistill.evaluation.wording import number, percent
from wdistill.publishing.card.markdown import is_hub_id, link
from wdistill.publishing.card.metadata import HUB

Json = dict[str, Any]
_MAX_CLASSES = 20
_ORIGINS = {
    "as_is": "used as it is, its classes being those of the source",
    "fine_tuned": "fine-tuned on the training split of the source",
    "from_scratch": "trained from scratch on the training split of the source",
}
_GIVERS = {
    "teacher": "the teacher",
    "committee": "a committee of two, the teacher and a small ConvNet trained for {steps:,} steps,",
    "none": "nobody",
}
_STARTS = {
    "real": "each image starts from the real training image nearest to its atom",
    "mean": "each image starts from the weighted mean of the real images of its atom",
    "noise": "each image starts from noise that has the spectrum of the real images",
}


def making(manifest: Manifest) -> Json:
    """How it was made, and how close it is to the source."""
    config = manifest.config
    return {
        "teacher": _teacher(manifest),
        "local_students": manifest.local_students,
        "made": _made(manifest),
        "weights": config.barycenter.weights,
        "groups": _groups(manifest),
        "views": config.relabel.views,
        "giver": _GIVERS[manifest.labels.giver].format(steps=config.relabel.committee_steps),
        "hard_labels": manifest.labels.giver == "none",
        "hard_soft": manifest.labels.hard_soft,
        "coding": str(manifest.coding),
        "grey": manifest.coding.grey,
        "lossy": manifest.coding.quality is not None,
        "made_for": Coding(manifest.coding.format, manifest.coding.quality).is_coarse,
        "tried": _tried(manifest.coding),
        "budget": manifest.budget and human_bytes(manifest.budget.bytes),
        "spendings": _spendings(manifest.budget) if manifest.budget else [],
        "chosen": manifest.budget is not None and manifest.budget.images == "chosen",
        "images_tried": manifest.budget is not None
        and any(trial.images == "distilled" for trial in manifest.budget.tried),
        "spent_warm": manifest.budget is not None
        and any(trial.temperature != 1 for trial in manifest.budget.tried),
        "labels_tried": _labels_tried(manifest.labels),
        "stored": _stored(manifest),
        "start": _STARTS[config.synthesis.init],
        "init": config.synthesis.init,
        "for_convnets": config.synthesis.aim == "convnet",
        "pool": [space for space in config.synthesis.feature_spaces if space != "none"],
        "iterations": config.synthesis.iterations,
        "entropy": config.synthesis.ce_weight > 0,
        "untouched": manifest.untouched,
        "temperature": number(manifest.temperature),
        "transport": _transport(manifest),
    }


def _made(manifest: Manifest) -> str:
    """How long it took to make the set, without its evaluation."""
    seconds = {k: v for k, v in manifest.seconds.items() if k != "evaluate"}
    if not seconds:
        return ""
    return f"The set was made in {human_seconds(sum(seconds.values()))} on {manifest.device}."


def _teacher(manifest: Manifest) -> Json:
    teacher = manifest.teacher
    on_hub = teacher.revision and is_hub_id(teacher.backbone)
    return {
        "link": link(teacher.backbone, f"{HUB}/{teacher.backbone}" if on_hub else None),
        "architecture": teacher.architecture,
        "origin": _ORIGINS[teacher.origin],
        "parameters": f"{teacher.parameters:,}",
        "accuracy": percent(teacher.accuracy),
    }


def _groups(manifest: Manifest) -> Json | None:
    """The column that split each class into several measures; None if there was none."""
    column, count = manifest.config.data.group_column, manifest.source.groups
    if not column or not count:
        return None
    proportional = manifest.config.barycenter.group_weights == "proportional"
    return {
        "column": column,
        "count": count,
        "weighted": "in proportion to their images" if proportional else "equally",
    }


def _tried(coding: CodingRecord) -> str:
    """The mean accuracies that a quality was chosen from."""
    return ", ".join(
        f"{percent(sum(trial.top1) / len(trial.top1))} "
        + ("without loss" if trial.quality is None else f"at {trial.quality}")
        for trial in coding.tried
    )


def _labels_tried(labels: LabelRecord) -> str:
    """The mean accuracies that the giver of the labels was chosen from."""
    return "; ".join(
        f"{trial} {' and '.join(percent(sum(kind) / len(kind)) for kind in trial.top1)}"
        for trial in labels.tried
    )


def _spendings(budget: BudgetRecord) -> list[Json]:
    """What a budget could have been spent on: the last accuracy that each was judged by."""
    last = {
        (trial.images, trial.ipc, trial.quality, trial.views, trial.temperature): trial
        for trial in budget.tried
    }
    return [
        {
            "images": trial.images,
            "ipc": trial.ipc,
            "quality": "lossless" if trial.quality is None else trial.quality,
            "views": f"{trial.views}"
            + ("" if trial.temperature == 1 else f" (T = {trial.temperature:g})"),
            "steps": trial.steps,
            "top1": percent(trial.mean),
        }
        for trial in last.values()
    ]


def _stored(manifest: Manifest) -> Json | None:
    """The configuration of label views; None if there is none."""
    views = manifest.label_views
    if views is None:
        return None
    return {
        "views": views.views,
        "rows": f"{views.views * manifest.images:,}",
        "topk": views.topk,
        "levels": views.levels,
        "temperature": number(views.temperature),
        "cut": views.topk < len(manifest.classes),
    }


def _transport(manifest: Manifest) -> Json:
    w2, w2_random = manifest.barycenter.w2, manifest.barycenter.w2_random
    nearest = manifest.distances.nearest_real_rmse
    names = manifest.classes
    rows = [
        {
            "name": names[c],
            "images": manifest.per_class[c],
            "w2": number(w2[c]),
            "w2_random": number(w2_random[c]),
            "nearest": number(statistics.fmean(nearest[c])),
            "closest": number(min(nearest[c])),
        }
        for c in range(min(_MAX_CLASSES, len(names)))
    ]
    return {
        "w2": number(statistics.fmean(w2)),
        "w2_random": number(statistics.fmean(w2_random)),
        "nearest": number(statistics.fmean(chain.from_iterable(nearest))),
        "closest": number(min(chain.from_iterable(nearest))),
        "rows": rows,
        "more": max(0, len(names) - _MAX_CLASSES),
    }
