"""What the values of a column mean: classes and their names, groups, numbers."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wdistill.core.text import folded
from wdistill.data.columns import check_known, is_label, kind_of, no_label, stored
from wdistill.errors import DataError


@dataclass(frozen=True)
class Labels:
    """values: (N,) int64, -1 where there is none; names: of each class; notes: what was made of
    them.
    """

    values: np.ndarray
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_labels(
    dataset: Any, column: str, split: str, trained: tuple[str, ...] | None = None
) -> Labels:
    """The classes of a column. Without names in the dataset they are the values that occur, sorted:
    strings as text, numbers by size.

    trained: the names of the training split's classes, where that is another one.
    """
    values, feature = stored(dataset, column), dataset.features[column]
    if isinstance(feature, datasets.ClassLabel):
        labels, names = _filled(values), tuple(map(str, feature.names or ()))
        if len(labels) and labels.max() >= len(names):
            raise DataError(
                f"split {split!r} has label {labels.max()} in column {column!r}, "
                f"which names {len(names)} classes only"
            )
        labels = np.maximum(labels, -1)
    else:
        if pa.types.is_floating(values.type):
            values = _whole(values, column, feature)
        found = sorted(value for value in pc.unique(values).to_pylist() if value is not None)
        found = [value for value in found if not _is_missing(value, found, column, trained)]
        labels = _filled(pc.index_in(values, value_set=pa.array(found, values.type)))
        names = tuple(map(str, found))
    return Labels(labels, *_clean_names(names, np.unique(labels[labels >= 0])))


def _is_missing(
    value: Any, values: list[Any], column: str, trained: tuple[str, ...] | None
) -> bool:
    """Whether a value stands for no label: empty text, and -1 beside labels 0..n-1."""
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, bool) or value != -1:
        return False
    if trained is not None:
        return "-1" not in trained
    others = [other for other in values if other != -1]
    if others != list(range(len(others))):
        return False
    if 0 < len(others) <= 2:  # negative, neutral, positive; or some of two classes are unlabelled
        raise DataError(
            f"column {column!r} has labels -1, {', '.join(map(str, others))} and no names, so that "
            "-1 may be a class or no label; write the classes as text, or missing labels as null"
        )
    return True


def _whole(values: pa.ChunkedArray, column: str, feature: Any) -> pa.ChunkedArray:
    """Floats as whole numbers; what pandas makes of whole numbers where one is missing."""
    values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(no_label(column, feature)) from error


def _clean_names(
    names: tuple[str, ...], used: np.ndarray
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names without the characters that files of names and cards do not keep, and what to say.

    Control characters and line breaks become a space, spaces at the ends go. Those of ``used``, the
    classes that occur, must then still differ.
    """
    cleaned = tuple(
        "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in name).strip()
        for name in names
    )
    first: dict[str, int] = {}
    for index in used:
        name = cleaned[index]
        if not name:
            raise DataError(f"class {index} has the name {names[index]!r}; give it a name")
        same = first.setdefault(unicodedata.normalize("NFC", name), index)
        if same != index:
            how = "the same name" if names[same] == names[index] else "names that look the same"
            raise DataError(
                f"classes {same} and {index} have {how}, {names[same]!a} and "
                f"{names[index]!a}; make them one class, or give one another name"
            )
    notes = []
    changed = [index for index in used if cleaned[index] != names[index]]
    if changed:
        before, after = names[changed[0]], cleaned[changed[0]]
        notes.append(
            f"Spaces or control characters are left out of {len(changed):,} class names, such as "
            f"{before!r}, now {after!r}."
        )
    alike: dict[str, str] = {}
    for name in (cleaned[index] for index in used):
        other = alike.setdefault(folded(name), name)
        if other != name:
            notes.append(f"Classes {other!r} and {name!r} differ only in case, and are two.")
            break
    return cleaned, tuple(notes)


def _filled(values: pa.ChunkedArray) -> np.ndarray:
    filled = pc.fill_null(values.cast(pa.int64()), -1)
    return np.asarray(filled.to_numpy(), dtype=np.int64)


def read_groups(dataset: Any, column: str) -> np.ndarray:
    """(N,) int64: the number of each row's value in the group column; missing ones are a group."""
    check_known(dataset.features, column, "data.group_column")
    if not is_label(dataset.features[column]):
        raise DataError(
            f"`data.group_column` {column!r} holds {kind_of(dataset.features[column])}; "
            "name a column of names or numbers that images share, such as a domain or a client"
        )
    values = stored(dataset, column)
    known = pc.unique(values).drop_null().sort()
    return _filled(pc.index_in(values, value_set=known))


def read_numbers(dataset: Any, column: str) -> np.ndarray | None:
    """(N,) float32, or None where the column does not hold one number per row."""
    values = stored(dataset, column)
    if values.null_count or not (
        pa.types.is_floating(values.type) or pa.types.is_integer(values.type)
    ):
        return None
    return np.asarray(values.to_numpy(), dtype=np.float32)


def read_vectors(dataset: Any, column: str, width: int) -> np.ndarray | None:
    """(N, width) float32, or None where the column does not hold so many numbers per row."""
    values = stored(dataset, column).combine_chunks()
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if values.null_count or not any(kind(values.type) for kind in kinds):
        return None
    flat = values.flatten()
    if flat.null_count or len(flat) != len(values) * width:
        return None
    return np.asarray(flat.to_numpy(zero_copy_only=False), np.float32).reshape(-1, width)
