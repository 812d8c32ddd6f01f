"""What a run found, as tables of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from wdistill.core.text import clean, human_bytes, human_seconds
from wdistill.pipeline.estimate import Estimate
from wdistill.pipeline.reproduction.differences import Accuracy, Differences, Gap


def transport_table(class_names: Sequence[str], w2: Any, most: int = 20) -> str:
    """W2^2 of the atoms and of random real images per class, as text; the mean comes last. Names of
    classes may be anyone's: each stays one line, without control characters.
    """
    class_names = [clean(name) for name in class_names]
    width = min(28, max(len(name) for name in (*class_names, "mean of all classes")))
    lines = [f"{'W2^2 to the real features':{width}}  {'atoms':>9}  {'random':>9}  ratio"]
    shown = [(name, *values) for name, values in zip(class_names[:most], w2, strict=False)]
    if len(class_names) > most:
        shown.append((f"... {len(class_names) - most} more", float("nan"), float("nan")))
    for name, atoms, random in [*shown, ("mean of all classes", *w2.mean(0))]:
        if np.isnan(atoms):
            lines.append(name)
            continue
        ratio = f"{atoms / random:5.2f}" if random > 0 else "    -"
        lines.append(f"{name[:width]:{width}}  {atoms:9.3f}  {random:9.3f}  {ratio}")
    return "\n".join(lines)


def estimate_table(found: Estimate) -> str:
    """What is to be done, seconds of each stage by number of processes, memory and bytes."""
    counts = tuple(found.seconds)
    rows = [("", *(f"{n} process{'es' if n > 1 else ''}" for n in counts))]
    for stage in found.seconds[counts[0]]:
        rows.append((stage, *(human_seconds(found.seconds[n][stage]) for n in counts)))
    rows.append(("total", *(human_seconds(sum(found.seconds[n].values())) for n in counts)))
    table = [f"  {row[0]:9}" + "".join(f"{cell:>13}" for cell in row[1:]) for row in rows]
    return "\n".join([*_work(found), *table, *_room(found)])


def _work(found: Estimate) -> list[str]:
    training = (
        f"{found.training_steps:,} steps of training" if found.training_steps else "used as it is"
    )
    groups = "one group" if found.units == 1 else f"{found.units:,} groups"
    students = (
        f"{found.students:,} of {found.student_steps:,} steps each" if found.students else "none"
    )
    return [
        f"estimate: {found.classes:,} classes, {found.train_images:,} training and "
        f"{found.test_images:,} test images at {found.resolution} px",
        f"  teacher: {training}; students: {students}",
        f"  distilled images: {found.images:,} of {found.steps:,} steps each, in {groups} of "
        "classes that can be worked on at once",
    ]


def _room(found: Estimate) -> list[str]:
    lines = []
    if found.memory:
        lines.append(f"  memory of a process, at most: {human_bytes(found.memory)}")
    if found.device_memory is not None:
        lines.append(f"  memory of its GPU, at most: {human_bytes(found.device_memory)}")
    views = f", {human_bytes(found.disk.label_views)} of it label views"
    lines.append(
        f"  run folder: {human_bytes(found.disk.run)}; the published set in it: "
        f"{human_bytes(found.disk.published)}{views if found.disk.label_views else ''}"
    )
    if found.disk.pixels:
        lines.append(
            f"  decoded images, on the disk until the run ends: {human_bytes(found.disk.pixels)}"
        )
    each = "a GPU"
    if found.device_memory is None:
        each = "a core" if found.threads == 1 else f"{found.threads} cores"
    lines.append(
        f"  measured in {human_seconds(found.calibrated)} on {found.device}; several processes "
        f"need {each} each"
    )
    return lines


MOST_ROWS = 20


def verdict(found: Differences) -> str:
    """Some lines: identical or how far from it, and what may explain it."""
    lines = [_headline(found), *(f"  {line}" for line in _details(found))]
    lines += [f"  {change.name}: {change.now}, was {change.was}" for change in found.changes]
    if not found.identical:
        lines.append(_explanation(found))
    return "\n".join(map(_plain, lines))


def _headline(found: Differences) -> str:
    if found.identical:
        views = "" if found.views is None else ", label views"
        return f"bit-identical: {found.images} images, their labels, weights, soft labels{views}"
    return f"not identical: {found.same_images} of {found.images} images are the same"


def _details(found: Differences) -> Iterator[str]:
    yield from found.other
    if not found.identical:
        gaps = {
            "pixels (of 255)": found.pixels,
            "weights": found.weights,
            "soft labels": found.soft_labels,
            "logits of the label views": found.views,
        }
        for name, gap in gaps.items():
            if gap is not None:
                yield f"{name}: {_apart(gap)}"
    if not found.same_teacher:
        yield f"the teacher has other weights; its accuracy: {_moved(found.teacher_accuracy)}"
    rows = found.accuracies
    if rows and all(row.was == row.now for row in rows):
        yield f"accuracy of students: the same in all {len(rows)} rows of the report"
        return
    for row in rows[:MOST_ROWS]:
        yield f"accuracy of {row.name}: {_moved(row)}"
    if len(rows) > MOST_ROWS:
        largest = max(rows, key=lambda row: abs(row.now - row.was))
        yield f"... {len(rows) - MOST_ROWS} more rows; largest, {largest.name}: {_moved(largest)}"


def _apart(gap: Gap) -> str:
    if gap.largest == 0:
        return "the same"
    return f"{gap.mean:.2g} apart on average, {gap.largest:.2g} at most"


def _moved(row: Accuracy) -> str:
    return f"{row.now:.1%}, was {row.was:.1%} ({100 * (row.now - row.was):+.1f})"


def _explanation(found: Differences) -> str:
    if found.changes:
        names = ", ".join(change.name for change in found.changes)
        return f"what may explain it: {names} (see above)"
    return (
        "versions, device and threads are the same and do not explain it: the set was made with "
        "other settings than it says, or its files were changed"
    )


def _plain(line: str) -> str:
    """Names come from files that anyone may have written; a terminal obeys control characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
