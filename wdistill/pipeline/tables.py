"""Text tables: transport distances, the estimate of a run, and differences of two sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wdistill.core.text import Shown, clean, human_bytes, human_seconds
from wdistill.pipeline.reproduction.differences import Accuracy, Differences, Gap


def transport_table(class_names: Sequence[str], w2: Any, max_classes: int = 20) -> str:
    """W2^2 of the atoms and of random real images per class; the mean comes last. Class names are
    untrusted: each stays on one line, without control characters.
    """
    class_names = [clean(name) for name in class_names]
    width = min(28, max(len(name) for name in (*class_names, "mean of all classes")))
    lines = [f"{'W2^2 to the real features':{width}}  {'atoms':>9}  {'random':>9}  ratio"]
    rows = [(name, *values) for name, values in zip(class_names[:max_classes], w2, strict=False)]
    if len(class_names) > max_classes:
        rows.append((f"... {len(class_names) - max_classes} more", float("nan"), float("nan")))
    for name, atoms, random in [*rows, ("mean of all classes", *w2.mean(0))]:
        if np.isnan(atoms):
            lines.append(name)
            continue
        ratio = f"{atoms / random:5.2f}" if random > 0 else "    -"
        lines.append(f"{name[:width]:{width}}  {atoms:9.3f}  {random:9.3f}  {ratio}")
    return "\n".join(lines)


@dataclass(frozen=True)
class Sizes:
    """Sizes in bytes.

    Attributes:
        run: The finished run folder.
        published: The published set in it.
        label_views: The label views in the published set.
        pixels: Decoded images on the disk while the run lasts.
    """

    run: int
    published: int
    label_views: int
    pixels: int


@dataclass(frozen=True)
class Estimate(Shown):
    """Estimated cost of a run from its beginning.

    Attributes:
        resolution: Side of the images in pixels.
        images: Number of distilled images, in ``units`` groups that can be computed in parallel,
            with ``steps`` steps each.
        training_steps: Steps of the teacher's training; 0 if it is used as it is.
        seconds: By number of processes and stage.
        memory: Peak memory of a process in bytes, 0 if unknown.
        device_memory: Peak memory of its GPU in bytes, None without one.
        threads: CPU threads of this process.
        calibrated: Seconds that the estimate took.
    """

    classes: int
    train_images: int
    test_images: int
    resolution: int
    images: int
    units: int
    steps: int
    training_steps: int
    students: int
    student_steps: int
    seconds: Mapping[int, Mapping[str, float]]
    memory: int
    device_memory: int | None
    disk: Sizes
    device: str
    threads: int
    calibrated: float

    def __str__(self) -> str:
        return estimate_table(self)


def estimate_table(estimate: Estimate) -> str:
    """Amount of work, time of each stage by number of processes, memory and disk space."""
    counts = tuple(estimate.seconds)
    rows = [("", *(f"{n} process{'es' if n > 1 else ''}" for n in counts))]
    for stage in estimate.seconds[counts[0]]:
        rows.append((stage, *(human_seconds(estimate.seconds[n][stage]) for n in counts)))
    rows.append(("total", *(human_seconds(sum(estimate.seconds[n].values())) for n in counts)))
    table = [f"  {row[0]:9}" + "".join(f"{cell:>13}" for cell in row[1:]) for row in rows]
    return "\n".join([*_work(estimate), *table, *_room(estimate)])


def _work(estimate: Estimate) -> list[str]:
    training = (
        f"{estimate.training_steps:,} steps of training"
        if estimate.training_steps
        else "used as it is"
    )
    groups = "one group" if estimate.units == 1 else f"{estimate.units:,} groups"
    students = (
        f"{estimate.students:,} of {estimate.student_steps:,} steps each"
        if estimate.students
        else "none"
    )
    return [
        f"estimate: {estimate.classes:,} classes, {estimate.train_images:,} training and "
        f"{estimate.test_images:,} test images at {estimate.resolution} px",
        f"  teacher: {training}; students: {students}",
        f"  distilled images: {estimate.images:,} of {estimate.steps:,} steps each, in {groups} of "
        "classes that can be worked on at once",
    ]


def _room(estimate: Estimate) -> list[str]:
    lines = []
    if estimate.memory:
        lines.append(f"  memory of a process, at most: {human_bytes(estimate.memory)}")
    if estimate.device_memory is not None:
        lines.append(f"  memory of its GPU, at most: {human_bytes(estimate.device_memory)}")
    views = f", {human_bytes(estimate.disk.label_views)} of it label views"
    lines.append(
        f"  run folder: {human_bytes(estimate.disk.run)}; the published set in it: "
        f"{human_bytes(estimate.disk.published)}{views if estimate.disk.label_views else ''}"
    )
    if estimate.disk.pixels:
        lines.append(
            f"  decoded images, on the disk until the run ends: {human_bytes(estimate.disk.pixels)}"
        )
    resource = "a GPU"
    if estimate.device_memory is None:
        resource = "a core" if estimate.threads == 1 else f"{estimate.threads} cores"
    lines.append(
        f"  measured in {human_seconds(estimate.calibrated)} on {estimate.device}; "
        f"several processes need {resource} each"
    )
    return lines


MOST_ROWS = 20


def verdict(differences: Differences) -> str:
    """Whether the sets are identical, how they differ, and what may explain it."""
    lines = [_headline(differences), *(f"  {line}" for line in _details(differences))]
    lines += [f"  {change.name}: {change.now}, was {change.was}" for change in differences.changes]
    if not differences.identical:
        lines.append(_explanation(differences))
    return "\n".join(map(_plain, lines))


def _headline(differences: Differences) -> str:
    if differences.identical:
        views = "" if differences.views is None else ", label views"
        return (
            f"bit-identical: {differences.images} images, their labels, weights, soft labels{views}"
        )
    return f"not identical: {differences.same_images} of {differences.images} images are the same"


def _details(differences: Differences) -> Iterator[str]:
    yield from differences.other
    if not differences.identical:
        gaps = {
            "pixels (of 255)": differences.pixels,
            "weights": differences.weights,
            "soft labels": differences.soft_labels,
            "logits of the label views": differences.views,
        }
        for name, gap in gaps.items():
            if gap is not None:
                yield f"{name}: {_gap_text(gap)}"
    if not differences.same_teacher:
        change = _change(differences.teacher_accuracy)
        yield f"the teacher has other weights; its accuracy: {change}"
    rows = differences.accuracies
    if rows and all(row.was == row.now for row in rows):
        yield f"accuracy of students: the same in all {len(rows)} rows of the report"
        return
    for row in rows[:MOST_ROWS]:
        yield f"accuracy of {row.name}: {_change(row)}"
    if len(rows) > MOST_ROWS:
        largest = max(rows, key=lambda row: abs(row.now - row.was))
        yield f"... {len(rows) - MOST_ROWS} more rows; largest, {largest.name}: {_change(largest)}"


def _gap_text(gap: Gap) -> str:
    if gap.largest == 0:
        return "the same"
    return f"{gap.mean:.2g} apart on average, {gap.largest:.2g} at most"


def _change(row: Accuracy) -> str:
    return f"{row.now:.1%}, was {row.was:.1%} ({100 * (row.now - row.was):+z.1f})"


def _explanation(differences: Differences) -> str:
    if differences.changes:
        names = ", ".join(change.name for change in differences.changes)
        return f"what may explain it: {names} (see above)"
    return (
        "versions, device and threads are the same and do not explain it: the set was made with "
        "other settings than it says, or its files were changed"
    )


def _plain(line: str) -> str:
    """Replace control characters, because names come from untrusted files."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
