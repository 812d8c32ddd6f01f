"""Colours, fonts and axes that the plots of a report share.

Every figure is as wide as a phone's screen; a wider page puts several side by side, so that the
font size stays the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from wdistill.artifact.report import ResultRow

INK, FAINT, RULE, PAPER = "#1b1d21", "#62666e", "#dddfe4", "#ffffff"
# Colours that colour-blind readers can distinguish: palettes of six and ten, Petroff,
# arXiv:2107.02270, and four that lie as far from these as from each other. Each set of images also
# has its own marker.
COLOURS = {
    "distilled": "#e42536",
    "random": "#5790fc",
    "nearest": "#f89c20",
    "herding": "#964a8b",
    "k-centre": "#4433aa",
    "easy": "#662211",
    "tiles": "#55ddee",
    "noise": "#ddcc77",
    "full": "#9c9ca1",
}
MARKS = {
    "distilled": "o",
    "random": "s",
    "nearest": "^",
    "herding": "D",
    "k-centre": "v",
    "easy": "P",
    "tiles": "X",
    "noise": "*",
    "full": "_",
}
SETS = {
    "distilled": "distilled",
    "random": "random real",
    "nearest": "nearest real",
    "herding": "herding",
    "k-centre": "k-centre, real",
    "easy": "easy real",
    "tiles": "tiles of easy real",
    "noise": "noise, same labels",
    "full": "all real images",
}
LABELS = {
    "hard": "hard labels",
    "soft": "stored soft labels",
    "views": "stored labels of every view",
    "teacher": "teacher in the loop",
}
TEN = ("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
       "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd")  # fmt: skip
WIDTH = 3.9  # inches
_LETTERS, SMALL = 8.5, 7.5  # points


def panel(title: tuple[str, ...], height: float = 3.1, width: float = WIDTH) -> tuple[Figure, Axes]:
    """One plot with a transparent background and its title left-aligned above."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    heading = "\n".join(plain(line, 44) for line in title)
    axes.set_title(heading, loc="left", fontsize=_LETTERS + 0.5, color=INK, pad=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set(color=FAINT, linewidth=0.7)
    axes.tick_params(colors=FAINT, labelcolor=INK, labelsize=_LETTERS, width=0.7, length=3)
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def name_axes(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=_LETTERS, color=INK)
    axes.set_ylabel(y, fontsize=_LETTERS, color=INK)


def legend(figure: Figure, columns: int = 3, **parts: Any) -> None:
    """Add a legend below the plot; ``parts``: handles and labels, by default those of the axes."""
    box = figure.legend(
        loc="outside lower left", ncols=columns, frameon=False, fontsize=_LETTERS, labelcolor=INK,
        handlelength=1.6, columnspacing=1.2, handletextpad=0.5, borderaxespad=0.2, **parts,
    )  # fmt: skip
    box.set_in_layout(True)


def plain(text: str, longest: int) -> str:
    """``text`` on one line of at most ``longest`` characters; ``$`` is escaped for matplotlib."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    short = line if len(line) <= longest else line[: longest - 1].rstrip(" ,;(") + "…"
    return short.replace("$", r"\$")


def set_name(images: str) -> str:
    return SETS.get(images, images)


def labels_name(labels: str) -> str:
    return LABELS.get(labels, labels)


def per_class(ipc: float) -> str:
    return f"{count(ipc)} per class"


def count(value: float) -> str:
    """Format a number of images or steps: ``2.5``, ``60``, ``6,000``, ``1.2 million``.

    A small number that is not whole gets two significant digits.
    """
    if value >= 1e6:
        return f"{value / 1e6:.3g} million"
    if value >= 9.95 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 0.95 else f"{value:.1g}"


def log_axis(axes: Axes, values: Iterable[float]) -> None:
    """Make the x axis logarithmic over ``values``."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = min(positive), max(positive)
    axes.set_xscale("log")
    axes.set_xlim(low / 1.35, high * 1.35)
    decades = high * 1.35 / (low / 1.35)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 300 else (1,), numticks=9))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))


def share_axis(axes: Axes, limits: tuple[float, float]) -> None:
    """A y axis in percent between two shares."""
    axes.set_ylim(100 * limits[0], 100 * limits[1])
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))


def share_limits(rows: Iterable[ResultRow]) -> tuple[float, float]:
    """Range of the accuracies of ``rows`` including their spread, with room for annotations."""
    ends = [row.top1_mean + sign * row.top1_std for row in rows for sign in (-1, 1)]
    room = max(0.02, 0.12 * (max(ends) - min(ends)))
    return max(0.0, min(ends) - room), min(1.0, max(ends) + room)
