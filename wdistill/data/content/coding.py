"""How images become files, and what a reader gets back: PNG, or WebP with or without loss."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, features
from torch import Tensor

from wdistill.config import WEBP_QUALITY, CodingConfig, ImageFormat

FORMATS = ("PNG", "WEBP")
T = TypeVar("T")
R = TypeVar("R")
EFFORT = 6  # of 0 to 6: WebP's slowest and smallest, 1 ms for 32 px
AHEAD = 64  # images that are coded together
COARSE = 60  # [own] quality of WebP below which decoded images train students less well


@dataclass(frozen=True)
class Coding:
    """The format of image files.

    Attributes:
        format: PNG is without loss.
        quality: Of WebP, 1 to 100; None is without loss.
    """

    format: ImageFormat = "png"
    quality: int | None = None

    @classmethod
    def of(cls, config: CodingConfig) -> Coding | None:
        """None where the quality is still to be chosen."""
        if config.image_format == "png" or config.image_quality == "lossless":
            return cls(config.image_format)
        if config.image_quality == "auto":
            return None
        return cls("webp", int(config.image_quality or WEBP_QUALITY))

    @property
    def is_lossless(self) -> bool:
        return self.format == "png" or self.quality is None

    @property
    def is_coarse(self) -> bool:
        """Whether what a reader gets differs so much that images should be made for it."""
        return not self.is_lossless and self.quality is not None and self.quality < COARSE

    def __str__(self) -> str:
        quality = "without loss" if self.is_lossless else f"of quality {self.quality}"
        return "PNG" if self.format == "png" else f"WebP {quality}"

    @property
    def key(self) -> tuple[str, ...]:
        """What images depend on that were coded; nothing where there is no loss."""
        return () if self.is_lossless else (str(self), coder_version(self.format))

    def encode(self, image: NDArray[np.uint8], grey: bool = False) -> bytes:
        """The file of an image (H, W, 3); of its first channel alone if it is ``grey``."""
        file, picture = io.BytesIO(), Image.fromarray(image[..., 0] if grey else image)
        if self.format == "png":
            picture.save(file, "PNG", optimize=True)
        elif self.quality is None:
            picture.save(file, "WEBP", lossless=True, quality=100, method=EFFORT)
        else:
            picture.save(file, "WEBP", quality=self.quality, method=EFFORT)
        return file.getvalue()

    def files(self, images: NDArray[np.uint8], grey: bool = False) -> Iterator[bytes]:
        """The files of images (N, H, W, 3), in order. The codecs work on several cores."""
        return in_threads(lambda image: self.encode(image, grey), images)

    def seen(self, pixels: Tensor) -> Tensor:
        """What a reader gets of pixels (..., 3, R, R) uint8: they are encoded and decoded.

        Images are taken as grey if all of them are.
        """
        if self.is_lossless:
            return pixels
        images = pixels.flatten(0, -4).permute(0, 2, 3, 1).contiguous().numpy()
        grey = is_grey(images)
        decoded = list(decode_files(self.files(images, grey), grey))
        return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).view(pixels.shape)


def file_sizes(pixels: Tensor, coding: Coding, grey: bool) -> list[int]:
    """Bytes of the file of each image of pixels (n, 3, R, R) uint8."""
    images = pixels.permute(0, 2, 3, 1).contiguous().numpy()
    return [len(file) for file in coding.files(images, grey)]


def is_grey(images: NDArray[np.uint8]) -> bool:
    """Whether images (N, H, W, 3) have no colour."""
    return bool((images == images[..., :1]).all())


def decode_file(data: bytes, grey: bool = False) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) of a file, as `datasets` gives them to a reader.

    ``grey`` stands for the mode L in the features: WebP has no grey images, and rounds such ones
    to values that have a trace of colour.
    """
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return np.asarray(image.convert("L").convert("RGB") if grey else image.convert("RGB"))


def decode_files(files: Iterable[bytes], grey: bool = False) -> Iterator[NDArray[np.uint8]]:
    """The pixels of each file, in order, see :func:`decode_file`. Several cores decode."""
    return in_threads(lambda data: decode_file(data, grey), files)


def in_threads(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """``work`` of each item in order, AHEAD items at a time: the codecs let other threads run."""
    remaining = iter(items)
    with ThreadPoolExecutor() as pool:
        while part := list(itertools.islice(remaining, AHEAD)):
            yield from pool.map(work, part)


def coder_version(format: ImageFormat) -> str:
    """The library that writes files of this format, and its version."""
    name = {"png": "zlib", "webp": "webp"}[format]
    return f"{'libwebp' if name == 'webp' else name} {features.version(name)}"
