"""PIL images to square uint8 pixels, each decoded once for all that look at it."""

from __future__ import annotations

import copy
import itertools
import os
import platform
import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

from wdistill.config import RuntimeConfig
from wdistill.core.files import writing
from wdistill.core.machine.meeting import meet
from wdistill.core.machine.resources import own_cores
from wdistill.core.machine.transfer import may_stay, to_device
from wdistill.core.settings import stable_hash
from wdistill.core.text import human_bytes
from wdistill.data.splits import ImageSplit
from wdistill.errors import RunFolderError

MEMORY_BYTES = 2**28  # a split below this size (CIFAR-10 has 154 MB) is kept in memory
FOLDER = "pixels"
TASK = 16  # images that a thread decodes at a time
AHEAD = 512  # images that are decoded before they are needed
LONGEST = 16  # times the shorter side; only the middle of longer images is scaled


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's input.

    resolution: pixels of a side of the square result
    resize:     length of the shorter side before the centre crop; 0: both sides go straight to
                ``resolution``, whatever the aspect ratio
    mean, std:  per channel, for pixels in [0, 1]
    resample:   PIL's filter code
    warp:       both sides go to ``resize`` before the centre crop, whatever the aspect ratio
    """

    resolution: int
    resize: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resample: int = int(Image.Resampling.BILINEAR)
    warp: bool = False

    @property
    def geometry(self) -> tuple[int, int, int, bool]:
        """What the pixels depend on: all but the normalisation."""
        return self.resolution, self.resize, self.resample, self.warp

    def scaled(self, image: Image.Image) -> Image.Image:
        """An RGB image whose centre is what the network sees. Scaled again it stays as it is."""
        size = self.resolution
        if image.size == (size, size) and self.resize <= size:
            return image
        side = self.resize if self.warp else size
        sides = (side, side)
        if self.resize and not self.warp:
            image = _middle(image)
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


def _middle(image: Image.Image) -> Image.Image:
    """What can be seen of an image that is far longer than it is wide, scaled by its shorter side:
    without the ends, whose scaled pixels might take gigabytes. Others stay as they are.
    """
    keep = LONGEST * min(image.size)
    left, top = (max(0, side - keep) // 2 for side in image.size)  # as much as on the other end
    if not left and not top:
        return image
    return image.crop((left, top, image.width - left, image.height - top))


@dataclass(frozen=True)
class Decoding:
    """How images are decoded, and where the pixels of large splits are kept.

    folder: of the files that are mapped into memory; None: all pixels are kept in memory, however
    many; threads: that decode; lasting: whether the files outlive the run.
    """

    folder: Path | None = None
    threads: int = 1
    lasting: bool = False


def decoding_for(runtime: RuntimeConfig, work: Path, accelerator: Accelerator) -> Decoding:
    """Pixels are kept in the folder that the user named, else in ``work`` until all is done."""
    folder = Path(runtime.pixel_cache).expanduser() if runtime.pixel_cache else work / FOLDER
    return Decoding(
        folder, runtime.num_workers or own_cores(accelerator), runtime.pixel_cache is not None
    )


def remove_pixels(decoding: Decoding, accelerator: Accelerator) -> None:
    """Called by every process when all is done. A run that is killed or fails leaves its pixels to
    the next start.
    """
    meet(accelerator)
    if decoding.folder and not decoding.lasting and accelerator.is_local_main_process:
        shutil.rmtree(decoding.folder, ignore_errors=True)


class _Memory:
    """Pixels (n, 3, R, R), and which of them are there."""

    def __init__(self, images: int, resolution: int) -> None:
        self.pixels = torch.empty(images, 3, resolution, resolution, dtype=torch.uint8)
        self.filled = torch.zeros(images, dtype=torch.bool)

    def keep(self, rows: Tensor, pixels: Tensor) -> None:
        self.pixels[rows] = pixels
        self.filled[rows] = True

    def finish(self) -> None:
        """There is nothing to be done when all pixels are there."""


class _File:
    """The same in a file, which all processes of this machine map into their memory: n images, then
    a byte for each, 1 where the image is there.

    It has its own name when it is complete, and before that one of this machine alone: pages that
    are mapped are not the same for two machines.
    """

    def __init__(self, path: Path, images: int, resolution: int) -> None:
        self._path, self._part = path, _part(path)
        self._each = 3 * resolution**2
        self._images, size = images, images * (self._each + 1)
        with writing(self._part):
            if path.exists() and path.stat().st_size == size:
                data = np.memmap(path, np.uint8, "c")  # may belong to somebody else
            else:
                self._part.parent.mkdir(parents=True, exist_ok=True)
                for old in path.parent.glob(f"{path.name}.{_host()}-*.part"):
                    if old != self._part:  # of before this machine was started
                        old.unlink(missing_ok=True)
                with self._part.open("ab") as file:
                    file.truncate(size)
                self._file = self._part.open("r+b", buffering=0)
                data = np.memmap(self._part, np.uint8, "r+")
        everything = torch.from_numpy(data)
        self.pixels = everything[: images * self._each].view(images, 3, resolution, resolution)
        self.filled = everything[images * self._each :].view(torch.bool)

    def keep(self, rows: Tensor, pixels: Tensor) -> None:
        """Written, not put into the mapped memory, where a full disk would end the process."""
        with writing(self._part):
            for row, image in zip(rows.tolist(), pixels, strict=True):
                self._write(row * self._each, image.numpy().reshape(-1).data)
            for row in rows.tolist():
                self._write(self._images * self._each + row, memoryview(b"\1"))

    def _write(self, place: int, data: memoryview) -> None:
        self._file.seek(place)
        while data:
            data = data[self._file.write(data) :]

    def finish(self) -> None:
        if not self.filled.all() or self._path.exists():
            return
        with writing(self._path), suppress(FileNotFoundError):  # another process may be first
            os.fsync(self._file.fileno())
            self._part.rename(self._path)


def _host() -> str:
    return stable_hash(platform.node())[:8]


def _part(path: Path) -> Path:
    """The name tells Linux's starts apart: what was written before a loss of power may be lost."""
    start = Path("/proc/sys/kernel/random/boot_id")
    number = start.read_text()[:8] if start.exists() else "0"
    return path.with_name(f"{path.name}.{_host()}-{number}.part")


def file_bytes(images: int, resolution: int) -> int:
    """Of the file that holds the pixels of a split; 0 where they are kept in memory."""
    size = images * 3 * resolution**2
    return size + images if size > MEMORY_BYTES else 0


class PixelStore:
    """Pixels of a split at a network's resolution, as (n, 3, R, R) uint8 on the CPU.

    An image is decoded when it is asked for the first time, and kept.
    """

    def __init__(
        self,
        split: ImageSplit,
        preprocessing: Preprocessing,
        decoding: Decoding | None = None,
        quiet: bool = True,
    ) -> None:
        self.split = split
        self.preprocessing = preprocessing
        self.quiet = quiet
        self.labels = torch.from_numpy(split.labels)
        self._decoding = decoding or Decoding()
        self._stored = split
        self.rows = torch.arange(len(split))  # of ``whole``
        self._kept = cache(self._open)
        self._staying: dict[tuple[torch.device, int], list[Tensor]] = {}

    def __len__(self) -> int:
        return len(self.split)

    def normalised(self, preprocessing: Preprocessing) -> PixelStore:
        """The same pixels for a network that normalises them as ``preprocessing`` says."""
        if preprocessing.geometry != self.preprocessing.geometry:
            raise ValueError("the pixels of another geometry are others")
        store = copy.copy(self)
        store.preprocessing = preprocessing
        return store

    def take(self, rows: Tensor) -> PixelStore:
        """The same pixels with only these rows, in this order."""
        store = copy.copy(self)
        store.split, store.labels = self.split.take(rows.numpy()), self.labels[rows]
        store.rows, store._staying = self.rows[rows], {}
        return store

    @property
    def whole(self) -> PixelStore:
        """With all rows that were there before :meth:`take`."""
        store = copy.copy(self)
        store.split, store.labels = self._stored, torch.from_numpy(self._stored.labels)
        store.rows, store._staying = torch.arange(len(self._stored)), {}
        return store

    @property
    def path(self) -> Path | None:
        """The file of the pixels; None where they are kept in memory."""
        folder, side = self._decoding.folder, self.preprocessing.resolution
        split = self._stored
        if folder is None or not file_bytes(len(split), side):
            return None
        rows = sha256(split.rows.astype("<i8").tobytes()).hexdigest()
        key = [split.fingerprint, split.name, rows, self.preprocessing.geometry]
        return folder / f"{stable_hash(key)}.pixels"

    def missing_bytes(self, images: int) -> int:
        """Of the pixels of so many images, without those that the disk has already."""
        if self.path is None or self.path.exists():
            return 0
        part = _part(self.path)
        written = part.stat().st_blocks * 512 if part.exists() else 0
        size = file_bytes(len(self._stored), self.preprocessing.resolution)
        return max(0, size * images // len(self._stored) - written)

    def _open(self) -> _Memory | _File:
        path, side, images = self.path, self.preprocessing.resolution, len(self._stored)
        return _File(path, images, side) if path else _Memory(images, side)

    def batches(self, rows: Sequence[int] | Tensor, batch_size: int) -> Iterator[Tensor]:
        """Pixels of ``rows``, in this order, ``batch_size`` at a time."""
        rows = torch.as_tensor(rows, dtype=torch.int64)
        yield from self._pixels(rows.split(batch_size) if len(rows) else ())

    def parts(self, groups: Sequence[Tensor], batch_size: int) -> Iterator[Iterator[Tensor]]:
        """The :meth:`batches` of each group of rows, to be used up one after the other. Decoding
        goes on with the next group while a caller is busy with the last.
        """
        batches = [group.split(batch_size) for group in groups]
        pixels = self._pixels([rows for group in batches for rows in group])
        for group in batches:
            yield itertools.islice(pixels, len(group))

    def all_on(self, device: torch.device, batch_size: int) -> Iterator[Tensor]:
        """All pixels in order on ``device``, ``batch_size`` at a time. They stay there for the next
        time if that takes little of its memory, as long as this store is kept.
        """
        if (device, batch_size) in self._staying:
            yield from self._staying[device, batch_size]
            return
        stay = may_stay(len(self) * 3 * self.preprocessing.resolution**2, device)
        batches = []
        for pixels in self.batches(torch.arange(len(self)), batch_size):
            there = to_device(pixels, device)
            if stay:
                batches.append(there)
            yield there
        if stay:
            self._staying[device, batch_size] = batches

    def get(self, rows: Sequence[int] | Tensor) -> Tensor:
        side = self.preprocessing.resolution
        return torch.cat(
            [torch.empty(0, 3, side, side, dtype=torch.uint8), *self.batches(rows, 256)]
        )

    def _pixels(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        kept = self._kept()
        batches = [self.rows[rows] for rows in batches]
        if all(kept.filled[rows].all() for rows in batches):
            yield from (kept.pixels[rows] for rows in batches)
            return
        for rows, tasks in self._decoded(batches, kept.filled):
            for task, pixels in tasks:
                kept.keep(task, pixels.result())
            yield kept.pixels[rows]
        kept.finish()

    def _decoded(
        self, batches: Sequence[Tensor], filled: Tensor
    ) -> Iterator[tuple[Tensor, list[tuple[Tensor, Future[Tensor]]]]]:
        """Each batch of rows, with those of them that have to be decoded first and their pixels."""
        begun = torch.zeros_like(filled)
        queue: deque[tuple[Tensor, list[tuple[Tensor, Future[Tensor]]]]] = deque()
        ahead = 0
        pool = ThreadPoolExecutor(self._decoding.threads)
        try:
            for rows in batches:
                missing = rows[~(filled[rows] | begun[rows])].unique()
                begun[missing] = True
                tasks = missing.split(TASK) if len(missing) else ()
                queue.append((rows, [(task, pool.submit(self._decode, task)) for task in tasks]))
                ahead += len(rows)
                while ahead > AHEAD and len(queue) > 1:
                    ahead -= len(queue[0][0])
                    yield queue.popleft()
            yield from queue
        finally:
            pool.shutdown(cancel_futures=True)

    def _decode(self, rows: Tensor) -> Tensor:
        return torch.stack([self.preprocessing(self._stored.image(row)) for row in rows.tolist()])


def check_room(wanted: Mapping[PixelStore, int]) -> None:
    """Raise RunFolderError if the disk has no room for the pixels that are still to be decoded.

    Args:
        wanted: How many images of each store will be looked at.
    """
    missing = {
        store.path: store.missing_bytes(images) for store, images in wanted.items() if store.path
    }
    for folder in {path.parent for path in missing}:
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free, needed = shutil.disk_usage(existing).free, sum(missing.values())
        if needed > free:
            raise RunFolderError(
                f"the decoded images take {human_bytes(needed)} and {str(folder)!r} has room for "
                f"{human_bytes(free)}; free some space, or name another folder with "
                "`runtime.pixel_cache`"
            )


def to_float(pixels: Tensor, device: torch.device) -> Tensor:
    """uint8 pixels to float32 in [0, 1] on ``device``."""
    return to_device(pixels, device).contiguous().float().div_(255)


def to_uint8(pixels: Tensor) -> Tensor:
    """Float pixels in [0, 1] to the nearest uint8."""
    return pixels.detach().clamp(0, 1).mul(255).round().to(torch.uint8)
