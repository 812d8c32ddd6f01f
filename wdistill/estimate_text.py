"""An estimate as text."""

from __future__ import annotations

from wdistill.estimate import Estimate
from wdistill.published import human_bytes


def human_seconds(seconds: float) -> str:
    """E.g. ``42 s``, ``3 min 20 s``, ``5 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


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
    each = "a GPU"
    if found.device_memory is None:
        each = "a core" if found.threads == 1 else f"{found.threads} cores"
    lines.append(
        f"  measured in {human_seconds(found.calibrated)} on {found.device}; several processes "
        f"need {each} each"
    )
    return lines
