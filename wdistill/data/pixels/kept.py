"""Where decoded pixels are kept: in memory, or in a file that processes share."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from wdistill.core.files import writing
from wdistill.core.settings import stable_hash

MEMORY_BYTES = 2**28  # a split below this size (CIFAR-10 has 154 MB) is kept in memory


class InMemory:
    """Pixels (n, 3, R, R), and which of them are there."""

    def __init__(self, images: int, resolution: int) -> None:
        self.pixels = torch.empty(images, 3, resolution, resolution, dtype=torch.uint8)
        self.filled = torch.zeros(images, dtype=torch.bool)

    def keep(self, row: int, pixels: np.ndarray) -> None:
        self.pixels.numpy()[row] = pixels
        self.filled.numpy()[row] = True

    def finish(self) -> None:
        """There is nothing to be done when all pixels are there."""


class InFile:
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

    def keep(self, row: int, pixels: np.ndarray) -> None:
        """Written, not put into the mapped memory, where a full disk would end the process; at a
        place of its own, so that processes and threads may share the open file.
        """
        with writing(self._part):
            self._write(row * self._each, np.ascontiguousarray(pixels).reshape(-1).data)
            self._write(self._images * self._each + row, memoryview(b"\1"))

    def _write(self, place: int, data: memoryview) -> None:
        while data:
            count = os.pwrite(self._file.fileno(), data, place)
            place, data = place + count, data[count:]

    def finish(self) -> None:
        if not self.filled.all() or self._path.exists():
            return
        with writing(self._path), suppress(FileNotFoundError):  # another process may be first
            os.fsync(self._file.fileno())
            self._part.rename(self._path)


def file_bytes(images: int, resolution: int) -> int:
    """Of the file that holds the pixels of a split; 0 where they are kept in memory."""
    size = images * 3 * resolution**2
    return size + images if size > MEMORY_BYTES else 0


def part_bytes(path: Path) -> int:
    """Of the disk, that the file ``path`` takes before it is complete."""
    part = _part(path)
    return part.stat().st_blocks * 512 if part.exists() else 0


def _part(path: Path) -> Path:
    """The name tells Linux's starts apart: what was written before a loss of power may be lost."""
    start = Path("/proc/sys/kernel/random/boot_id")
    number = start.read_text()[:8] if start.exists() else "0"
    return path.with_name(f"{path.name}.{_host()}-{number}.part")


def _host() -> str:
    return stable_hash(platform.node())[:8]
