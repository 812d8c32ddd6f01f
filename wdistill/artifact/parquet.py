"""The parquet files of a set: coded images with their labels, written one row group at a time.

The values are checked by the same functions when they are written and when they are read.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from wdistill.artifact.layout import shard_files, shard_names, whole_shards
from wdistill.core.files import atomic_write, guarded, on_disk, remove
from wdistill.data.content.coding import FORMATS, decode_file, in_threads
from wdistill.labels.codec import (
    _check,
    _table,
    _views,
    encode_all,
    without_lengths,
)
from wdistill.labels.views import LabelViews

GROUP_ROWS = 100  # a page of the Hub's viewer
SMALL_GROUP_BYTES = 10**6  # a page of less costs more in metadata than it saves in reading
GROUP_BYTES = 100 * 10**6  # the viewer refuses row groups over 300 MB
MAX_ROWS = 10**7
MAX_SIDE = 4096  # pixels


def image_features(class_names: Sequence[str], grey: bool = False) -> Any:
    """The columns, as `datasets` describes them."""
    return datasets.Features(
        {
            "image": datasets.Image(mode="L" if grey else None),
            "label": datasets.ClassLabel(names=list(class_names)),
            "weight": datasets.Value("float32"),
            "soft_label": datasets.List(datasets.Value("float32"), length=len(class_names)),
        }
    )


class Pictures:
    """Image files, kept in a nameless file of ``folder``. sizes: bytes of each."""

    def __init__(self, encoded: Iterable[bytes], folder: Path) -> None:
        self.sizes: list[int] = []
        self._bytes = on_disk(map(self._sized, encoded), None, np.uint8, folder)
        self._ends = np.cumsum(self.sizes)

    def _sized(self, data: bytes) -> NDArray[np.uint8]:
        self.sizes.append(len(data))
        return np.frombuffer(data, np.uint8)

    def __getitem__(self, row: int) -> bytes:
        return self._bytes[self._ends[row] - self.sizes[row] : self._ends[row]].tobytes()


@dataclass(frozen=True, eq=False)
class LabelColumns:
    """The columns beside the images of a set: (N,), (N,) and (N, classes)."""

    labels: NDArray[np.int64]
    weights: NDArray[np.float32]
    soft_labels: NDArray[np.float32]


# How far a sum of float32 may be from 1: a softmax over 20,000 classes is off by 1e-6, a float16 or
# bfloat16 one by more than 1e-4, and then it has lost digits that students learn from.
ROUNDING = 1e-4


def check_columns(columns: LabelColumns, first: int = 0) -> None:
    """Check that labels are classes, and that probabilities are finite and sum to 1.

    Args:
        columns: Some rows of a set.
        first: Number of the first of these rows.

    Raises:
        ValueError: a value is impossible; the message names the column and the row.
    """
    classes = columns.soft_labels.shape[1]
    values = {"weight": columns.weights[:, None], "soft_label": columns.soft_labels}
    label = _where((columns.labels < 0) | (columns.labels >= classes))
    if label is not None:
        raise ValueError(
            f"column 'label', row {first + label}: {columns.labels[label]} is not between 0 and "
            f"{classes - 1}"
        )
    for name, numbers in values.items():
        odd = _where(~(np.isfinite(numbers) & (numbers >= 0)).all(1))
        if odd is not None:
            raise ValueError(f"column '{name}', row {first + odd}: negative or not finite")
    sums = columns.soft_labels.sum(1, dtype=np.float64)
    row = _where(abs(sums - 1) > ROUNDING)
    if row is not None:
        raise ValueError(
            f"column 'soft_label', row {first + row}: the probabilities of {classes} classes sum "
            f"to {sums[row]:.4g} instead of 1"
        )


def check_weights(labels: NDArray[np.int64], weights: NDArray[np.float32]) -> None:
    """Raise ValueError, naming the class, unless the weights of each class sum to 1."""
    sums = np.bincount(labels, weights.astype(np.float64))
    present = np.bincount(labels) > 0
    label = _where(present & (abs(sums - 1) > ROUNDING))
    if label is not None:
        raise ValueError(
            f"column 'weight': the images of class {label} sum to {sums[label]:.4g} instead of 1"
        )


def _where(wrong: NDArray[np.bool_]) -> int | None:
    """The first True position; None if there is none."""
    return int(wrong.argmax()) if wrong.any() else None


def write_rows(
    file: BinaryIO,
    rows: NDArray[np.int64],
    pictures: Pictures,
    columns: LabelColumns,
    features: Any,
) -> None:
    """Write the rows numbered ``rows`` of a set, whose columns are ``features``, to one file.

    The schema of Arrow is left out, since `datasets` reads its own: it is a tenth of a small file.
    """
    schema, classes = features.arrow_schema, columns.soft_labels.shape[1]
    largest = max(pictures.sizes[row] for row in rows) + 4 * classes
    most = max(GROUP_ROWS, SMALL_GROUP_BYTES // largest)
    size = max(1, min(most, GROUP_BYTES // largest))
    with pq.ParquetWriter(
        file,
        schema,
        compression="zstd",
        use_dictionary=["label"],
        write_statistics=["label"],
        write_page_index=len(rows) > size,
        store_schema=False,
    ) as writer:
        for first in range(0, len(rows), size):
            group = rows[first : first + size]
            encoded = [{"bytes": pictures[row], "path": None} for row in group]
            soft = pa.array(columns.soft_labels[group].reshape(-1))
            arrays = [
                pa.array(encoded, type=schema.field("image").type),
                pa.array(columns.labels[group]),
                pa.array(columns.weights[group]),
                pa.FixedSizeListArray.from_arrays(soft, classes),
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        writer.add_key_value_metadata(schema.metadata)


@dataclass(frozen=True)
class Opened:
    """A file of :func:`write_rows`. grey: whether its images are read as grey ones."""

    file: pq.ParquetFile
    class_names: tuple[str, ...]
    grey: bool


def open_rows(path: Path) -> Opened:
    """Open a file written by :func:`write_rows`.

    Raises:
        ValueError: its columns are not those of a set.
    """
    file = pq.ParquetFile(path)
    if file.metadata.num_rows > MAX_ROWS:
        raise ValueError(f"{file.metadata.num_rows} rows are more than {MAX_ROWS}")
    features = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]
    names = tuple(features["label"]["names"])
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError("a class name is not text, or there is none")
    schema = image_features(names).arrow_schema
    if not without_lengths(file.schema_arrow).equals(without_lengths(schema)):
        raise ValueError("its columns are not image, label, weight and soft_label")
    return Opened(file, names, features["image"].get("mode") == "L")


def read_rows(table: pa.Table, first: int, opened: Opened) -> tuple[NDArray[Any], ...]:
    """Decode a table into images, labels, weights and soft labels.

    Args:
        table: Some rows of a set.
        first: Number of the first of these rows.
        opened: The file that they come from.

    Raises:
        ValueError: a value is missing, an image is neither PNG nor WebP, images differ in size, or
            a soft label has not one probability for each class; the message names the column.
    """
    counts = pc.list_value_length(table["soft_label"]).unique().drop_null().to_pylist()
    if set(counts) - {len(opened.class_names)}:
        raise ValueError(f"column 'soft_label': not {len(opened.class_names)} numbers in each row")
    for name, column in zip(table.column_names, table.columns, strict=True):
        inner = column.combine_chunks().flatten() if name == "soft_label" else column
        if column.null_count or (name == "soft_label" and inner.null_count):
            raise ValueError(f"column '{name}': a value is missing")
    pictures = table["image"].combine_chunks().field("bytes")
    images = np.stack(_decoded(pictures, first, opened.grey))
    labels, weights = table["label"].to_numpy(), table["weight"].to_numpy()
    soft = table["soft_label"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return images, labels, weights, soft.reshape(len(images), -1)


def _decoded(pictures: pa.Array, first: int, grey: bool) -> list[NDArray[np.uint8]]:
    def decode(row: int) -> NDArray[np.uint8]:
        try:
            return _decode(pictures[row - first].as_py(), grey)
        except (UnidentifiedImageError, TypeError):  # the latter of a missing value
            raise ValueError(f"column 'image', row {row}: neither PNG nor WebP") from None
        except Exception as error:
            raise ValueError(f"column 'image', row {row}: {error}") from error

    images: list[NDArray[np.uint8]] = []
    rows = range(first, first + len(pictures))
    for row, image in zip(rows, in_threads(decode, rows), strict=True):
        images.append(image)
        if images[-1].shape != images[0].shape:
            sizes = " instead of ".join("x".join(map(str, images[i].shape[:2])) for i in (-1, 0))
            raise ValueError(f"column 'image', row {row}: {sizes} pixels")
    return images


def _decode(data: bytes, grey: bool) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        if max(image.size) > MAX_SIDE:
            raise ValueError(f"it has {image.size} pixels; the limit is {MAX_SIDE} a side")
        if image.mode != "RGB" and not (grey and image.mode == "L"):
            raise ValueError(f"it is {image.mode} instead of RGB")
    return decode_file(data, grey)


FOLDER = "soft_labels"


def write_label_views(
    folder: Path, views: LabelViews | None, classes: int, packed: Sequence[Path] = ()
) -> int:
    """Write the files of ``views`` to ``folder`` and remove those of an earlier set.

    Args:
        folder: Of the set.
        views: None if there are none.
        classes: The number of classes.
        packed: Their files, where they have been made already.

    Returns:
        The number of bytes written.
    """
    data = [path.read_bytes() for path in packed]
    if views is not None and not packed:
        data = encode_all(views, classes)
    names = shard_names(len(data))
    remove(*(path for path in shard_files(folder, FOLDER) if path.name not in names))
    for name, content in zip(names, data, strict=True):
        atomic_write(folder / FOLDER / name, content)
    return sum(map(len, data))


def label_shards(folder: Path) -> list[Path]:
    """The files of the label views, in order."""
    return whole_shards(folder, FOLDER)


def read_label_views(folder: Path, images: int, classes: int, size: int) -> LabelViews | None:
    """Read the label views of ``images`` images of ``size`` pixels; None if there are none.

    Raises:
        RunFolderError: a file is damaged, or a value is impossible for its column.
    """
    paths = label_shards(folder)
    if not paths:
        return None
    tables = []
    for path in paths:
        with guarded(path):
            tables.append(_table(path, classes))
    with guarded(folder / FOLDER):
        views = _views(pa.concat_tables(tables), classes)
        _check(views, images, classes, size)
    return views
