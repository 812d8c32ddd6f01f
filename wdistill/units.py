"""Work units: fixed groups of whole classes, computed once, by whichever process they belong to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from torch import Tensor
from tqdm.auto import tqdm

from wdistill.artifact import read_tensors, write_tensors
from wdistill.errors import RunFolderError

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Unit:
    """Group ``index`` of whole classes."""

    index: int
    classes: tuple[int, ...]


def class_units(classes: int, ipc: int, images_per_step: int) -> tuple[Unit, ...]:
    """Consecutive classes whose images together fill about one step; the last group may be ragged.

    Depends on the settings alone, so any number of processes works on the same units.
    """
    size = max(1, images_per_step // ipc)
    starts = range(0, classes, size)
    return tuple(
        Unit(index, tuple(range(start, min(start + size, classes))))
        for index, start in enumerate(starts)
    )


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
    compute: Callable[[Unit, Callable[[int], None]], Tensors],
    ticks_per_class: int,
    tick_name: str,
    accelerator: Accelerator,
    quiet: bool,
) -> bool:
    """Compute the units that are missing; every process takes each n-th one and waits for the rest.

    ``compute(unit, advance)`` returns the unit's tensors and calls ``advance(ticks)`` as it goes.
    Returns whether this process computed anything.
    """
    mine = [u for u in units if u.index % accelerator.num_processes == accelerator.process_index]
    missing = [unit for unit in mine if read_unit(work, stage, unit, key) is None]
    total = ticks_per_class * sum(len(unit.classes) for unit in missing)
    silent = quiet or not missing or not accelerator.is_main_process
    with tqdm(total=total, desc=stage, unit=tick_name, unit_scale=True, disable=silent) as bar:
        for unit in missing:
            tensors = compute(unit, bar.update)
            write_tensors(unit_path(work, stage, unit), tensors, {"key": key})
    accelerator.wait_for_everyone()
    return bool(missing)


def collect_units(work: Path, stage: str, units: Sequence[Unit], key: str) -> list[Tensors]:
    """All units of a finished stage, in order. Raises RunFolderError if one is missing."""
    found = []
    for unit in units:
        tensors = read_unit(work, stage, unit, key)
        if tensors is None:
            raise RunFolderError(
                f"{unit_path(work, stage, unit)} is missing or damaged; "
                "run the same command again to compute it"
            )
        found.append(tensors)
    return found
