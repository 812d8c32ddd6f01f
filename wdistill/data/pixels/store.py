"""The pixels of a split, each image decoded once for all that look at it."""

from __future__ import annotations

import copy
import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from wdistill.config import RuntimeConfig
from wdistill.core.machine.meeting import meet
from wdistill.core.machine.resources import own_cores
from wdistill.core.machine.transfer import may_stay, to_device
from wdistill.core.settings import stable_hash
from wdistill.core.text import human_bytes
from wdistill.data.pixels.kept import InFile, InMemory, file_bytes, part_bytes
from wdistill.data.pixels.scaling import Preprocessing
from wdistill.data.pixels.workers import TASK, decoded, processes_pay
from wdistill.data.splits import ImageSplit
from wdistill.errors import RunFolderError

FOLDER = "pixels"
MOST_WORKERS = 32  # of a process by default: a single GPU's share of the cores of a large machine


@dataclass(frozen=True)
class Decoding:
    """How images are decoded, and where the pixels of large splits are kept.

    folder: of the files that are mapped into memory; None: all pixels are kept in memory, however
    many; threads: that decode; lasting: whether the files outlive the run; processes: that decode
    in place of threads what is kept in files, 0 for none.
    """

    folder: Path | None = None
    threads: int = 1
    lasting: bool = False
    processes: int = 0

    @property
    def workers(self) -> int:
        """As many as decode large splits."""
        return self.processes or self.threads


def decoding_for(runtime: RuntimeConfig, work: Path, accelerator: Accelerator) -> Decoding:
    """Pixels are kept in the folder that the user named, else in ``work`` until all is done."""
    folder = Path(runtime.pixel_cache).expanduser() if runtime.pixel_cache else work / FOLDER
    workers = runtime.num_workers or own_cores(accelerator, MOST_WORKERS)
    threads = runtime.num_workers or own_cores(accelerator)
    processes = workers if processes_pay(workers) else 0
    return Decoding(folder, threads, runtime.pixel_cache is not None, processes)


def remove_pixels(decoding: Decoding, accelerator: Accelerator) -> None:
    """Called by every process when all is done. A run that is killed or fails leaves its pixels to
    the next start.
    """
    meet(accelerator)
    if decoding.folder and not decoding.lasting and accelerator.is_local_main_process:
        shutil.rmtree(decoding.folder, ignore_errors=True)


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
        size = file_bytes(len(self._stored), self.preprocessing.resolution)
        return max(0, size * images // len(self._stored) - part_bytes(self.path))

    def _open(self) -> InMemory | InFile:
        path, side, images = self.path, self.preprocessing.resolution, len(self._stored)
        return InFile(path, images, side) if path else InMemory(images, side)

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
        images = sum(int((~kept.filled[rows]).sum()) for rows in batches)
        if not images:
            yield from (kept.pixels.index_select(0, rows) for rows in batches)
            return
        threads, processes = self._decoding.threads, self._decoding.processes if self.path else 0
        tasks = _tasks(batches, kept.filled)
        with closing(decoded(self._decode, tasks, images, threads, processes)) as done:
            for rows in batches:
                while next(done):  # the tasks of a batch end with an empty one
                    pass
                yield kept.pixels.index_select(0, rows)
        kept.finish()

    def _decode(self, rows: Sequence[int]) -> None:
        kept = self._kept()
        for row, image in zip(rows, self._stored.images(rows), strict=True):
            kept.keep(row, np.asarray(self.preprocessing.seen(image)).transpose(2, 0, 1))


def _tasks(batches: Sequence[Tensor], filled: Tensor) -> Iterator[list[int]]:
    """The rows of each batch that have to be decoded before it, in tasks, and an empty one. What
    other processes decode in the meantime is left out.
    """
    begun = torch.zeros_like(filled)
    for rows in batches:
        missing = rows[~(filled[rows] | begun[rows])].unique()
        begun[missing] = True
        if len(missing):
            yield from (task.tolist() for task in missing.split(TASK))
        yield []


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
