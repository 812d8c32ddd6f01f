"""A local path as splits: what kind of files it leads to, and who reads them."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wdistill.config import DataConfig
from wdistill.data.columns import LABEL_NAMES
from wdistill.data.local.images import has_classes, read_images
from wdistill.data.local.metadata import metadata_columns, read_metadata
from wdistill.data.local.tables import by_split, read_tables
from wdistill.data.local.tree import Tree, counted, is_archive, read_tree
from wdistill.data.source_errors import ALLOWED
from wdistill.errors import DataError


@dataclass(frozen=True)
class LocalFiles:
    """kind: imagefolder or parquet; splits: a reader of each; sizes: their rows where known; name:
    where it is another than the folder's.
    """

    kind: str
    splits: Mapping[str, Callable[[], Any]]
    notes: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    name: str = ""

    def read(self, split: str) -> Any:
        return self.splits[split]()


def read_folder(path: Path, config: DataConfig) -> LocalFiles | None:
    """Images or parquet files below a folder or in an archive; None where there are neither."""
    tree = read_tree(path)
    if tree.shards:
        return None
    if tree.tables and not has_classes(tree):
        groups, rest = by_split(tree.tables, path)
        beside = tree.others + Counter({"images": tree.images}) + _unnamed(rest)
        return _tables(groups, _left_out(beside))
    if tree.metadata and not tree.images and tree.metadata[0].suffix == ".parquet":
        return _tables({"train": tree.metadata}, _left_out(tree.others))
    if not tree.images:
        if any(kind not in (".csv", ".json", ".jsonl", ".arrow", ".txt") for kind in tree.others):
            raise DataError(f"no images in {str(path)!r}; found {tree.left_out()}; give {ALLOWED}")
        return None
    if tree.metadata and _says_labels(tree, config):
        splits, sizes, notes = read_metadata(tree)
    else:
        splits, sizes, notes = read_images(path, tree, config.label_column)
        if tree.metadata:
            named = ", ".join(metadata_columns(tree)) or "no names of files"
            notes = (*notes, f"Classes are the folders; metadata files ({named}) are not used.")
    if tree.empty:
        notes = (*notes, f"Folders with nothing in them: {len(tree.empty):,}, {tree.empty[0]!r}.")
    beside = tree.others + Counter({".parquet": len(tree.tables)})
    return LocalFiles("imagefolder", splits, (*notes, *_left_out(beside)), sizes)


def _says_labels(tree: Tree, config: DataConfig) -> bool:
    """Whether metadata files tell the classes: they are asked for, or do so by name, or nothing
    else does.
    """
    columns = metadata_columns(tree)
    if config.label_column is not None:
        return config.label_column in columns
    return any(name in LABEL_NAMES for name in columns) or (bool(columns) and not has_classes(tree))


def _unnamed(files: list[Path]) -> Counter[str]:
    return Counter({".parquet that speak of no split": len(files)})


def _left_out(kinds: Counter[str]) -> tuple[str, ...]:
    text = counted(+kinds)
    return (f"Left out {text}.",) if text else ()


def read_files(path: Path, config: DataConfig) -> LocalFiles | None:
    """An archive of images, a parquet file, or those that a pattern matches."""
    found = (
        [path] if path.exists() else [Path(p) for p in sorted(glob.glob(str(path), recursive=True))]
    )
    if not found:
        raise DataError(f"{str(path)!r} matches no files; give {ALLOWED}")
    if len(found) == 1 and is_archive(found[0]):
        return read_folder(found[0], config)
    other = next((file for file in found if file.suffix != ".parquet"), None)
    if other is not None:
        raise DataError(f"{str(other)!r} is no parquet file; give {ALLOWED}")
    groups, _ = by_split(found, _fixed_part(path), whole=True)
    label = found[0].stem if len(found) == 1 else found[0].resolve().parent.name
    return _tables(groups, (), label)


def _tables(groups: dict[str, list[Path]], notes: tuple[str, ...], name: str = "") -> LocalFiles:
    splits = read_tables(groups)
    readers = {split: _reader(rows) for split, rows in splits.items()}
    return LocalFiles("parquet", readers, notes, {s: len(r) for s, r in splits.items()}, name)


def _reader(rows: Any) -> Callable[[], Any]:
    return lambda: rows


def _fixed_part(pattern: Path) -> Path:
    """The folders above the first wildcard."""
    fixed = [part for part in pattern.parents if not glob.has_magic(str(part))]
    return fixed[0] if fixed else Path()
