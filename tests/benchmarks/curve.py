"""Accuracy of ConvNets on CIFAR-10 by the bits of a set, beside random real images and papers.

    python -m tests.benchmarks.curve -o tests/benchmarks/results/curve-cifar10.png

Draws what other scripts measured (`results/budget-cifar10*.json`, `coding-cifar10.json`); nothing
is measured here.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import click
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from wdistill.core.files import atomic_write
from wdistill.evaluation.page.html import png
from wdistill.evaluation.page.plot_style import (
    COLOURS,
    FAINT,
    SMALL,
    legend,
    log_axis,
    name_axes,
    panel,
    share_axis,
)
from wdistill.evaluation.recipes.rates import RATES

RESULTS = Path(__file__).parent / "results"
CLASSES = 10
COLOURS_KEPT = 64  # of the picture: a third of the bytes
MARKS = {
    "64 channels, hard labels, 800 steps": "o",
    "64 channels, labels of views, 2,000 steps": "^",
    "64 channels, labels of views, 6,000 steps": "s",
    "128 channels, labels of views, 6,000 steps": "D",
    "128 channels, labels of views, 10,000 steps": "P",
}
HARD, SHORT, LONG, WIDE, LONGEST = MARKS
NAMED_AT = {"TM-RUO": -1}  # of the points of a method; its first is covered by ours
LOOKS: dict[str, dict[str, Any]] = {  # random real images stay visible around distilled ones
    "distilled": {"markersize": 4},
    "random": {"markersize": 8, "fillstyle": "none"},
}


@dataclass(frozen=True)
class Point:
    """kind: of ``MARKS``; images: distilled or random; top1: in percent, mean over seeds."""

    kind: str
    images: str
    bits: float
    top1: float


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RESULTS / name).read_text())
    return content


def points() -> Iterator[Point]:
    """Every accuracy of a ConvNet that was measured with both distilled and random images."""
    rows = [row for row in _read("coding-cifar10.json")["rows"] if row["student"] == "convnet-w64"]
    for images in ("distilled", "random"):
        for coding in ("PNG", "WebP of quality 60", "WebP of quality 20"):
            same = [row for row in rows if (row["images"], row["coding"]) == (images, coding)]
            bits = fmean(row["bits per class"] for row in same)
            yield Point(HARD, images, bits, 100 * fmean(row["top1"] for row in same))
    for row in _read("budget-cifar10.json")["rows"]:
        if row["student"] == "convnet-w64":
            bits = 8 * row["bytes"] / CLASSES
            yield Point(SHORT, row["images"], bits, 100 * row["top1_mean"])
    for size in ("98k", "983k"):
        large = _read(f"budget-cifar10-{size}.json")
        for row in large["rows"]:
            if row["student"] in ("convnet-w64", "convnet"):
                kind = LONG if row["student"] == "convnet-w64" else WIDE
                yield Point(kind, row["images"], large["bits per class"], 100 * row["top1"])
    longest = _read("budget-cifar10-983k-convnet.json")
    for row in longest["rows"]:
        yield Point(LONGEST, row["images"], longest["bits per class"], 100 * row["top1"])


def draw() -> Figure:
    """One panel; grey crosses are what papers report."""
    found = list(points())
    [rates] = [each for each in RATES if each.dataset == "CIFAR-10"]
    figure, axes = panel(("CIFAR-10, ConvNets",), height=4.2)
    for method, values in rates.methods.items():
        axes.plot(
            *zip(*values, strict=True), color=FAINT, marker="x", markersize=4, linewidth=0.6,
            alpha=0.7, zorder=1,
        )  # fmt: skip
        axes.annotate(
            method, values[NAMED_AT.get(method, 0)], (5, -1), textcoords="offset points", va="top",
            fontsize=SMALL, color=FAINT,
        )  # fmt: skip
    for kind, mark in MARKS.items():
        for images in ("random", "distilled"):
            same = [p for p in found if (p.kind, p.images) == (kind, images)]
            same.sort(key=lambda point: point.bits)
            axes.plot(
                [p.bits for p in same], [p.top1 for p in same], color=COLOURS[images], marker=mark,
                linewidth=1.2, zorder=3, **LOOKS[images],
            )  # fmt: skip
    published = [point for values in rates.methods.values() for point in values]
    bits = [p.bits for p in found] + [place for place, _ in published]
    log_axis(axes, bits)
    share_axis(axes, (0.3, 0.84))
    name_axes(axes, "bits per class, images and labels", "top-1 accuracy (%)")
    hues = [
        Line2D([], [], color=COLOURS[name], marker="o", linestyle="", **look)
        for name, look in LOOKS.items()
    ]
    forms = [
        Line2D([], [], color=FAINT, marker=mark, linestyle="", markersize=4)
        for mark in (*MARKS.values(), "x")
    ]
    words = [
        "wdistill: distilled, at 983 k real images that it chose",
        "random real",
        *MARKS,
        "published, 128 channels",
    ]
    legend(figure, columns=1, handles=hues + forms, labels=words)
    return figure


@click.command(help=__doc__)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(output: Path) -> None:
    buffer = io.BytesIO()
    few = Image.open(io.BytesIO(png(draw()))).convert("RGB").quantize(COLOURS_KEPT)
    few.save(buffer, "PNG", optimize=True)
    atomic_write(output, buffer.getvalue())


if __name__ == "__main__":
    main()
