"""Text and tables of the report page; losses are stated as plainly as gains.

Pure functions of a report. Nothing here is escaped, and only links are HTML.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from wdistill.artifact.claims.differences import Verdict, caveats, is_even
from wdistill.artifact.claims.optimizers import Gain, doubts, survivals
from wdistill.artifact.claims.worth import bound, interval, own_ipc, tone, verdict, why_untold
from wdistill.artifact.report import (
    Equivalent,
    Panel,
    Report,
    ResultRow,
    gain_over,
    optimizers_of,
    panel_equivalents,
    panel_of,
    panel_rows,
    panels,
    row_of,
)
from wdistill.core.text import NO_BREAK, human_bytes
from wdistill.evaluation.page.html import link
from wdistill.evaluation.page.plot_style import LABELS, SETS, count
from wdistill.evaluation.page.plots import Axis, panel_title, place_of
from wdistill.evaluation.wording import (
    ONE_SEED,
    number,
    percent,
    score,
    scores_name,
    signed,
    spread,
    untold,
)

View = dict[str, Any]  # what the template prints
_TONES: dict[Verdict, str] = {
    "gain": "a gain",
    "even": "no clear difference",
    "loss": "a loss",
    "unknown": "not known",
}
_WORSE = ": random real images are the better choice here"
_SCORES = {
    "improvement_over_random": "Improvement over random",
    "hard_label_recovery": "Hard-label recovery",
    "label_robust_score": "Label-robust score",
    "augmentation_robust_score": "Augmentation-robust score",
}


@dataclass(frozen=True)
class Headline:
    """lead: the result in one sentence; tone: its verdict; details: how it was measured."""

    lead: str
    tone: Verdict
    details: str


def headline(report: Report) -> Headline:
    panel = main_panel(report)
    rows = panel_rows(report, *panel) if panel else []
    distilled = row_of(rows, "distilled")
    if panel is None or distilled is None:
        lead = "No student was trained on the distilled images, so nothing is known of their worth."
        return Headline(lead, "unknown", "")
    seeds = f"{distilled.n} seed{'s' if distilled.n != 1 else ''}"
    several = len(optimizers_of(report.rows)) > 1
    under = f", {panel.optimizer}" if several else ""
    details = f"Student {panel.student}, {_labels(panel.labels)}{under}, {seeds}."
    equivalents = report.equivalents
    if len(equivalents) > 1:
        tones = Counter(verdict(report, *panel_of(each)) for each in equivalents)
        counts = (
            f"{words} in {tones[key]} of {len(equivalents)}"
            for key, words in _TONES.items()
            if tones[key]
        )
        combined = "student, labels and optimiser" if several else "student and labels"
        details += f" Over all combinations of {combined}: {', '.join(counts)}."
    details += "".join(
        f" Its worth in random real images is unknown: {why}." for why in untold(report, *panel)
    )
    lead = _lead(report, panel, distilled, row_of(rows, "random"))
    limits = [*caveats(report, *panel), *doubts(report, *panel)]
    lead += "".join(f" But {limit}." for limit in limits)
    return Headline(lead, verdict(report, *panel), details)


def _lead(report: Report, panel: Panel, distilled: ResultRow, random: ResultRow | None) -> str:
    for equivalent in panel_equivalents(report, *panel):
        if not why_untold(report, equivalent):
            return _equivalent_sentence(report, equivalent, distilled.ipc)
    return _by_accuracy(distilled, random)


def main_panel(report: Report) -> Panel | None:
    """The student, labels and optimiser of the headline: the first with an equivalent IPC,
    otherwise the first with a row for the distilled images.
    """
    candidates = [each for each in panels(report) if row_of(panel_rows(report, *each), "distilled")]
    equivalents = [panel_of(equivalent) for equivalent in report.equivalents]
    return next(
        (panel for panel in equivalents if panel in candidates),
        candidates[0] if candidates else None,
    )


def tiles(report: Report) -> list[View]:
    """Accuracies of the distilled, random and full sets in the main panel."""
    panel = main_panel(report)
    rows = panel_rows(report, *panel) if panel else []
    sets = [(images, row_of(rows, images)) for images in ("distilled", "random", "full")]
    return [
        {
            "set": images,
            "name": f"{SETS[images]}, {_per_class(row.ipc)}",
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
                "labels": _labels(each.labels),
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
        "verdict": _TONES[found],
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
        return _per_class(row.ipc)

    ordered = sorted(rows, key=lambda row: (row.images, place_of(row, by, classes)))
    return "; ".join(
        f"{set_name(row.images)}, {write(row)}: {percent(row.top1_mean)}" for row in ordered
    )


def set_name(images: str) -> str:
    return SETS.get(images, images)


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


def _labels(labels: str) -> str:
    return LABELS.get(labels, labels)


def _per_class(ipc: float) -> str:
    return f"{count(ipc)} per class"


def _images(ipc: float, kind: str = "image") -> str:
    return f"{count(ipc)} {kind}{'' if count(ipc) == '1' else 's'} per class"


def _equivalent_sentence(report: Report, equivalent: Equivalent, ipc: float) -> str:
    found, real = tone(equivalent, ipc), _images(equivalent.ipc, "random real image")
    real += "" if equivalent.labels == "hard" else ", labelled alike"
    these = f"these {_images(ipc)} train" if count(ipc) != "1" else "this 1 image per class trains"
    upper = these[0].upper() + these[1:]
    if equivalent.bound == "at_least" and found == "gain":
        return f"{upper} a student at least as well as {real}, the most that were tried."
    if equivalent.bound == "at_most" and found == "loss":
        return f"{upper} a student no better than {real}, the fewest that were tried{_WORSE}."
    ends = interval(report, equivalent, count)
    ends = ends and f" (95{NO_BREAK}% interval: {ends})"
    if found == "even":
        return f"No clear difference: {these} a student as well as about {real}{ends}."
    only, end = ("only ", _WORSE) if found == "loss" else ("", "")
    return f"{upper} a student {only}as well as about {real}{ends}{end}."


def _by_accuracy(distilled: ResultRow, random: ResultRow | None) -> str:
    """The sentence without an equivalent IPC."""
    these = f"{_images(distilled.ipc)} bring{'s' if distilled.ipc == 1 else ''} a student"
    lead = f"{these} to {score(distilled)} top-1 accuracy"
    if random is None:
        return f"{lead}; random real images were not tried beside them."
    points = gain_over(distilled, random)
    beside = f"as many random real images: {score(random)}"
    if is_even(distilled, random):
        return f"{lead}, {beside}. That is no clear difference."
    doubt = f"; {ONE_SEED}" if min(distilled.n, random.n) < 2 else ""
    if points == 0:
        return f"{lead}, {beside}{doubt}."
    word, end = ("better", "") if points > 0 else ("worse", _WORSE)
    return f"{lead}, {abs(points):.1f} points {word} than {beside}{doubt or end}."
