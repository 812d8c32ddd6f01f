"""Differences between a published set and its reproduction; pure functions without I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wdistill.artifact.manifest import Manifest
from wdistill.artifact.reading import PublishedSet
from wdistill.artifact.report import Report
from wdistill.core.text import Shown
from wdistill.labels.views import LabelViews, all_logits

SHAPES = ("image", "partner", "view", "crop", "flip", "mix")  # fields of a view without its labels
NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Gap:
    """The largest and the mean absolute difference of two arrays of the same shape."""

    largest: float
    mean: float


@dataclass(frozen=True)
class Accuracy:
    """Mean accuracy of the students in one row of the report, described by ``name``."""

    name: str
    was: float
    now: float


@dataclass(frozen=True)
class Change:
    """A version, device or count that differs from that of the published set."""

    name: str
    was: str
    now: str


@dataclass(frozen=True)
class Differences(Shown):
    """Differences between a reproduced set and the published one.

    Attributes:
        identical: Whether images, labels, weights, soft labels and label views are bit-identical.
        other: What cannot be compared, in words.
        images: Number of published images.
        same_images: Number of identical images.
        pixels: Gap of the pixels, from 0 to 255. A gap is None if ``other`` says why.
        weights: Gap of the weights.
        soft_labels: Gap of the soft labels.
        views: Gap of the logits of the label views.
        same_teacher: Whether the teachers have the same weights.
        teacher_accuracy: Accuracies of the two teachers.
        accuracies: Accuracies of the students.
        changes: Versions, devices and counts that differ.
    """

    identical: bool
    other: tuple[str, ...]
    images: int
    same_images: int
    pixels: Gap | None
    weights: Gap | None
    soft_labels: Gap | None
    views: Gap | None
    same_teacher: bool
    teacher_accuracy: Accuracy
    accuracies: tuple[Accuracy, ...]
    changes: tuple[Change, ...]

    def __str__(self) -> str:
        from wdistill.pipeline.tables import verdict  # noqa: PLC0415 (which needs this class)

        return verdict(self)


def compare(was: PublishedSet, now: PublishedSet) -> Differences:
    """Compare ``was``, the published set, with ``now``, its reproduction."""
    old, new = was.distilled, now.distilled
    incomparable = [*_other_shape(was, now), *_other_views(was.views, now.views)]
    same_shape = old.images.shape == new.images.shape and old.class_names == new.class_names
    same_views = _same_views(was.views, now.views)
    arrays = ("images", "labels", "weights", "soft_labels")
    same_arrays = same_shape and all(
        np.array_equal(getattr(old, n), getattr(new, n)) for n in arrays
    )
    teachers = was.manifest.teacher, now.manifest.teacher
    return Differences(
        identical=same_arrays and same_views,
        other=tuple(incomparable),
        images=len(old),
        same_images=int((old.images == new.images).all((1, 2, 3)).sum()) if same_shape else 0,
        pixels=_gap(old.images, new.images) if same_shape else None,
        weights=_gap(old.weights, new.weights) if same_shape else None,
        soft_labels=_gap(old.soft_labels, new.soft_labels) if same_shape else None,
        views=_views_gap(was.views, now.views, len(old.class_names)) if same_shape else None,
        same_teacher=teachers[0].weights_sha256 == teachers[1].weights_sha256,
        teacher_accuracy=Accuracy("teacher", *(teacher.accuracy for teacher in teachers)),
        accuracies=tuple(_accuracies(was.report, now.report)),
        changes=tuple(_changes(was.manifest, now.manifest)),
    )


def _gap(was: NDArray[Any], now: NDArray[Any]) -> Gap:
    difference = np.abs(was.astype(np.float64) - now)
    return Gap(float(difference.max()), float(difference.mean()))


def _other_shape(was: PublishedSet, now: PublishedSet) -> Iterator[str]:
    old, new = was.distilled, now.distilled
    if old.class_names != new.class_names:
        yield "the classes or their order are not the same"
    elif len(old) != len(new):
        yield f"there are {len(new)} images, and there were {len(old)}"
    elif old.images.shape != new.images.shape:
        yield f"images have {_size(new.images)} pixels, and had {_size(old.images)}"
    elif not np.array_equal(old.labels, new.labels):
        yield "the labels are not the same"


def _size(images: NDArray[np.uint8]) -> str:
    return f"{images.shape[2]} x {images.shape[1]}"


def _other_views(was: LabelViews | None, now: LabelViews | None) -> Iterator[str]:
    counts = [0 if views is None else views.count for views in (now, was)]
    if counts[0] != counts[1]:
        yield f"each image has {counts[0]} label views, and had {counts[1]}"
    elif was is not None and now is not None and not _same_shapes(was, now):
        yield "the label views are other crops or mixes"


def _equal_fields(was: LabelViews, now: LabelViews, names: tuple[str, ...]) -> bool:
    return all(torch.equal(getattr(was, name), getattr(now, name)) for name in names)


def _same_shapes(was: LabelViews, now: LabelViews) -> bool:
    return _equal_fields(was, now, SHAPES)


def _same_views(was: LabelViews | None, now: LabelViews | None) -> bool:
    if was is None or now is None:
        return was is now
    return _equal_fields(was, now, tuple(vars(was)))


def _views_gap(was: LabelViews | None, now: LabelViews | None, classes: int) -> Gap | None:
    if was is None or now is None or not _same_shapes(was, now):
        return None
    return _gap(all_logits(was, classes).numpy(), all_logits(now, classes).numpy())


def _accuracies(was: Report | None, now: Report | None) -> Iterator[Accuracy]:
    """Accuracies of the rows that both reports have."""
    old, new = _rows(was), _rows(now)
    shared = old.keys() & new.keys()
    several = len({key[-1] for key in shared}) > 1
    for key in sorted(shared):
        student, labels, images, ipc, optimizer = key
        name = f"{student}, {labels}, {images}, {ipc} images per class"
        name += f", {optimizer}" if several else ""
        yield Accuracy(name, old[key], new[key])


def _rows(report: Report | None) -> dict[tuple[str, str, str, int, str], float]:
    rows = () if report is None else report.rows
    return {
        (row.student, row.labels, row.images, row.ipc, row.optimizer): row.top1_mean for row in rows
    }


def _changes(was: Manifest, now: Manifest) -> Iterator[Change]:
    old, new = _circumstances(was), _circumstances(now)
    for name in dict.fromkeys([*new, *old]):
        values = old.get(name, NOT_RECORDED), new.get(name, NOT_RECORDED)
        if values[0] != values[1]:
            yield Change(name, *values)


def _circumstances(manifest: Manifest) -> dict[str, str]:
    """What a result may depend on besides its settings."""
    return {
        **manifest.versions,
        "device": manifest.device,
        "processes": str(manifest.processes),
        "threads": str(manifest.threads),
        **{f"revision of {name}": commit for name, commit in manifest.revisions.items()},
    }
