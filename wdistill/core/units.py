"""Work units: fixed groups of whole classes, each computed once, by any of the processes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar, overload

from accelerate import Accelerator
from torch import Tensor

from wdistill.core.files import read_tensors, write_tensors
from wdistill.core.processes import Work, share_out
from wdistill.errors import OptionError, RunFolderError

Tensors = dict[str, Tensor]
GROUPS = 4  # [own] lets several processes share even a small set; costs one process 6 %


@dataclass(frozen=True)
class Unit:
    """Group number ``index`` of whole classes, by their labels."""

    index: int
    classes: tuple[int, ...]


def class_units(classes: int, ipc: int, images_per_step: int) -> tuple[Unit, ...]:
    """Consecutive classes in groups whose images fill about one optimisation step.

    There are at least GROUPS groups, or as many as there are classes; their sizes differ by at most
    one. The groups depend only on the settings, so they are the same for any number of processes.
    """
    count = max(math.ceil(classes / max(1, images_per_step // ipc)), min(GROUPS, classes))
    ends = [classes * (index + 1) // count for index in range(count)]
    return tuple(
        Unit(index, tuple(range(start, end)))
        for index, (start, end) in enumerate(pairwise([0, *ends]))
    )


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``count``, counted from 1: every ``count``-th unit."""

    index: int
    count: int

    def of(self, units: Sequence[Unit]) -> tuple[Unit, ...]:
        return tuple(units[self.index - 1 :: self.count])

    @property
    def name(self) -> str:
        return f"shard-{self.index}-of-{self.count}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse I/N such as ``2/8``. Raises OptionError."""
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        shard = cls(*map(int, match.groups())) if match else cls(0, 0)
        if not 1 <= shard.index <= shard.count <= 10_000:
            raise OptionError(
                f"`runtime.shard` is {text!r}; give I/N, a part from 1/N to N/N, such as 2/8"
            )
        return shard


class UnitResult(Protocol):
    """What a stage computes for one unit: a frozen object that is stored as tensors in the unit's
    file.
    """

    def to_tensors(self) -> Tensors: ...

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> Self: ...


R = TypeVar("R", bound=UnitResult)
Advance = Callable[[int], object]  # called with the number of completed ticks


@dataclass(frozen=True)
class Stage(Generic[R]):
    """A step of a run that computes one result per unit.

    Attributes:
        name: Name of the files and of the progress bar.
        key: A hash of everything that the results depend on; files with another key are stale.
        result: The type of a unit's result.
        ticks_per_class: Progress ticks per class.
        tick_name: Unit of the progress bar.
    """

    name: str
    key: str
    result: type[R]
    ticks_per_class: int = 1
    tick_name: str = "class"

    def path(self, folder: Path, unit: Unit) -> Path:
        """The file of ``unit`` in the folder of all units."""
        return folder / f"{self.name}-{unit.index:05d}.safetensors"

    def read(self, folder: Path, unit: Unit) -> R | None:
        """The unit's result; None if it is absent, damaged, or has another key."""
        try:
            tensors, metadata = read_tensors(self.path(folder, unit))
        except (FileNotFoundError, RunFolderError):
            return None
        return self.result.from_tensors(tensors) if metadata.get("key") == self.key else None

    def write(self, folder: Path, unit: Unit, result: R) -> None:
        write_tensors(self.path(folder, unit), result.to_tensors(), {"key": self.key})


@dataclass(frozen=True)
class Computation(Generic[R]):
    """How the units of a stage are computed.

    Attributes:
        stage: What is computed.
        function: Called with the unit and ``advance``; returns the unit's result and calls
            ``advance(ticks)`` as it progresses.
        begin: Called with each unit before ``function`` is, where possible while the unit before is
            not finished; None if nothing can be begun earlier.
    """

    stage: Stage[R]
    function: Callable[[Unit, Advance], R]
    begin: Callable[[Unit], object] | None = None


def compute_units(
    computation: Computation[R],
    units: Sequence[Unit],
    folder: Path,
    accelerator: Accelerator,
    quiet: bool,
) -> bool:
    """Compute the ``units`` whose files are missing in ``folder``, see :func:`share_out`. Returns
    whether this process computed anything.
    """
    stage, begin = computation.stage, computation.begin

    def write(index: int, advance: Advance) -> None:
        stage.write(folder, units[index], computation.function(units[index], advance))

    work = Work(
        name=stage.name,
        paths=[stage.path(folder, unit) for unit in units],
        valid=lambda index: stage.read(folder, units[index]) is not None,
        compute=write,
        ticks=lambda index: stage.ticks_per_class * len(units[index].classes),
        tick_name=stage.tick_name,
        begin=None if begin is None else lambda index: begin(units[index]),
    )
    return bool(share_out(work, accelerator, quiet))


@dataclass(frozen=True)
class StoredUnits(Sequence[R]):
    """The results that :func:`compute_units` wrote, by unit index. Each is read from disk on every
    access, so that memory does not grow with the number of units.
    """

    stage: Stage[R]
    folder: Path
    units: tuple[Unit, ...]

    def __len__(self) -> int:
        return len(self.units)

    @overload
    def __getitem__(self, index: int) -> R: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[R]: ...

    def __getitem__(self, index: int | slice) -> R | Sequence[R]:
        """Raises RunFolderError if the unit's file is missing or damaged."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        result = self.stage.read(self.folder, self.units[index])
        if result is None:
            path = self.stage.path(self.folder, self.units[index])
            raise RunFolderError(
                f"{str(path)!r} is missing or damaged; delete it and run the same command again"
            )
        return result


@dataclass(frozen=True)
class StageOutput(Generic[R]):
    """Output of a stage: its key, and the result of every unit in order."""

    key: str
    units: Sequence[R]
