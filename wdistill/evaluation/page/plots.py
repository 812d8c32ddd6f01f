"""Plots of an evaluation: pure functions of a report.

A panel shows one student with one kind of labels. Accuracies are fractions in a report and percent
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from wdistill.artifact.claims.worth import bound, why_untold
from wdistill.artifact.report import (
    Equivalent,
    Report,
    ResultRow,
    optimizers_of,
    panel_equivalents,
    panel_rows,
    row_of,
)
from wdistill.evaluation.page.plot_style import (
    COLOURS,
    FAINT,
    INK,
    LABELS,
    MARKS,
    PAPER,
    SETS,
    SMALL,
    count,
    labels_name,
    legend,
    log_axis,
    name_axes,
    panel,
    plain,
    set_name,
    share_axis,
    share_limits,
)
from wdistill.evaluation.recipes.rates import PublishedRates, published_rates

_LABEL_MARKS = {"hard": "o", "soft": "s", "views": "^", "teacher": "D"}


Axis = Literal["ipc", "bits"]


def place_of(row: ResultRow, x: Axis, classes: int) -> float:
    """Position of ``row`` on an x axis: images, or bits of images and labels, per class."""
    return row.ipc if x == "ipc" else 8 * row.bytes / classes


def panel_title(report: Report, student: str, labels: str, optimizer: str) -> tuple[str, str]:
    """Two lines; the optimiser is named where the report has several."""
    under = f", {optimizer}" if len(optimizers_of(report.rows)) > 1 else ""
    return student, f"{labels_name(labels)}{under}"


def accuracy_by_ipc(report: Report, student: str, labels: str, optimizer: str) -> Figure:
    """Accuracy over images per class: random real images as a curve with its spread over seeds, the
    other sets as points, the full dataset as a line, and an arrow from the distilled set to its
    equivalent IPC, where that may be said.
    """
    own = (student, labels, optimizer)
    rows = panel_rows(report, *own)
    figure, axes = panel(panel_title(report, *own))
    classes = len(report.source.classes)
    _curve(axes, [row for row in rows if row.images == "random"], "ipc", classes)
    for row in rows:
        if row.images == "full":
            _level(axes, row)
        elif row.images != "random":
            _point(axes, row, row.ipc, MARKS.get(row.images, "v"))
    inside = [float(row.ipc) for row in rows if row.images != "full"]
    equivalents = [each for each in panel_equivalents(report, *own) if not why_untold(report, each)]
    distilled = row_of(rows, "distilled")
    inside += [equivalent.ipc for equivalent in equivalents[:1] if distilled]
    log_axis(axes, inside or [row.ipc for row in rows])
    share_axis(axes, share_limits(report.rows))
    if equivalents and distilled:
        _arrow(axes, distilled, equivalents[0])
    name_axes(axes, "images per class", "top-1 accuracy (%)")
    handles, names = axes.get_legend_handles_labels()
    handle_of = dict(zip(names, handles, strict=True))
    labels_in_order = [words for words in SETS.values() if words in handle_of]
    legend(
        figure,
        columns=2,
        handles=[handle_of[words] for words in labels_in_order],
        labels=labels_in_order,
    )
    return figure


def accuracy_by_bits(report: Report, student: str, optimizer: str) -> Figure:
    """The rate-utility curve of a student (Bao et al. 2025): accuracy of every set over its bits
    per class. The marker shows the labels; crosses are what papers report.
    """
    rows = [row for row in report.rows if (row.student, row.optimizer) == (student, optimizer)]
    classes = len(report.source.classes)
    several = len(optimizers_of(report.rows)) > 1
    figure, axes = panel((f"{student}, {optimizer}" if several else student,), height=3.4)
    regimes = list(dict.fromkeys(row.labels for row in rows))
    bits = [place_of(row, "bits", classes) for row in rows]
    low, high = share_limits(report.rows)
    rates = published_rates(report)
    if rates:
        points = [point for values in rates.methods.values() for point in values]
        bits += [place for place, _ in points]
        high = max(high, max(top1 for _, top1 in points) / 100 + 0.02)
        _published(axes, rates)
    for labels in regimes:
        mark = _LABEL_MARKS.get(labels, "v")
        same_labels = [row for row in rows if row.labels == labels]
        random = [row for row in same_labels if row.images == "random"]
        _curve(axes, random, "bits", classes, mark)
        for row in same_labels:
            if row.images != "random":
                _point(axes, row, place_of(row, "bits", classes), mark)
    log_axis(axes, bits)
    share_axis(axes, (low, high))
    name_axes(axes, "bits per class, images and labels", "top-1 accuracy (%)")
    sets = [name for name in SETS if any(row.images == name for row in rows)]
    hues = [Line2D([], [], color=COLOURS[name], linewidth=4) for name in sets]
    forms = [
        Line2D([], [], color=FAINT, marker=_LABEL_MARKS.get(name, "v"), linestyle="", markersize=4)
        for name in regimes
    ]
    words = [SETS[name] for name in sets] + [LABELS.get(name, plain(name, 30)) for name in regimes]
    legend(figure, columns=2, handles=hues + forms, labels=words)
    return figure


def has_curve(report: Report) -> bool:
    """Whether accuracies by size say more than a table: random real images of several numbers, or
    published points beside them.
    """
    ipcs = {row.ipc for row in report.rows if row.images == "random"}
    return len(ipcs) > 1 or (bool(report.rows) and published_rates(report) is not None)


def _published(axes: Axes, rates: PublishedRates) -> None:
    for method, points in rates.methods.items():
        axes.plot(
            *zip(*points, strict=True), color=FAINT, marker="x", markersize=4, linewidth=0.6,
            alpha=0.7, zorder=1,
        )  # fmt: skip
        axes.annotate(
            method, points[0], (-4, 0), textcoords="offset points", ha="right", va="center",
            fontsize=SMALL, color=FAINT,
        )  # fmt: skip


def learning_curves(report: Report, student: str, labels: str, optimizer: str) -> Figure | None:
    """Training loss over steps, one line per set; random images only at the IPC of the set."""
    own = (student, labels, optimizer)
    rows = panel_rows(report, *own)
    with_curves = [row for name in SETS if (row := row_of(rows, name)) and row.curve.step]
    if not with_curves:
        return None
    figure, axes = panel(panel_title(report, *own))
    for row in with_curves:
        axes.plot(
            row.curve.step, row.curve.loss, label=SETS[row.images],
            color=COLOURS[row.images], linewidth=1.5,
            linestyle="--" if row.images == "full" else "-",
        )  # fmt: skip
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    name_axes(axes, "training step", "training loss")
    legend(figure)
    return figure


def _curve(
    axes: Axes, rows: Sequence[ResultRow], x: Axis, classes: int, mark: str = MARKS["random"]
) -> None:
    rows = sorted(rows, key=lambda row: place_of(row, x, classes))
    if not rows:
        return
    at = [place_of(row, x, classes) for row in rows]
    mean = 100 * np.array([row.top1_mean for row in rows])
    std = 100 * np.array([row.top1_std for row in rows])
    colour = COLOURS["random"]
    axes.fill_between(at, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0)
    axes.plot(
        at, mean, color=colour, marker=mark, markersize=4, label=SETS["random"], linewidth=1.5
    )
    if len(rows) == 1:
        axes.errorbar(at, mean, std, color=colour, linewidth=1.2)


def _point(axes: Axes, row: ResultRow, place: float, mark: str) -> None:
    name = row.images
    axes.errorbar(
        place, 100 * row.top1_mean, 100 * row.top1_std, label=set_name(name),
        color=COLOURS.get(name, FAINT), marker=mark,
        linestyle="", markersize=7 if name == "distilled" else 5.5,
        markeredgecolor=PAPER, markeredgewidth=0.7, elinewidth=1.2, zorder=4,
    )  # fmt: skip


def _level(axes: Axes, row: ResultRow) -> None:
    height = 100 * row.top1_mean
    colour = COLOURS["full"]
    axes.axhline(height, label=SETS["full"], color=colour, linestyle="--", linewidth=1.5)
    axes.annotate(
        f"{count(row.ipc)} per class", (0, height), (4, 3), xycoords=("axes fraction", "data"),
        textcoords="offset points", va="bottom", fontsize=SMALL, color=FAINT,
    )  # fmt: skip


def _arrow(axes: Axes, distilled: ResultRow, equivalent: Equivalent) -> None:
    """Arrow from the distilled set to its equivalent IPC, with the 95 % interval."""
    start, end, height = float(distilled.ipc), float(equivalent.ipc), 100 * distilled.top1_mean
    colour = COLOURS["distilled"]
    if equivalent.low is not None and equivalent.high is not None:
        ends = np.clip([equivalent.low, equivalent.high], *axes.get_xlim())
        axes.plot(ends, [height, height], color=colour, alpha=0.25, linewidth=6, zorder=2)
    axes.vlines(end, axes.get_ylim()[0], height, color=colour, linestyle=":", linewidth=1.1)
    if abs(np.log(end / start)) > 0.15:
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.1, "shrinkA": 4, "shrinkB": 0}
        axes.annotate("", (end, height), (start, height), arrowprops=arrow)
    sign = {"at least ": "≥ ", "at most ": "≤ "}.get(bound(equivalent, distilled.ipc), "≈ ")
    place = float(axes.transAxes.inverted().transform(axes.transData.transform((end, height)))[0])
    side = "left" if place < 0.35 else "right"
    axes.annotate(
        f"{sign}{count(end)} random", (end, height), (-4 if side == "right" else 4, 5),
        textcoords="offset points", ha=side, va="bottom", fontsize=SMALL, color=INK,
    )  # fmt: skip
