"""Which column holds the images, and which the labels."""

from __future__ import annotations

from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from wdistill.config import DataConfig
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


def _image_column(features: Any, given: str | None) -> str:
    if given is not None:
        check_known(features, given, "data.image_column")
        if not (_is_image(features[given]) or _is_encoded(features[given])):
            raise DataError(
                f"`data.image_column` {given!r} holds {kind_of(features[given])}, not images; "
                f"columns: {_listed(features)}"
            )
        return given
    found = [name for name, feature in features.items() if _is_image(feature)]
    if not found:
        found = [name for name in IMAGE_NAMES if name in features and _is_encoded(features[name])]
    usual = next((name for name in IMAGE_NAMES if name in features), None)
    if not found and usual is not None:
        raise DataError(
            f"column {usual!r} holds {kind_of(features[usual])}, not images; publish the images "
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
        check_known(features, given, "data.label_column")
        if not may_be_label(features[given]):
            raise DataError(no_label(given, features[given]))
        return [given]
    found = [name for name, feature in features.items() if _is_class(feature)]
    if not found:
        named = [name for name in LABEL_NAMES if name in features]
        found = [name for name in named if may_be_label(features[name])]
        if not found and named:
            raise DataError(no_label(named[0], features[named[0]]))
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
    values = stored(dataset, name)
    distinct = int(pc.count_distinct(values).as_py())
    return 2 <= distinct <= int(pc.count(values).as_py()) / 2


def check_known(features: Any, name: str, setting: str) -> None:
    if name not in features:
        raise DataError(f"`{setting}` {name!r} does not exist; choose from {_listed(features)}")


def stored(dataset: Any, column: str) -> pa.ChunkedArray:
    """The values of a column, as they are stored."""
    return dataset.with_format("arrow").select_columns([column])[:].column(0)


def _listed(features: Any) -> str:
    return ", ".join(features)


def no_label(name: str, feature: Any) -> str:
    return (
        f"column {name!r} holds {kind_of(feature)}, but one class per image is needed; "
        "name a column of class names or numbers with `data.label_column`"
    )


def kind_of(feature: Any) -> str:
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
