"""Pictures for people: the preview grid of a distilled set, and how synthesis went."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from wdistill.artifact.distilled_set import DistilledSet
from wdistill.core.files import atomic_write

_SMALL, _LARGE = 56, 112  # pixels of a cell's side: small images are enlarged, large ones reduced
_GAP, _MARGIN, _BLOCK_GAP = 4, 14, 28
_LABEL_WIDTH = 210
MOST_CLASSES = 20
_TEXT, _FAINT, _PAPER = "#1a1a1a", "#6b6b6b", "#ffffff"


@dataclass(frozen=True)
class _Layout:
    """Rows of classes, in one or more blocks side by side."""

    classes: list[int]
    columns: int
    blocks: int
    cell: tuple[int, int]  # width, height
    label: int

    @property
    def rows(self) -> int:
        return -(-len(self.classes) // self.blocks)

    @property
    def block_width(self) -> int:
        return self.label + self.columns * (self.cell[0] + _GAP) - _GAP

    def origin(self, index: int) -> tuple[int, int]:
        """Top left corner of the label of the ``index``-th class shown, counted down each block."""
        block, row = divmod(index, self.rows)
        left = _MARGIN + block * (self.block_width + _BLOCK_GAP)
        return left, _MARGIN + row * (self.cell[1] + _GAP)


def preview_grid(
    distilled: DistilledSet,
    max_classes: int = MOST_CLASSES,
    max_per_class: int = 10,
    footer: str | None = None,
) -> Image.Image:
    """One row per class, its name on the left; classes are evenly spaced where there are too many.

    Small images are enlarged by a whole factor without smoothing, so that each pixel stays visible.
    """
    font, small = _font(15), _font(12)
    layout = _lay_out(distilled, max_classes, max_per_class, font)
    footer = footer or _footer(distilled, layout)
    width = layout.blocks * (layout.block_width + _BLOCK_GAP) - _BLOCK_GAP
    width = 2 * _MARGIN + max(width, round(small.getlength(footer)))
    bottom = _MARGIN + layout.rows * (layout.cell[1] + _GAP)
    canvas = Image.new("RGB", (width, bottom + 30), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for index, label in enumerate(layout.classes):
        left, top = layout.origin(index)
        name = shorten(distilled.class_names[label], font, layout.label - 12)
        draw.text((left, top + layout.cell[1] / 2), name, fill=_TEXT, font=font, anchor="lm")
        images = distilled.images[distilled.labels == label][: layout.columns]
        for column, image in enumerate(images):
            x = left + layout.label + column * (layout.cell[0] + _GAP)
            canvas.paste(_resize(image, layout.cell), (x, top))
    draw.text((_MARGIN, bottom + 12), footer, fill=_FAINT, font=small, anchor="lm")
    return canvas


def progress_grid(
    images: Mapping[int, NDArray[np.uint8]], class_names: tuple[str, ...]
) -> Image.Image:
    """Some images of some classes at the start, the middle and the end of synthesis, side by side.

    images: for each class shown, by its label, (n, 3, H, W, 3) at the three moments.
    """
    moments = np.concatenate([each.reshape(-1, *each.shape[2:]) for each in images.values()])
    each = [of_class.shape[0] * of_class.shape[1] for of_class in images.values()]
    rows = len(moments)
    sequence = DistilledSet(
        images=moments,
        labels=np.repeat(np.array([*images], np.int64), each),
        weights=np.zeros(rows, np.float32),
        soft_labels=np.zeros((rows, len(class_names)), np.float32),
        class_names=class_names,
    )
    footer = "each image at the start, after half of the steps, at the end"
    return preview_grid(sequence, max_per_class=max(each), footer=footer)


def loss_plot(steps: NDArray[np.float32], curves: dict[str, NDArray[np.float32]]) -> Image.Image:
    """The terms of the synthesis loss over the steps, each as a share of its first value."""
    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for name, values in curves.items():
        axes.plot(steps, values / max(float(values[0]), 1e-12), label=name, linewidth=1.8)
    axes.set(xlabel="step", ylabel="share of the first value", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer)


def save_png(path: Path, image: Image.Image) -> None:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    atomic_write(path, buffer.getvalue())


def shorten(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """``text`` on one line, cut with an ellipsis where it is wider than ``width`` pixels."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text[:200]).split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1].rstrip(" ,;(")
    return text + "…"


def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font inside matplotlib: the same on every machine, with more alphabets than Pillow's."""
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """At most ``most`` of ``count`` positions, evenly spaced."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(np.int64)


def _lay_out(
    distilled: DistilledSet, max_classes: int, max_per_class: int, font: ImageFont.FreeTypeFont
) -> _Layout:
    present = np.unique(distilled.labels)
    classes = [int(label) for label in present[evenly(len(present), max_classes)]]
    per_class = int(np.bincount(distilled.labels).max())
    columns = min(max_per_class, per_class)
    blocks = min(len(classes), 1 if columns > 4 else 2 if columns > 1 else 3)
    names = [shorten(distilled.class_names[label], font, _LABEL_WIDTH) for label in classes]
    label_width = 14 + max(round(font.getlength(name)) for name in names)
    return _Layout(classes, columns, blocks, _cell(distilled.images.shape[1:3]), label_width)


def _cell(shape: tuple[int, ...]) -> tuple[int, int]:
    height, width = shape
    side = max(height, width)
    scale = float(-(-_SMALL // side)) if side < _SMALL else min(1.0, _LARGE / side)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resize(image: NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    picture = Image.fromarray(image)
    if picture.size == size:
        return picture
    enlarge = size[0] > picture.size[0]
    method = Image.Resampling.NEAREST if enlarge else Image.Resampling.LANCZOS
    return picture.resize(size, method)


def _footer(distilled: DistilledSet, layout: _Layout) -> str:
    height, width = distilled.images.shape[1:3]
    classes, shown = len(distilled.class_names), len(layout.classes)
    per_class = int(np.bincount(distilled.labels).max())
    some = f"{shown} of {classes} classes" if shown < classes else f"{classes} classes"
    each = f"{layout.columns} of {per_class}" if layout.columns < per_class else str(per_class)
    noun = "image" if per_class == 1 else "images"
    return f"{some} · {each} {noun} per class · {width} × {height} pixels"
