"""Work units: fixed groups of whole classes, each computed once, by whichever process takes it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import overload

from accelerate import Accelerator
from torch import Tensor

from wdistill.core.files import read_tensors, write_tensors
from wdistill.core.processes import Work, share_out
from wdistill.errors import OptionError, RunFolderError

Tensors = dict[str, Tensor]
GROUPS = 4  # [own] so that some processes share small sets too; alone one takes 6 % longer


@dataclass(frozen=True)
class Unit:
    """Group ``index`` of whole classes."""

    index: int
    classes: tuple[int, ...]


def class_units(classes: int, ipc: int, images_per_step: int) -> tuple[Unit, ...]:
    """Consecutive classes, as many a group as there are images for about one step, and no fewer
    than GROUPS groups if there are as many classes; sizes differ by one at the most.

    Depends on the settings alone, so any number of processes works on the same units.
    """
    count = max(math.ceil(classes / max(1, images_per_step // ipc)), min(GROUPS, classes))
    ends = [classes * (index + 1) // count for index in range(count)]
    return tuple(
        Unit(index, tuple(range(start, end)))
        for index, (start, end) in enumerate(pairwise([0, *ends]))
    )


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``count``, from 1 on: every count-th unit."""

    index: int
    count: int

    def of(self, units: Sequence[Unit]) -> tuple[Unit, ...]:
        return tuple(units[self.index - 1 :: self.count])

    @property
    def name(self) -> str:
        return f"shard-{self.index}-of-{self.count}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From ``2/8``. Raises OptionError."""
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        shard = cls(*map(int, found.groups())) if found else cls(0, 0)
        if not 1 <= shard.index <= shard.count <= 10_000:
            raise OptionError(f"--shard is {text!r}; give I/N, a part from 1/N to N/N, such as 2/8")
        return shard


def unit_path(work: Path, stage: str, unit: Unit) -> Path:
    return work / f"{stage}-{unit.index:05d}.safetensors"


def read_unit(work: Path, stage: str, unit: Unit, key: str) -> Tensors | None:
    """The unit's tensors; None if absent, damaged, or made under another key."""
    try:
        tensors, metadata = read_tensors(unit_path(work, stage, unit))
    except (FileNotFoundError, RunFolderError):
        return None
    return tensors if metadata.get("key") == key else None


def run_units(
    stage: str,
    units: Sequence[Unit],
    work: Path,
    key: str,
    compute: Callable[[Unit, Callable[[int], object]], Tensors],
    ticks_per_class: int,
    tick_name: str,
    accelerator: Accelerator,
    quiet: bool,
) -> bool:
    """Compute those of ``units`` that are missing, see :func:`share_out`.

    ``compute(unit, advance)`` returns the unit's tensors and calls ``advance(ticks)`` as it goes.
    Returns whether this process computed anything.
    """

    def write(index: int, advance: Callable[[int], object]) -> None:
        tensors = compute(units[index], advance)
        write_tensors(unit_path(work, stage, units[index]), tensors, {"key": key})

    pieces = Work(
        name=stage,
        paths=[unit_path(work, stage, unit) for unit in units],
        valid=lambda index: read_unit(work, stage, units[index], key) is not None,
        compute=write,
        ticks=lambda index: ticks_per_class * len(units[index].classes),
        tick_name=tick_name,
    )
    return bool(share_out(pieces, accelerator, quiet))


@dataclass(frozen=True)
class StoredUnits(Sequence[Tensors]):
    """What :func:`run_units` wrote, by the unit's index. Read when it is asked for and not kept, so
    that memory does not grow with the number of units.
    """

    work: Path
    stage: str
    units: tuple[Unit, ...]
    key: str

    def __len__(self) -> int:
        return len(self.units)

    @overload
    def __getitem__(self, index: int) -> Tensors: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Tensors]: ...

    def __getitem__(self, index: int | slice) -> Tensors | Sequence[Tensors]:
        """Raises RunFolderError if the unit is not there."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        tensors = read_unit(self.work, self.stage, self.units[index], self.key)
        if tensors is None:
            path = unit_path(self.work, self.stage, self.units[index])
            raise RunFolderError(
                f"{str(path)!r} is missing or damaged; delete it and run the same command again"
            )
        return tensors
