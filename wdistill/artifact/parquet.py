"""The published parquet: images as PNG, with their labels, written a row group at a time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from wdistill.artifact.layout import shard_files, shard_names, whole_shards
from wdistill.core.files import atomic_write, guarded, on_disk, remove
from wdistill.labels.codec import (
    _check,
    _encoded,
    _table,
    _views,
)
from wdistill.labels.views import LabelViews

GROUP_ROWS = 100  # a page of the Hub's viewer
GROUP_BYTES = 100 * 10**6  # the viewer refuses row groups over 300 MB


def image_features(class_names: Sequence[str]) -> Any:
    """The columns, as `datasets` describes them."""
    return datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=list(class_names)),
            "weight": datasets.Value("float32"),
            "soft_label": datasets.List(datasets.Value("float32"), length=len(class_names)),
        }
    )


class Pictures:
    """Images (N, H, W, 3) as PNG files, kept in a nameless file of ``folder``. sizes: bytes of
    each.
    """

    def __init__(self, images: NDArray[np.uint8], folder: Path) -> None:
        self.sizes: list[int] = []
        encoded = (np.frombuffer(self._encode(image), np.uint8) for image in images)
        self._bytes = on_disk(encoded, None, np.uint8, folder)
        self._ends = np.cumsum(self.sizes)

    def _encode(self, image: NDArray[np.uint8]) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", optimize=True)
        self.sizes.append(buffer.tell())
        return buffer.getvalue()

    def __getitem__(self, row: int) -> bytes:
        return self._bytes[self._ends[row] - self.sizes[row] : self._ends[row]].tobytes()


@dataclass(frozen=True, eq=False)
class LabelColumns:
    """What stands beside the images of a set: (N,), (N,) and (N, classes)."""

    labels: NDArray[np.int64]
    weights: NDArray[np.float32]
    soft_labels: NDArray[np.float32]


def write_rows(
    file: BinaryIO,
    rows: NDArray[np.int64],
    pictures: Pictures,
    columns: LabelColumns,
    class_names: Sequence[str],
) -> None:
    """Some ``rows`` of a set as one file."""
    schema, classes = image_features(class_names).arrow_schema, len(class_names)
    largest = max(pictures.sizes[row] for row in rows) + 4 * classes
    size = max(1, min(GROUP_ROWS, GROUP_BYTES // largest))
    with pq.ParquetWriter(file, schema, use_dictionary=["label"], write_page_index=True) as writer:
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


FOLDER = "soft_labels"


def write_label_views(folder: Path, views: LabelViews | None, classes: int) -> int:
    """Write the files of ``views`` under ``folder``, remove others; returns their bytes."""
    data = [] if views is None else _encoded(views, classes)
    names = shard_names(len(data))
    remove(*(path for path in shard_files(folder, FOLDER) if path.name not in names))
    for name, content in zip(names, data, strict=True):
        atomic_write(folder / FOLDER / name, content)
    return sum(map(len, data))


def label_shards(folder: Path) -> list[Path]:
    """The files of the label views, in order; none if there are none."""
    return whole_shards(folder, FOLDER)


def read_label_views(folder: Path, images: int, classes: int, size: int) -> LabelViews | None:
    """What :func:`write_label_views` wrote for ``images`` of ``size`` pixels; None if nothing.

    Raises RunFolderError if a value is not what the columns mean.
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
