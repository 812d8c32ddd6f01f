"""Which column holds the images, which the labels, and what the labels mean."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wdistill.config import DataConfig
from wdistill.core.text import folded
from wdistill.errors import DataError

IMAGE_NAMES = ("image", "img")
LABEL_NAMES = ("label", "labels", "fine_label", "class", "class_id", "category", "target")


def choose_columns(dataset: Any, config: DataConfig) -> tuple[str, str]:
    """Names of the image and of the label column: as given, else the only candidates."""
    image, found = candidates(dataset.features, config)
    if config.label_column is None:
        found = [name for name in found if _is_usual(name, dataset) or _repeats(name, dataset)]
    if not found:
        raise _no_label_column(dataset.features)
    if len(found) > 1:
        raise DataError(
            f"the dataset has several label columns; choose one with `data.label_column`: "
            f"{', '.join(found)}"
        )
    return image, found[0]


def candidates(features: Any, config: DataConfig) -> tuple[str, list[str]]:
    """The image column, and the columns that by name and type may hold the labels.

    Raises DataError if there is none, which can be told before any row is read.
    """
    return _image_column(features, config.image_column), _label_columns(
        features, config.label_column
    )


def read_groups(dataset: Any, column: str) -> np.ndarray:
    """(N,) int64: the number of each row's value in the group column; missing ones are a group."""
    _known(dataset.features, column, "data.group_column")
    if not is_label(dataset.features[column]):
        raise DataError(
            f"`data.group_column` {column!r} holds {_kind(dataset.features[column])}; "
            "name a column of names or numbers that images share, such as a domain or a client"
        )
    values = _stored(dataset, column)
    known = pc.unique(values).drop_null().sort()
    return _filled(pc.index_in(values, value_set=known))


def _image_column(features: Any, given: str | None) -> str:
    if given is not None:
        _known(features, given, "data.image_column")
        if not (_is_image(features[given]) or _is_encoded(features[given])):
            raise DataError(
                f"`data.image_column` {given!r} holds {_kind(features[given])}, not images; "
                f"columns: {_listed(features)}"
            )
        return given
    found = [name for name, feature in features.items() if _is_image(feature)]
    if not found:
        found = [name for name in IMAGE_NAMES if name in features and _is_encoded(features[name])]
    usual = next((name for name in IMAGE_NAMES if name in features), None)
    if not found and usual is not None:
        raise DataError(
            f"column {usual!r} holds {_kind(features[usual])}, not images; publish the images "
            "themselves in it, or name another column with `data.image_column`"
        )
    if not found:
        raise DataError(
            f"the dataset has no image column (columns: {_listed(features)}); "
            "if one holds encoded images, name it with `data.image_column`"
        )
    if len(found) > 1:
        raise DataError(
            f"the dataset has several image columns; choose one with `data.image_column`: "
            f"{', '.join(found)}"
        )
    return str(found[0])


def _label_columns(features: Any, given: str | None) -> list[str]:
    if given is not None:
        _known(features, given, "data.label_column")
        if not may_be_label(features[given]):
            raise DataError(_no_label(given, features[given]))
        return [given]
    found = [name for name, feature in features.items() if _is_class(feature)]
    if not found:
        named = [name for name in LABEL_NAMES if name in features]
        found = [name for name in named if may_be_label(features[name])]
        if not found and named:
            raise DataError(_no_label(named[0], features[named[0]]))
    found = found or [name for name, feature in features.items() if is_label(feature)]
    if not found:
        raise _no_label_column(features)
    return found


def _no_label_column(features: Any) -> DataError:
    return DataError(
        f"the dataset has no label column (columns: {_listed(features)}); "
        "name one with `data.label_column`"
    )


def _is_usual(name: str, dataset: Any) -> bool:
    return name in LABEL_NAMES or _is_class(dataset.features[name])


def _repeats(name: str, dataset: Any) -> bool:
    """Whether values are shared by rows, as classes are and names, texts and numbers are not."""
    values = _stored(dataset, name)
    distinct = int(pc.count_distinct(values).as_py())
    return 2 <= distinct <= int(pc.count(values).as_py()) / 2


def _known(features: Any, name: str, setting: str) -> None:
    if name not in features:
        raise DataError(f"`{setting}` {name!r} does not exist; choose from {_listed(features)}")


def _listed(features: Any) -> str:
    return ", ".join(features)


def _no_label(name: str, feature: Any) -> str:
    return (
        f"column {name!r} holds {_kind(feature)}, but one class per image is needed; "
        "name a column of class names or numbers with `data.label_column`"
    )


def _kind(feature: Any) -> str:
    """A feature in a user's words."""
    if isinstance(feature, datasets.Value):
        return str(feature.dtype)
    if isinstance(feature, list) or "List" in type(feature).__name__:
        return "lists (several labels per image)"
    return f"{type(feature).__name__} values"


def _is_image(feature: Any) -> bool:
    return isinstance(feature, datasets.Image)


def _is_encoded(feature: Any) -> bool:
    """Files in parquet that lacks Hugging Face's schema: bytes, or a struct of bytes and path."""
    if isinstance(feature, dict):
        return set(feature) <= {"bytes", "path"} and "bytes" in feature
    return isinstance(feature, datasets.Value) and feature.dtype in ("binary", "large_binary")


def _is_class(feature: Any) -> bool:
    return isinstance(feature, datasets.ClassLabel)


def is_label(feature: Any) -> bool:
    if _is_class(feature):
        return True
    kinds = ("int", "uint", "bool", "string", "large_string")
    return isinstance(feature, datasets.Value) and str(feature.dtype).startswith(kinds)


def may_be_label(feature: Any) -> bool:
    """Also numbers that turn out to be whole, in a column that is named or has a usual name."""
    is_float = isinstance(feature, datasets.Value) and str(feature.dtype).startswith("float")
    return is_float or is_label(feature)


def is_named(feature: Any) -> bool:
    """Whether the classes of a label column have names, be it those of numbers."""
    return _is_class(feature) or str(feature.dtype).endswith("string")


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
    values, feature = _stored(dataset, column), dataset.features[column]
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
    return Labels(labels, *clean_names(names, np.unique(labels[labels >= 0])))


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
        raise DataError(_no_label(column, feature)) from error


def clean_names(
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


def _stored(dataset: Any, column: str) -> pa.ChunkedArray:
    return dataset.with_format("arrow").select_columns([column])[:].column(0)


def _filled(values: pa.ChunkedArray) -> np.ndarray:
    filled = pc.fill_null(values.cast(pa.int64()), -1)
    return np.asarray(filled.to_numpy(), dtype=np.int64)


def read_numbers(dataset: Any, column: str) -> np.ndarray | None:
    """(N,) float32, or None where the column does not hold one number per row."""
    values = _stored(dataset, column)
    if values.null_count or not (
        pa.types.is_floating(values.type) or pa.types.is_integer(values.type)
    ):
        return None
    return np.asarray(values.to_numpy(), dtype=np.float32)


def read_vectors(dataset: Any, column: str, width: int) -> np.ndarray | None:
    """(N, width) float32, or None where the column does not hold so many numbers per row."""
    values = _stored(dataset, column).combine_chunks()
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if values.null_count or not any(kind(values.type) for kind in kinds):
        return None
    flat = values.flatten()
    if flat.null_count or len(flat) != len(values) * width:
        return None
    return np.asarray(flat.to_numpy(zero_copy_only=False), np.float32).reshape(-1, width)
