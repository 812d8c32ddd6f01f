"""Shards of a run that need no communication (job arrays, spot machines), and merging them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wdistill.config import RunConfig
from wdistill.core.files import (
    IDENTITY,
    atomic_write,
    guarded,
    key_of,
    locked,
    read_json,
    read_tensors,
    write_json,
)
from wdistill.core.units import Shard
from wdistill.data.content.coding import Coding
from wdistill.errors import OptionError, RunFolderError

SHARD = "shard.json"
ALONE = ("teacher-accuracy.json",)  # files of a shard besides its units


@dataclass(frozen=True)
class Merged:
    """Result of :func:`merge`.

    Attributes:
        units: Number of merged units.
        absent: Shards that were not among the parts.
        command: The command of the full run, without its folder.
    """

    units: int
    absent: tuple[Shard, ...]
    command: str


def check_shard(config: RunConfig) -> None:
    """Raise OptionError if the settings need all classes together."""
    if Coding.of(config.coding) is None:
        raise OptionError(
            "`coding.image_quality=auto` is chosen from all images, and `runtime.shard` makes a "
            "part of them; give a number from 1 to 100 or lossless"
        )
    if config.budget is not None:
        raise OptionError(
            "`budget` is spent on all classes together, and `runtime.shard` makes a part of them; "
            "give `barycenter.ipc`"
        )
    if config.barycenter.allocation == "w2":
        raise OptionError(
            "`barycenter.allocation=w2` shares images out over all classes, and `runtime.shard` "
            "makes a part of them; leave one of them out"
        )
    if config.synthesis.aim == "convnet":
        raise OptionError(
            "`synthesis.aim=convnet` trains networks on all classes, and `runtime.shard` makes a "
            "part of them; leave one of them out"
        )


def write_shard(work: Path, shard: Shard, command: str) -> None:
    """Record the shard and its command in the shard's work folder."""
    record = {"index": shard.index, "count": shard.count, "command": command}
    write_json(work / SHARD, record)


def merge(parts: Sequence[Path], folder: Path) -> Merged:
    """Merge the finished units of ``parts`` into the run folder ``folder``, which may hold some.

    Raises:
        RunFolderError: A folder is not a shard, or the shards are of different runs, numbers of
            shards, or teachers. Nothing has been written then.
    """
    records = [_read_shard(part) for part in parts]
    counts = sorted({shard.count for shard, _ in records})
    if len(counts) > 1:
        raise RunFolderError(f"the parts are of runs in {counts[0]} and in {counts[1]} parts")
    _check_same_run([*parts, *([folder] if (folder / IDENTITY).exists() else [])])
    units = _units(parts)
    with locked(folder):
        if not (folder / IDENTITY).exists():
            write_json(folder / IDENTITY, read_json(parts[0] / IDENTITY))
        for path in units:
            _copy(path, folder / "work" / path.name)
        for name in ALONE:
            with suppress(FileNotFoundError):
                atomic_write(folder / "work" / name, (parts[0] / "work" / name).read_bytes())
    present = {shard.index for shard, _ in records}
    absent = [Shard(i, counts[0]) for i in range(1, counts[0] + 1) if i not in present]
    return Merged(len(units), tuple(absent), records[0][1])


def _read_shard(part: Path) -> tuple[Shard, str]:
    """Which shard the run folder ``part`` holds, and the command that made it."""
    path = part / "work" / SHARD
    if not path.is_file() or not (part / IDENTITY).is_file():
        raise RunFolderError(
            f"{str(part)!r} is no part of a run; give folders of runs with `runtime.shard`"
        )
    record = read_json(path)
    with guarded(path):
        return Shard.parse(f"{record['index']}/{record['count']}"), str(record["command"])


def _check_same_run(folders: Sequence[Path]) -> None:
    reference, *others = ((folder, read_json(folder / IDENTITY)) for folder in folders)
    for folder, other_identity in others:
        names = sorted(
            k
            for k in reference[1].keys() | other_identity.keys()
            if reference[1].get(k) != other_identity.get(k)
        )
        if names:
            raise RunFolderError(
                f"{str(reference[0])!r} and {str(folder)!r} are not of the same run: {names[0]} is "
                f"{reference[1].get(names[0])!r} and {other_identity.get(names[0])!r}"
            )


def _units(parts: Sequence[Path]) -> list[Path]:
    """The files of all finished units, without duplicates. All units of a stage must have the same
    key, which depends on the data, the teacher and every setting.
    """
    units: dict[str, Path] = {}
    keys: dict[str, tuple[str, Path]] = {}
    for part in parts:
        for path in sorted((part / "work").glob("*-[0-9][0-9][0-9][0-9][0-9].safetensors")):
            stage, key = path.name.rsplit("-", 1)[0], str(key_of(path))
            stage_key, first_part = keys.setdefault(stage, (key, part))
            if key != stage_key:
                raise RunFolderError(
                    f"{str(first_part)!r} and {str(part)!r} are not of the same run: their "
                    "teachers, feature spaces or versions differ"
                )
            units.setdefault(path.name, path)
    return list(units.values())


def _copy(path: Path, target: Path) -> None:
    read_tensors(path)  # raises RunFolderError if it is damaged
    atomic_write(target, path.read_bytes())
