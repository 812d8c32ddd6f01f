"""Tables of the report page, and its figures in words.

Pure functions of a report. Nothing here is escaped, and only links are HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from wdistill.artifact.claims.optimizers import Gain, survivals
from wdistill.artifact.claims.worth import bound, interval, own_ipc, verdict, why_untold
from wdistill.artifact.report import (
    Equivalent,
    Report,
    ResultRow,
    gain_over,
    optimizers_of,
    panel_of,
    panel_rows,
    panels,
    row_of,
)
from wdistill.core.text import human_bytes
from wdistill.evaluation.page.headline import TONES, main_panel
from wdistill.evaluation.page.html import link
from wdistill.evaluation.page.plot_style import SETS, count, labels_name, per_class, set_name
from wdistill.evaluation.page.plots import Axis, panel_title, place_of
from wdistill.evaluation.wording import number, percent, score, scores_name, signed, spread

View = dict[str, Any]  # what the template prints
_SCORES = {
    "improvement_over_random": "Improvement over random",
    "hard_label_recovery": "Hard-label recovery",
    "label_robust_score": "Label-robust score",
    "augmentation_robust_score": "Augmentation-robust score",
}


def tiles(report: Report) -> list[View]:
    """Accuracies of the distilled, random and full sets in the main panel."""
    panel = main_panel(report)
    rows = panel_rows(report, *panel) if panel else []
    sets = [(images, row_of(rows, images)) for images in ("distilled", "random", "full")]
    return [
        {
            "set": images,
            "name": f"{SETS[images]}, {per_class(row.ipc)}",
            "value": spread(row.top1_mean, row.top1_std, row.n),
        }
        for images, row in sets
        if row
    ]


def results_groups(report: Report) -> list[View]:
    """One group of rows for each student, kind of labels and optimiser."""
    return [
        {
            "title": ", ".join(panel_title(report, *panel)),
            "rows": _table_rows(panel_rows(report, *panel), len(report.source.classes)),
        }
        for panel in panels(report)
    ]


def survival_table(report: Report) -> View:
    """optimizers: their names; rows: of each student and kind of labels the gains over random real
    images under each, and whether one survives the other.
    """
    return {
        "optimizers": optimizers_of(report.rows),
        "rows": [
            {
                "student": each.student,
                "labels": labels_name(each.labels),
                "gains": [_gain(gain) for gain in each.gains],
                "word": each.word,
                "tone": {"yes": "gain", "no": "loss"}.get(each.word, "even"),
                "clause": each.clause[0].upper() + each.clause[1:] + ".",
            }
            for each in survivals(report)
        ],
    }


def _gain(gain: Gain) -> View:
    points = "–" if gain.points is None else signed(gain.points)
    return {"points": points, "tone": gain.found}


def equivalent_rows(report: Report) -> list[View]:
    return [
        _equivalent_row(report, equivalent, own_ipc(report, equivalent))
        for equivalent in report.equivalents
    ]


def _equivalent_row(report: Report, equivalent: Equivalent, ipc: float) -> View:
    student, labels = panel_title(report, *panel_of(equivalent))
    why = why_untold(report, equivalent)
    found = verdict(report, *panel_of(equivalent))
    return {
        "student": student,
        "labels": labels,
        "own": count(ipc),
        "equivalent": "unknown" if why else bound(equivalent, ipc) + count(equivalent.ipc),
        "interval": "–" if why else interval(report, equivalent, count) or "–",
        "times": "–" if why else f"{equivalent.ipc / ipc:.2g} ×",
        "why": f"{student}, {labels}: worth unknown: {why}." if why else "",
        "tone": found,
        "verdict": TONES[found],
    }


def score_table(report: Report) -> View:
    """names: scores that any student has; rows: students and their scores in percent."""
    values = [row.model_dump() | {"name": scores_name(report, row)} for row in report.scores]
    keys = [key for key in _SCORES if any(row[key] is not None for row in values)]
    rows = [
        {
            "student": row["name"],
            "cells": ["–" if row[key] is None else f"{row[key]:.1f}" for key in keys],
        }
        for row in values
    ]
    return {"names": [_SCORES[key] for key in keys], "rows": rows if keys else []}


def provenance(report: Report) -> list[tuple[str, str | Markup]]:
    """Set, real data, teacher and environment; lines without a value are omitted."""
    source, against, teacher = report.source, report.against, report.teacher
    rows: list[tuple[str, str | Markup | None]] = [
        ("Evaluated", link(source.id, source.url)),
        ("Images", f"{source.images:,} of {len(source.classes):,} classes"),
        ("Read", " ".join(source.notes)),
        ("Revision", source.revision),
        ("Fingerprint", source.fingerprint),
        ("Against", link(against.id, against.url)),
        ("Against, revision", against.revision),
        ("Against, fingerprint", against.fingerprint),
        ("Training split", f"{against.train_split}, {against.train_images:,} images"),
        ("Test split", f"{against.eval_split}, {against.eval_images:,} images"),
        ("Resolution", f"{report.resolution} × {report.resolution} pixels"),
        ("Teacher", f"{teacher.name}, {percent(teacher.accuracy)} top-1" if teacher else None),
        *(
            (f"Student {name}", architecture)
            for name, architecture in report.local_students.items()
        ),
        ("Device", report.device),
        ("Versions", ", ".join(f"{name} {v}" for name, v in report.versions.items())),
        ("Created", report.created),
    ]
    return [(name, value) for name, value in rows if value]


def accuracy_words(rows: Sequence[ResultRow], by: Axis, classes: int) -> str:
    """Alternative text of a plot: the accuracy of each set at its place on the x axis."""

    def write(row: ResultRow) -> str:
        if by == "bits":
            return f"{place_of(row, by, classes):,.0f} bits per class, {row.labels} labels"
        return per_class(row.ipc)

    ordered = sorted(rows, key=lambda row: (row.images, place_of(row, by, classes)))
    return "; ".join(
        f"{set_name(row.images)}, {write(row)}: {percent(row.top1_mean)}" for row in ordered
    )


def _table_rows(rows: Sequence[ResultRow], classes: int) -> list[View]:
    order = {name: place for place, name in enumerate(SETS) if name not in ("random", "full")}
    rivals = {row.ipc: row for row in rows if row.images == "random"}
    return [
        {
            "set": row.images,
            "name": set_name(row.images),
            "ipc": f"{row.ipc:,}",
            "top1": score(row),
            "difference": _difference(row, rivals.get(row.ipc)),
            "top5": _top5(row),
            "bytes": human_bytes(row.bytes),
            "bits": f"{8 * row.bytes // classes:,}",
            "steps": f"{row.steps:,}",
            "seconds": number(row.seconds),
        }
        for row in sorted(rows, key=lambda row: (order.get(row.images, len(SETS)), row.ipc))
    ]


def _difference(row: ResultRow, random: ResultRow | None) -> str:
    if random is None or row.images in ("random", "full"):
        return ""
    return signed(gain_over(row, random))


def _top5(row: ResultRow) -> str:
    if row.top5_mean is None or row.top5_std is None:
        return ""
    return spread(row.top5_mean, row.top5_std, row.n)
