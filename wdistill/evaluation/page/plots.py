"""Pictures of an evaluation: pure functions of a report.

A panel is one student with one kind of labels. Accuracies are shares in a report and percent here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from wdistill.evaluation.page.plot_style import (
    COLOURS,
    FAINT,
    INK,
    LABELS,
    MARKS,
    PAPER,
    SETS,
    SMALL,
    Json,
    count,
    legend,
    log_axis,
    name_axes,
    panel,
    plain,
    share_axis,
    share_limits,
)
from wdistill.evaluation.wording import bound

_LABEL_MARKS = {"hard": "o", "soft": "s", "views": "^", "teacher": "D"}


def panels(report: Json) -> list[tuple[str, str]]:
    """Student and labels, in the order of the report."""
    return list(dict.fromkeys((row["student"], row["labels"]) for row in report["rows"]))


def panel_rows(report: Json, student: str, labels: str) -> list[Json]:
    return [r for r in report["rows"] if (r["student"], r["labels"]) == (student, labels)]


def row_of(rows: Sequence[Json], images: str) -> Json | None:
    """The first row of ``images``; of random ones, the row with as many as there are distilled."""
    found = [row for row in rows if row["images"] == images]
    distilled = [row["ipc"] for row in rows if row["images"] == "distilled"]
    if images == "random" and distilled:
        found = [row for row in found if row["ipc"] == distilled[0]]
    return found[0] if found else None


def panel_title(student: str, labels: str) -> tuple[str, str]:
    return student, LABELS.get(labels, labels)


def accuracy_by_ipc(report: Json, student: str, labels: str) -> Figure:
    """Random real images as a curve with its spread over seeds, the other sets as points, all real
    images as a line; an arrow from the distilled set to the number of random images it is worth.
    """
    rows = panel_rows(report, student, labels)
    figure, axes = panel(panel_title(student, labels))
    _curve(axes, [row for row in rows if row["images"] == "random"], "ipc")
    for row in rows:
        if row["images"] == "full":
            _level(axes, row)
        elif row["images"] != "random":
            _point(axes, row, "ipc", MARKS.get(row["images"], "v"))
    inside = [float(row["ipc"]) for row in rows if row["images"] != "full"]
    found = [e for e in report["equivalents"] if (e["student"], e["labels"]) == (student, labels)]
    distilled = row_of(rows, "distilled")
    worth = found[0] if found and found[0]["ipc"] is not None and distilled else None
    inside += [worth["ipc"]] if worth else []
    log_axis(axes, inside or [row["ipc"] for row in rows])
    share_axis(axes, share_limits(report["rows"]))
    if worth and distilled:
        _arrow(axes, distilled, worth)
    name_axes(axes, "images per class", "top-1 accuracy (%)")
    handles, named = axes.get_legend_handles_labels()
    drawn = dict(zip(named, handles, strict=True))
    known = [words for words in SETS.values() if words in drawn]
    legend(figure, columns=2, handles=[drawn[words] for words in known], labels=known)
    return figure


def accuracy_by_bytes(report: Json, student: str) -> Figure:
    """Every set of a student against what it takes to store it; the mark tells the labels."""
    rows = [row for row in report["rows"] if row["student"] == student]
    figure, axes = panel((student,), height=3.4)
    regimes = list(dict.fromkeys(row["labels"] for row in rows))
    for labels in regimes:
        mark = _LABEL_MARKS.get(labels, "v")
        mine = [row for row in rows if row["labels"] == labels]
        _curve(axes, [row for row in mine if row["images"] == "random"], "bytes", mark)
        for row in mine:
            if row["images"] != "random":
                _point(axes, row, "bytes", mark)
    log_axis(axes, [row["bytes"] for row in rows], "bytes")
    share_axis(axes, share_limits(report["rows"]))
    name_axes(axes, "images and labels (bytes)", "top-1 accuracy (%)")
    sets = [name for name in SETS if any(row["images"] == name for row in rows)]
    hues = [Line2D([], [], color=COLOURS[name], linewidth=4) for name in sets]
    forms = [
        Line2D([], [], color=FAINT, marker=_LABEL_MARKS.get(name, "v"), linestyle="", markersize=4)
        for name in regimes
    ]
    words = [SETS[name] for name in sets] + [LABELS.get(name, plain(name, 30)) for name in regimes]
    legend(figure, columns=2, handles=hues + forms, labels=words)
    return figure


def learning_curves(report: Json, student: str, labels: str) -> Figure | None:
    """Training loss over steps, a line for each set; random images of the distilled number only."""
    rows = panel_rows(report, student, labels)
    kept = [row for name in SETS if (row := row_of(rows, name)) and row["curve"]["step"]]
    if not kept:
        return None
    figure, axes = panel(panel_title(student, labels))
    for row in kept:
        axes.plot(
            row["curve"]["step"], row["curve"]["loss"], label=SETS[row["images"]],
            color=COLOURS[row["images"]], linewidth=1.5,
            linestyle="--" if row["images"] == "full" else "-",
        )  # fmt: skip
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    name_axes(axes, "training step", "training loss")
    legend(figure)
    return figure


def _curve(axes: Axes, rows: Sequence[Json], x: str, mark: str = MARKS["random"]) -> None:
    rows = sorted(rows, key=lambda row: float(row[x]))
    if not rows:
        return
    at = [row[x] for row in rows]
    mean, std = (100 * np.array([row[key] for row in rows]) for key in ("top1_mean", "top1_std"))
    colour = COLOURS["random"]
    axes.fill_between(at, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0)
    axes.plot(
        at, mean, color=colour, marker=mark, markersize=4, label=SETS["random"], linewidth=1.5
    )
    if len(rows) == 1:
        axes.errorbar(at, mean, std, color=colour, linewidth=1.2)


def _point(axes: Axes, row: Json, x: str, mark: str) -> None:
    name = row["images"]
    axes.errorbar(
        row[x], 100 * row["top1_mean"], 100 * row["top1_std"], label=SETS.get(name, name),
        color=COLOURS.get(name, FAINT), marker=mark,
        linestyle="", markersize=7 if name == "distilled" else 5.5,
        markeredgecolor=PAPER, markeredgewidth=0.7, elinewidth=1.2, zorder=4,
    )  # fmt: skip


def _level(axes: Axes, row: Json) -> None:
    height = 100 * row["top1_mean"]
    colour = COLOURS["full"]
    axes.axhline(height, label=SETS["full"], color=colour, linestyle="--", linewidth=1.5)
    axes.annotate(
        f"{count(row['ipc'])} per class", (0, height), (4, 3), xycoords=("axes fraction", "data"),
        textcoords="offset points", va="bottom", fontsize=SMALL, color=FAINT,
    )  # fmt: skip


def _arrow(axes: Axes, distilled: Json, worth: Json) -> None:
    """From the distilled set to the number of random images with its accuracy, interval beside."""
    start, end, height = float(distilled["ipc"]), float(worth["ipc"]), 100 * distilled["top1_mean"]
    colour = COLOURS["distilled"]
    if worth["low"] is not None and worth["high"] is not None:
        ends = np.clip([worth["low"], worth["high"]], *axes.get_xlim())
        axes.plot(ends, [height, height], color=colour, alpha=0.25, linewidth=6, zorder=2)
    axes.vlines(end, axes.get_ylim()[0], height, color=colour, linestyle=":", linewidth=1.1)
    if abs(np.log(end / start)) > 0.15:
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.1, "shrinkA": 4, "shrinkB": 0}
        axes.annotate("", (end, height), (start, height), arrowprops=arrow)
    sign = {"at least ": "≥ ", "at most ": "≤ "}.get(bound(worth, distilled["ipc"]), "≈ ")
    place = float(axes.transAxes.inverted().transform(axes.transData.transform((end, height)))[0])
    side = "left" if place < 0.35 else "right"
    axes.annotate(
        f"{sign}{count(end)} random", (end, height), (-4 if side == "right" else 4, 5),
        textcoords="offset points", ha=side, va="bottom", fontsize=SMALL, color=INK,
    )  # fmt: skip
