"""The publishable folder from outside: where it is, and sizes in words. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wdistill.errors import RunFolderError

MANIFEST_FILE = "wdistill.json"


def publish_folder(path: Path, required: Sequence[str] = (MANIFEST_FILE,)) -> Path:
    """The publishable folder that ``path`` is or, being a run folder, has in ``publish/``.

    Raises RunFolderError unless there is a file for each pattern of ``required``.
    """
    root = path / "publish" if (path / "publish").is_dir() else path
    for pattern in required:
        if not any(root.glob(pattern)):
            raise RunFolderError(
                f"{str(path)!r} has no {pattern}; give the output folder of a finished "
                "`wdistill run`, or its publish folder"
            )
    return root


def inside(folder: Path, path: Path) -> Path:
    """Refuse links that lead out of the folder, other than those of a Hub cache snapshot."""
    real, home = path.resolve(), folder.resolve()
    homes = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    if not any(real.is_relative_to(allowed) for allowed in homes):
        raise RunFolderError(f"'{path}' is a link that leads out of its folder; copy the file")
    return path


def human_bytes(size: int) -> str:
    """E.g. ``21.4 kB``, in powers of 1000."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
