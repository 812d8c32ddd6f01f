"""What is published: the files of the images, and their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from wdistill.config.common import CROP
from wdistill.core.settings import Range, Settings, between, setting
from wdistill.errors import OptionError

Giver = Literal["auto", "teacher", "committee", "none"]
ImageFormat = Literal["png", "webp"]

FORMAT_VERSION = 2  # of run folders and published sets
PLACEHOLDER_REPO = "you/this-dataset"  # in a card's examples, until a push knows the name
WEBP_QUALITY = 60  # where nothing else is said
VIEWS = 40
MOST_LOGITS = 50_000_000


@dataclass(frozen=True)
class CodingConfig(Settings):
    """The files that images are published in."""

    section = "coding"
    image_format: ImageFormat = setting(
        "webp",
        "Format of the published images: WebP, or PNG, which is larger. [source: own measurement]",
        "--image-format",
        allowed=get_args(ImageFormat),
    )
    image_quality: str | None = setting(
        None,
        "Quality of WebP images: from 1 to 100, lossless, or auto for the coarsest that costs "
        f"short students no accuracy. [default: {WEBP_QUALITY}, own measurement]",
        "--image-quality",
        metavar="auto|lossless|1..100",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        quality = self.image_quality
        if quality in (None, "auto", "lossless"):
            return
        if not (quality.isascii() and quality.isdigit() and 1 <= int(quality) <= 100):
            raise OptionError(
                f"`coding.image_quality` is {quality!r}; give auto, lossless or a number from 1 "
                "to 100"
            )
        if self.image_format == "png":
            raise OptionError(
                f"`coding.image_quality` is {quality}, but PNG has no quality; leave it out or "
                "choose `coding.image_format=webp`"
            )


@dataclass(frozen=True)
class RelabelConfig(Settings):
    """Soft labels: the giver's mean logits over augmented views, as probabilities."""

    section = "relabel"
    views: int = setting(
        16,
        "Views of each image that the giver's answer is averaged over. [source: own choice]",
        allowed=between(1, 100_000),
    )
    crop_min: float = setting(
        0.4,
        "Smallest share of the area that a random crop shows. [source: own choice, as in "
        "synthesis]",
        allowed=CROP,
    )
    giver: Giver = setting(
        "auto",
        "Who labels the images: the teacher; a committee, which is the teacher and a small ConvNet "
        "that is trained briefly; none, for hard labels alone; or auto, the one from which short "
        "students learn most. [source: own measurement; official the teacher]",
        "--label-giver",
        allowed=get_args(Giver),
    )
    committee_steps: int = setting(
        400,
        "Steps of training of the committee's ConvNet. [source: own measurement]",
        allowed=between(1, 10**6),
    )


@dataclass(frozen=True)
class LabelViewsConfig(Settings):
    """The giver's logits for single views of each image, stored beside the soft labels."""

    section = "label_views"
    count: int | None = setting(
        None,
        "Views of each image whose labels are published too, so that students need no teacher; 0 "
        f"for none. [default: {VIEWS}, our measurement, or fewer where that would be more than 50 "
        "million logits; official one per epoch]",
        "--label-views",
        allowed=between(0, 1000),
        metavar="N",
    )
    topk: int | None = setting(
        None,
        "Logits kept of each view, the largest; the others become one. Fewer views cost less "
        "accuracy. [default: all, as FKD does]",
        "--label-topk",
        allowed=Range("a number of logits from 1", 1, 1e9),
        metavar="K",
    )
    levels: int = setting(
        8,
        "Values that a stored logit can have; fewer cost accuracy. [source: own measurement]",
        allowed=between(1, 256),
    )
    crop_min: float = setting(
        0.4,
        "Smallest share of the area that a random crop shows. [source: own choice, as students "
        "see the images]",
        allowed=CROP,
    )
    budget: int | None = setting(
        None,
        "As many of the views as fit into so many bytes, such as 15kB or 2MB. [default: no limit "
        "where their number is given, else as many bytes as the images take, our choice]",
        "--label-budget",
        allowed=Range("a number of bytes from 1", 1, 1e18),
        metavar="BYTES",
    )

    def number(self, images: int, classes: int) -> int:
        """Views of each of so many images, as far as the budget does not limit them."""
        if self.count is not None:
            return self.count
        return max(1, min(VIEWS, MOST_LOGITS // (images * min(classes, self.topk or classes))))
