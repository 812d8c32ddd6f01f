"""PIL images to square uint8 pixels, decoded once where they fit in memory."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wdistill.core.log import Progress
from wdistill.data.splits import ImageSplit
from wdistill.errors import DataError

CACHE_BYTES = 2**28  # a split below this size (CIFAR-10 has 154 MB) is kept decoded


def fits_in_memory(images: int, resolution: int) -> bool:
    """Whether a split of so many images is kept decoded."""
    return images * 3 * resolution**2 <= CACHE_BYTES


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's input.

    resolution: pixels of a side of the square result
    resize:     length of the shorter side before the centre crop; 0: both sides go straight to
                ``resolution``, whatever the aspect ratio
    mean, std:  per channel, for pixels in [0, 1]
    resample:   PIL's filter code
    """

    resolution: int
    resize: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resample: int = int(Image.Resampling.BILINEAR)

    def scaled(self, image: Image.Image) -> Image.Image:
        """An RGB image whose centre is what the network sees. Scaled again it stays as it is."""
        size = self.resolution
        if image.size == (size, size) and self.resize <= size:
            return image
        sides = (size, size)
        if self.resize:
            short = min(image.size)  # the longer side is cut, not rounded, as processors do
            width, height = (max(size, self.resize * side // short) for side in image.size)
            sides = (width, height)
        return image.resize(sides, Image.Resampling(self.resample))

    def __call__(self, image: Image.Image) -> Tensor:
        """(3, R, R) uint8 pixels of an RGB image."""
        size, image = self.resolution, self.scaled(image)
        left, top = ((side - size) // 2 for side in image.size)
        image = image.crop((left, top, left + size, top + size))
        return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).contiguous()


class _Rows(Dataset[Tensor]):
    def __init__(self, split: ImageSplit, preprocessing: Preprocessing):
        self.split, self.preprocessing = split, preprocessing

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, row: int) -> Tensor:
        return self.preprocessing(self.split.image(row))


class PixelStore:
    """Pixels of a split at a network's resolution, as (n, 3, R, R) uint8 on the CPU."""

    def __init__(
        self, split: ImageSplit, preprocessing: Preprocessing, workers: int = 0, quiet: bool = True
    ) -> None:
        self.split = split
        self.preprocessing = preprocessing
        self.workers = workers
        self.quiet = quiet
        self.labels = torch.from_numpy(split.labels)
        self._fits = fits_in_memory(len(split), preprocessing.resolution)
        self._cache: Tensor | None = None
        self._where: Tensor | None = None  # of each row in the cache, if that does not hold all

    def __len__(self) -> int:
        return len(self.split)

    def _decode(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Pixels of each batch of rows, by one set of worker processes for all."""
        loader = DataLoader(
            _Rows(self.split, self.preprocessing),
            batch_sampler=[batch.tolist() for batch in batches],
            num_workers=self.workers if len(batches) > 1 else 0,
        )
        try:
            yield from loader
        except DataError as error:  # a worker process hides its message below a traceback
            told = str(error).strip().splitlines()[-1]
            raise DataError(told.removeprefix("wdistill.errors.DataError: ")) from None

    def preload(self) -> None:
        """Decode the whole split, if it fits in memory; otherwise do nothing."""
        if not self._fits or self._cache is not None:
            return
        side = self.preprocessing.resolution
        cache = torch.empty(len(self), 3, side, side, dtype=torch.uint8)
        filled = 0
        with Progress("decoding", len(self), "img", quiet=self.quiet) as bar:
            for batch in self._decode(torch.arange(len(self)).split(256)):
                cache[filled : filled + len(batch)] = batch
                filled += len(batch)
                bar.update(len(batch))
        self._cache = cache

    def held(self, rows: Tensor) -> PixelStore:
        """This store, with ``rows`` (and no others) decoded once; itself if all are."""
        if self._cache is not None:
            return self
        held = PixelStore(self.split, self.preprocessing, self.workers, self.quiet)
        held._cache = self.get(rows)
        held._where = torch.full((len(self),), -1)
        held._where[rows] = torch.arange(len(rows))
        return held

    def batches(self, rows: Sequence[int] | Tensor, batch_size: int) -> Iterator[Tensor]:
        """Pixels of ``rows``, in this order, ``batch_size`` at a time."""
        rows = torch.as_tensor(rows, dtype=torch.int64)
        yield from self._pixels(rows.split(batch_size) if len(rows) else ())

    def parts(self, groups: Sequence[Tensor], batch_size: int) -> Iterator[Iterator[Tensor]]:
        """The :meth:`batches` of each group of rows, to be used up one after the other. Worker
        processes go on with the next group while a caller is busy with the last.
        """
        batches = [group.split(batch_size) for group in groups]
        pixels = self._pixels([rows for group in batches for rows in group])
        for group in batches:
            yield itertools.islice(pixels, len(group))

    def _pixels(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        if self._cache is None:
            yield from self._decode(batches)
            return
        for rows in batches:
            where = rows if self._where is None else self._where[rows]
            if self._where is not None and bool((where < 0).any()):
                raise IndexError("a row that this store does not hold")
            yield self._cache[where]

    def get(self, rows: Sequence[int] | Tensor) -> Tensor:
        side = self.preprocessing.resolution
        return torch.cat(
            [torch.empty(0, 3, side, side, dtype=torch.uint8), *self.batches(rows, 256)]
        )


def to_float(pixels: Tensor, device: torch.device) -> Tensor:
    """uint8 pixels to float32 in [0, 1] on ``device``."""
    return pixels.to(device, non_blocking=True).contiguous().float().div_(255)


def to_uint8(pixels: Tensor) -> Tensor:
    """Float pixels in [0, 1] to the nearest uint8."""
    return pixels.detach().clamp(0, 1).mul(255).round().to(torch.uint8)


def png_bytes(pixels: Tensor) -> list[int]:
    """Bytes of each image of pixels (n, 3, R, R) uint8 as a PNG file."""
    sizes = []
    for image in pixels.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG", optimize=True)
        sizes.append(len(file.getvalue()))
    return sizes
