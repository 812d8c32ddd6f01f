"""A folder of images as splits: every image that lies there is in one of them, or told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from wdistill.data.local.layout import SHAPE, Layout, arrange
from wdistill.data.local.tree import Parts, Tree
from wdistill.errors import DataError

IMAGE, LABEL = "image", "label"
Readers = dict[str, Callable[[], Any]]


def has_classes(tree: Tree) -> bool:
    """Whether folders alone tell at least two classes, or it would take a look to say so."""
    if not tree.images:
        return False
    try:
        layout = _layout(tree)
    except DataError:
        return False
    return any(len(set(names.values())) > 1 for names in layout.splits.values())


def read_images(
    root: Path, tree: Tree, label_column: str | None
) -> tuple[Readers, dict[str, int], tuple[str, ...]]:
    """Readers of the splits, the number of images of each, and what should be known of them.

    The columns are ``image`` and ``label``. Where folders lie in several levels, ``folder_1`` is
    the outermost; the inner one is the label if no two of them share a name.
    """
    layout = _layout(tree)
    classes = {names for inner in layout.splits.values() for names in inner.values() if names}
    if len(classes) < 2:
        raise _flat(root, tree, classes)
    columns, notes = _columns(layout, label_column)
    readers: Readers = {
        split: partial(_dataset, tree, folders, columns) for split, folders in layout.splits.items()
    }
    sizes = {
        split: sum(len(tree.folders[parts]) for parts in folders)
        for split, folders in layout.splits.items()
    }
    return readers, sizes, (*layout.notes, *notes)


def _layout(tree: Tree) -> Layout:
    return arrange({parts: images[0][0] for parts, images in tree.folders.items()})


@dataclass(frozen=True)
class _Column:
    """One level of the folders. names: in order; is_class: else text, no candidate for labels."""

    level: int
    names: tuple[str, ...]
    is_class: bool = True


def _columns(
    layout: Layout, label_column: str | None
) -> tuple[dict[str, _Column], tuple[str, ...]]:
    """What each column holds, and what should be said of it."""
    labelled = [names for inner in layout.splits.values() for names in inner.values() if names]
    levels = range(layout.levels)
    names = [tuple(sorted({parts[level] for parts in labelled})) for level in levels]
    if layout.levels == 1:
        return {LABEL: _Column(0, names[0])}, ()
    apart = len(names[-1]) == len(set(labelled))
    columns = {f"folder_{level + 1}": _Column(level, names[level], not apart) for level in levels}
    deep = f"lie {layout.levels} deep, such as {'/'.join(labelled[0])!r}"
    if apart:
        innermost = {LABEL: _Column(levels[-1], names[-1])}
        return innermost | columns, (f"Folders {deep}; the innermost are the classes.",)
    if label_column is None:
        shown = "; ".join(f"{name} ({_some(column.names)})" for name, column in columns.items())
        raise DataError(
            f"folders of images {deep}, and each level could be the class; choose one with "
            f"`data.label_column`: {shown}"
        )
    return columns, ()


def _some(values: tuple[str, ...]) -> str:
    return ", ".join(values[:3]) + (", ..." if len(values) > 3 else "")


def _dataset(tree: Tree, folders: Mapping[Parts, Parts], columns: Mapping[str, _Column]) -> Any:
    """Rows in the order of their paths, as `datasets` has them."""
    rows = sorted(
        (shown, path, names)
        for parts, names in folders.items()
        for shown, path in tree.folders[parts]
    )
    arrays, features = [file_cells([path for _, path, _ in rows])], {IMAGE: datasets.Image()}
    for name, column in columns.items():
        values = [names[column.level] if names else None for _, _, names in rows]
        if column.is_class:
            position = {class_: index for index, class_ in enumerate(column.names)}
            arrays.append(pa.array([position.get(str(value), -1) for value in values], pa.int64()))
            features[name] = datasets.ClassLabel(names=list(column.names))
        else:
            arrays.append(pa.array(values, pa.string()))
            features[name] = datasets.Value("string")
    return dataset_of(arrays, features)


def file_cells(paths: list[str]) -> pa.StructArray:
    """Cells of an image column whose bytes are in files."""
    nothing = pa.nulls(len(paths), pa.binary())
    return pa.StructArray.from_arrays(
        [nothing, pa.array(paths, pa.string())], names=["bytes", "path"]
    )


def dataset_of(arrays: list[pa.Array], features: dict[str, Any]) -> datasets.Dataset:
    table = pa.Table.from_arrays(arrays, names=list(features))
    return datasets.Dataset(table, info=datasets.DatasetInfo(features=datasets.Features(features)))


def _flat(root: Path, tree: Tree, classes: set[Parts]) -> DataError:
    where = f"one folder, {classes.pop()[-1]!r}" if classes else "no folders of classes"
    beside = f" (beside them: {tree.left_out()})" if tree.others else ""
    return DataError(
        f"the {tree.images:,} images in {root.name!r} lie in {where}{beside}; "
        f"{SHAPE}; or their classes stand in a metadata.csv with columns file_name and label"
    )
