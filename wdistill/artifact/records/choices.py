"""What short students tried and chose: how bytes are spent, who labels, how images are coded."""

from __future__ import annotations

from typing import Literal

from wdistill.artifact.records.model import Count, Number, Record
from wdistill.config import ImageFormat


class BudgetTrial(Record):
    """A way to spend a budget, and the accuracies on held-out training images of short students,
    after so many ``steps``.

    ipc: images per class, or all that a class has where those are fewer; quality: of WebP, None
    without loss; views: of each image, temperature: of their labels; images: random real ones, the
    real ones that the transport chose, or distilled ones.
    """

    ipc: Count
    quality: Count | None
    views: Count
    temperature: Number = 1.0
    images: Literal["random", "chosen", "distilled"] = "random"
    steps: Count
    top1: tuple[Number, ...]

    @property
    def mean(self) -> float:
        return sum(self.top1) / len(self.top1)


class BudgetRecord(Record):
    """bytes: that the parquet files may take; tried: what was compared; images: those that are
    published.
    """

    bytes: Count
    tried: tuple[BudgetTrial, ...] = ()
    images: Literal["chosen", "distilled"] = "distilled"


class LabelTrial(Record):
    """Accuracies on held-out training images of short students: for each kind of student, those of
    its seeds. giver: none for hard labels; labels: hard, soft or views; temperature: of these.
    """

    giver: str
    labels: str
    temperature: Number = 1.0
    top1: tuple[tuple[Number, ...], ...]

    def __str__(self) -> str:
        if self.giver == "none":
            return "hard"
        warm = "" if self.temperature == 1 else f", T = {self.temperature:g}"
        return f"{self.giver} ({self.labels}{warm})"


class LabelRecord(Record):
    """Who labelled the images.

    giver: teacher; committee, the teacher and a network that was trained briefly; or none.
    hard_soft: whether the one soft label of each image is its class, because short students learned
    less from the giver's; temperature: at which students should see the giver's, not in earlier
    files; tried: what the giver was chosen from.
    """

    giver: str = "teacher"
    hard_soft: bool = False
    temperature: Number | None = None
    tried: tuple[LabelTrial, ...] = ()


class CodingTrial(Record):
    """Accuracies on held-out training images of short students of images in a quality of WebP, None
    without loss.
    """

    quality: Count | None
    top1: tuple[Number, ...]


class CodingRecord(Record):
    """How images became files.

    quality: of WebP, from 1 to 100, or None without loss; grey: whether the images are read as grey
    ones; coder: the library that wrote them; tried: what the quality was chosen from.
    """

    format: ImageFormat = "png"
    quality: Count | None = None
    grey: bool = False
    coder: str = ""
    tried: tuple[CodingTrial, ...] = ()

    def __str__(self) -> str:
        if self.format == "png":
            return "PNG"
        return "WebP without loss" if self.quality is None else f"WebP of quality {self.quality}"
