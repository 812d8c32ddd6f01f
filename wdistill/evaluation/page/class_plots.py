"""Per-class plots of an evaluation: pure functions of a report."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from wdistill.artifact.report import Report, panel_rows, row_of
from wdistill.evaluation.page.plot_style import (
    COLOURS,
    FAINT,
    INK,
    PAPER,
    SMALL,
    TEN,
    WIDTH,
    legend,
    name_axes,
    panel,
    plain,
)
from wdistill.evaluation.page.plots import panel_title
from wdistill.evaluation.wording import signed

MOST_BARS, MOST_CONFUSED, MOST_NAMED = 30, 20, 10


def class_gains(report: Report, student: str, labels: str, optimizer: str) -> Figure | None:
    """Gain of each class over the same number of random real images, sorted; only the best and the
    worst 15 of more than 30 classes. None without a random row or per-class accuracies.
    """
    own = (student, labels, optimizer)
    rows = panel_rows(report, *own)
    distilled, rival = row_of(rows, "distilled"), row_of(rows, "random")
    if not distilled or not rival or not distilled.per_class or not rival.per_class:
        return None
    gains = 100 * (np.asarray(distilled.per_class) - np.asarray(rival.per_class))
    order = np.argsort(gains, kind="stable")
    hidden = len(order) - MOST_BARS
    if hidden > 0:
        order = np.concatenate([order[: MOST_BARS // 2], order[-MOST_BARS // 2 :]])
    places = np.arange(len(order), dtype=float)
    if hidden > 0:
        places[MOST_BARS // 2 :] += 1  # a gap for those left out
    names = [plain(report.source.classes[index], 24) for index in order]
    figure, axes = panel(panel_title(report, *own), height=1.1 + 0.17 * (places[-1] + 1))
    colours = [COLOURS["distilled" if gains[index] >= 0 else "random"] for index in order]
    axes.hlines(places, 0, gains[order], color=colours, linewidth=2.2)
    axes.scatter(gains[order], places, color=colours, s=22, zorder=3, linewidth=0)
    axes.axvline(0, color=FAINT, linewidth=0.9)
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", length=0, labelsize=SMALL)
    axes.grid(visible=False, axis="y")
    axes.set_ylim(-0.8, places[-1] + 0.8)
    axes.margins(x=0.08)
    if hidden > 0:
        words = f"{hidden:,} more between"
        axes.text(0, MOST_BARS // 2, words, fontsize=SMALL, color=FAINT, ha="center", va="center")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: signed(v, 0)))
    name_axes(axes, "gain over random real images (points)", "")
    return figure


def confusion(report: Report, student: str, labels: str, optimizer: str) -> Figure | None:
    """Confusion matrix of students of the distilled images, in percent of each true class (row).
    None for more than 20 classes.
    """
    own = (student, labels, optimizer)
    row = row_of(panel_rows(report, *own), "distilled")
    if row is None or row.confusion is None or not 1 < len(row.confusion) <= MOST_CONFUSED:
        return None
    counts = np.asarray(row.confusion, dtype=float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = len(shares)
    side = max(WIDTH, 1.4 + 0.24 * size)
    figure, axes = panel(panel_title(report, *own), height=side, width=side)
    # transparent where the share is 0: white cells would glare on dark pages
    fades = ListedColormap([to_rgba(COLOURS["random"], a) for a in np.linspace(0, 1, 101)])
    axes.pcolormesh(shares, cmap=fades, vmin=0, vmax=1, edgecolors=PAPER, linewidth=0.8)
    for (true, predicted), share in np.ndenumerate(shares):
        if share >= 0.005:
            axes.text(
                predicted + 0.5, true + 0.5, f"{100 * share:.0f}", ha="center", va="center",
                fontsize=6.5 if size > 10 else 7.5, color=PAPER if share > 0.8 else INK,
            )  # fmt: skip
    names = [plain(name, 16) for name in report.source.classes]
    axes.set_xticks(np.arange(size) + 0.5, names, rotation=90)
    axes.set_yticks(np.arange(size) + 0.5, names)
    axes.tick_params(length=0, labelsize=SMALL)
    axes.grid(visible=False)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    name_axes(axes, "taken for", "true class")
    return figure


def projection(report: Report) -> Figure | None:
    """Features in two dimensions: real images as dots, atoms and distilled images on top. Of more
    than ten classes, ten are coloured and the others grey.
    """
    view = report.projection
    if view is None:
        return None
    names = report.source.classes
    clouds = {
        name: np.asarray(points, float).reshape(-1, 3)
        for name, points in (
            ("real", view.real),
            ("atoms", view.atoms),
            ("distilled", view.distilled),
        )
    }
    present = np.unique(np.concatenate([cloud[:, 2] for cloud in clouds.values()])).astype(int)
    if not len(present):
        return None
    figure, axes = panel((), height=5.0)
    at = np.linspace(0, len(present) - 1, min(MOST_NAMED, len(present))).round().astype(int)
    hues = {int(label): TEN[i] for i, label in enumerate(present[at])}
    _clouds(axes, clouds, hues)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(NullLocator())
    method = plain(view.method, 40)
    name_axes(axes, f"{method}, first axis", f"{method}, second axis")
    marks = [("real image", ".", 4), ("atom", "x", 5), ("distilled image", "o", 6)]
    visible = [mark for mark, key in zip(marks, clouds, strict=True) if len(clouds[key])]
    handles = [
        Line2D([], [], color=FAINT, marker=m, linestyle="", markersize=s) for _, m, s in visible
    ]
    handles += [Line2D([], [], color=hue, linewidth=4) for hue in hues.values()]
    words = [name for name, _, _ in visible] + [plain(names[label], 18) for label in hues]
    legend(figure, handles=handles, labels=words)
    return figure


def _clouds(axes: Axes, clouds: dict[str, NDArray[np.float64]], hues: dict[int, str]) -> None:
    """clouds: x, y and class, (n, 3) each. Grey points are drawn first, below the coloured ones."""
    forms: dict[str, dict[str, Any]] = {
        "real": {"s": 5, "alpha": 0.45, "linewidth": 0, "rasterized": True},
        "atoms": {"s": 34, "marker": "x", "linewidth": 1.4},
        "distilled": {"s": 38, "edgecolor": PAPER, "linewidth": 0.9},
    }
    for layer, (name, cloud) in enumerate(clouds.items()):
        in_colour = np.isin(cloud[:, 2], list(hues))
        for rows, faint in ((cloud[~in_colour], True), (cloud[in_colour], False)):
            if len(rows) and not (faint and name != "real"):
                colour = [hues.get(int(label), FAINT) for label in rows[:, 2]]
                form = forms[name] | ({"alpha": 0.15} if faint else {})
                axes.scatter(rows[:, 0], rows[:, 1], c=colour, zorder=2 + layer, **form)
