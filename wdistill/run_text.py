"""What a run found, as tables of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wdistill.html import clean


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


def results_table(results: dict[str, Any]) -> str:
    """Accuracy of students on the distilled and on random real images, as text."""
    rows = {(row["student"], row["labels"], row["images"]): row for row in results["rows"]}
    pairs = sorted({(student, labels) for student, labels, _ in rows})
    width = max(7, *(len(student) for student, _ in pairs))
    lines = [f"{'student':{width}}  labels  {'distilled':>14}  {'random real':>14}  difference"]
    for student, labels in pairs:
        ours, random = (rows[student, labels, images] for images in ("distilled", "random"))
        cells = [_score(row) for row in (ours, random)]
        gain = 100 * (ours["top1_mean"] - random["top1_mean"])
        lines.append(
            f"{student:{width}}  {labels:6}  {cells[0]:>14}  {cells[1]:>14}  {gain:+10.1f}"
        )
    return "\n".join(lines)


def _score(row: dict[str, Any]) -> str:
    spread = f" ± {100 * row['top1_std']:4.1f}" if row["n"] > 1 else ""
    return f"{row['top1_mean']:7.1%}{spread}"
