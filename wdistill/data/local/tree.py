"""All files below a folder, through links and into archives: images, tables, and what else."""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path, PurePosixPath

import datasets
from PIL import Image

from wdistill.core.settings import stable_hash
from wdistill.errors import DataError

Parts = tuple[str, ...]  # names of folders, from below the root
ARCHIVES = {
    ".tar.gz": "gztar", ".tar.bz2": "bztar", ".tar.xz": "xztar", ".tgz": "gztar",
    ".tar": "tar", ".zip": "zip",
}  # fmt: skip
PACKED = (".rar", ".7z")  # archives that Python does not unpack
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
PAPERS = ("readme", "license", "licence")  # say something about the data, whatever their suffix
OF_SYSTEMS = ("thumbs.db", "desktop.ini", "dataset_infos.json")
NO_PIXELS = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")  # PIL knows them, and cannot read them
WITHOUT_SUFFIX = "without a suffix"


@cache
def image_suffixes() -> frozenset[str]:
    """Of the files that PIL reads, in lower case."""
    known = Image.registered_extensions().items()
    return frozenset(s for s, kind in known if kind in Image.OPEN and kind not in NO_PIXELS)


@dataclass(frozen=True)
class Tree:
    """What lies below a folder.

    folders: the images of each folder, as path in the tree and path on the disk, which differ where
    there is an archive between; tables, metadata, shards: files of these kinds; others: how many
    files of each other kind; empty: folders with nothing in them.
    """

    folders: dict[Parts, list[tuple[str, str]]] = field(default_factory=dict)
    tables: list[Path] = field(default_factory=list)
    metadata: list[Path] = field(default_factory=list)
    shards: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    empty: list[str] = field(default_factory=list)

    @property
    def images(self) -> int:
        return sum(map(len, self.folders.values()))

    def left_out(self) -> str:
        """E.g. ``3 files (2 .heic, 1 .svg)``; empty where there are none."""
        return counted(self.others)


def counted(kinds: Counter[str]) -> str:
    """How many files, and the most frequent kinds of them."""
    kinds = +kinds  # without those of which there are none
    total, common = sum(kinds.values()), kinds.most_common(6)
    if not total:
        return ""
    named = [f"{count:,} {kind}" for kind, count in common]
    rest = total - sum(count for _, count in common)
    named += [f"{rest:,} of other kinds"] if rest else []
    return f"{total:,} {'file' if total == 1 else 'files'} ({', '.join(named)})"


def read_tree(root: Path) -> Tree:
    """Everything below ``root``, a folder or an archive. Links are followed, but not in circles."""
    tree = Tree()
    if root.is_dir():
        _walk(root, (), tree, frozenset())
    else:
        _walk(_unpacked(root), (), tree, frozenset())
    for images in tree.folders.values():
        images.sort()
    return tree


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(tuple(ARCHIVES))


def archive_stem(name: str) -> str:
    """``train`` of ``train.tar.gz``, and of ``train-00003-of-00010.tar`` as well."""
    stem = name[: -len(_archive_suffix(name))]
    return re.sub(r"[-_.]+\d+([-_.]of[-_.]\d+)?$", "", stem) or stem


def _archive_suffix(name: str) -> str:
    return next(suffix for suffix in ARCHIVES if name.lower().endswith(suffix))


def _walk(folder: Path, parts: Parts, tree: Tree, above: frozenset[str]) -> None:
    real = os.path.realpath(folder)
    if real in above:
        tree.others["links in a circle"] += 1
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"cannot read folder {str(folder)!r}: {error.strerror}") from error
    if not entries:
        tree.empty.append("/".join(parts))
    for entry in entries:
        path = Path(entry.path)
        _check_text(path)
        hidden = entry.name.startswith(".") or entry.name in ("__pycache__", "__MACOSX")
        if entry.is_dir():
            if hidden:
                tree.others["hidden"] += sum(1 for _ in _images_below(path))
            else:
                _walk(path, (*parts, entry.name), tree, above | {real})
        elif hidden:
            tree.others["hidden"] += path.suffix.lower() in image_suffixes()
        elif not path.exists():
            tree.others["links that lead nowhere"] += 1
        elif not path.is_file():
            tree.others["pipes or devices"] += 1
        else:
            _file(path, parts, tree)


def _check_text(path: Path) -> None:
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"the name {path.name!a} in {str(path.parent)!r} is no UTF-8; rename it"
        ) from error


def _images_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.suffix.lower() in image_suffixes())


def _file(path: Path, parts: Parts, tree: Tree) -> None:
    name, suffix = path.name.lower(), path.suffix.lower()
    if suffix in image_suffixes():
        shown = "/".join((*parts, path.name))
        tree.folders.setdefault(parts, []).append((shown, str(path)))
    elif name in METADATA:
        tree.metadata.append(path)
    elif suffix == ".parquet":
        tree.tables.append(path)
    elif is_archive(path):
        if _is_webdataset(path):
            tree.shards.append(path)
        else:
            _walk(_unpacked(path), (*parts, archive_stem(path.name)), tree, frozenset())
    elif suffix in PACKED:
        raise DataError(f"{str(path)!r} is an archive that cannot be read; unpack it, or remove it")
    elif name not in OF_SYSTEMS and not name.startswith(PAPERS):
        tree.others[suffix or WITHOUT_SUFFIX] += 1


def _is_webdataset(path: Path) -> bool:
    """Whether the first files of a tar come in groups: an image and what is said of it."""
    if path.suffix.lower() == ".zip":
        return False
    try:
        with tarfile.open(path) as archive:
            names = [member.name for member in islice(archive, 64) if member.isfile()]
    except (tarfile.TarError, OSError, EOFError) as error:
        raise _damaged(path, error) from error
    shown = [PurePosixPath(name) for name in names if not PurePosixPath(name).name.startswith(".")]
    pictures = {
        (p.parent, p.name.partition(".")[0]) for p in shown if p.suffix.lower() in image_suffixes()
    }
    about = (".cls", ".json", ".txt", ".cls2", ".id", ".index", ".csv", ".pyd", ".npy")
    return any(
        (p.parent, p.name.partition(".")[0]) in pictures for p in shown if p.suffix.lower() in about
    )


def _unpacked(path: Path) -> Path:
    """The folder of what is in an archive, kept in the cache of `datasets`."""
    state = path.stat()
    key = stable_hash([str(path.resolve()), state.st_size, state.st_mtime_ns])[:32]
    cache_folder = Path(datasets.config.HF_DATASETS_CACHE) / "wdistill-unpacked"
    target = cache_folder / key
    if target.is_dir():
        return target
    cache_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder) as scratch:
        part = Path(scratch) / "part"
        part.mkdir()
        kind = ARCHIVES[_archive_suffix(path.name)]
        try:
            shutil.unpack_archive(path, part, kind, filter=None if kind == "zip" else "data")
        except OSError as error:
            if error.errno is not None and not isinstance(error, shutil.ReadError):
                raise  # a full disk, say
            raise _damaged(path, error) from error
        except Exception as error:  # zip and tar raise many kinds on damaged or locked files
            raise _damaged(path, error) from error
        try:
            part.rename(target)
        except OSError:  # another process was first
            if not target.is_dir():
                raise
    return target


def _damaged(path: Path, error: Exception) -> DataError:
    reason = str(error).partition("\n")[0] or type(error).__name__
    return DataError(f"cannot unpack {str(path)!r}: {reason}; unpack it yourself, or remove it")
