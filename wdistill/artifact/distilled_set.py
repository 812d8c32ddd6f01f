"""The publishable folder, and (from :mod:`wdistill.core.files`) how every file of a run is written.

Output is byte-identical for identical input. Reads trust nothing: a folder may come from the Hub,
so types, shapes, names and sizes are checked, and a damaged or hostile one is a
:class:`RunFolderError`, never a crash and never code that runs.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from wdistill.artifact.layout import (
    MANIFEST_FILE,
    lacking,
    shard_files,
    shard_names,
    whole_shards,
)
from wdistill.artifact.manifest import Sizes
from wdistill.artifact.parquet import (
    LabelColumns,
    Pictures,
    image_features,
    read_label_views,
    write_label_views,
    write_rows,
)
from wdistill.artifact.report import Report
from wdistill.core.files import (
    atomic_file,
    guarded,
    remove,
)
from wdistill.errors import RunFolderError
from wdistill.labels.views import LabelViews

REPORT_FILE = "report.json"
DATA = "data"
_SHARD_BYTES = 300 * 10**6  # as `push_to_hub` cuts them, within its 500 MB
_MAX_ROWS = 10**7
_MAX_SIDE = 4096


@dataclass(frozen=True, eq=False)
class DistilledSet:
    """N images of C classes; ``weights`` sum to 1 within a class, ``soft_labels`` within a row."""

    images: NDArray[np.uint8]  # (N, H, W, 3)
    labels: NDArray[np.int64]  # (N,)
    weights: NDArray[np.float32]  # (N,)
    soft_labels: NDArray[np.float32]  # (N, C)
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        n, c = len(self.images), len(self.class_names)
        wanted: dict[str, tuple[type, tuple[int, ...]]] = {
            "images": (np.uint8, (n, *self.images.shape[1:3], 3)),
            "labels": (np.int64, (n,)),
            "weights": (np.float32, (n,)),
            "soft_labels": (np.float32, (n, c)),
        }
        for name, (dtype, shape) in wanted.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != shape:
                given = f"{array.dtype} of shape {array.shape}"
                raise ValueError(f"{name} is {given} instead of {dtype.__name__} of shape {shape}")
        if n == 0 or len(set(self.class_names)) != c:
            raise ValueError("there are no images, or two classes share a name")
        if self.labels.min() < 0 or self.labels.max() >= c:
            raise ValueError(f"a label is not between 0 and {c - 1}")
        for values in (self.weights, self.soft_labels):
            if not np.isfinite(values).all() or values.min() < 0:
                raise ValueError("a weight or soft label is negative or not finite")

    def __len__(self) -> int:
        return len(self.images)


def write_data(folder: Path, distilled: DistilledSet, views: LabelViews | None = None) -> Sizes:
    """Write the parquet files of a set into ``folder`` and remove those of an earlier one.

    The manifest goes first and is to be written last: a folder that has one is whole.
    """
    pictures, names = Pictures(distilled.images, folder), distilled.class_names
    size = sum(pictures.sizes)
    count = 1 + (size + distilled.soft_labels.nbytes) // _SHARD_BYTES
    files = shard_names(count)
    stale = [path for path in shard_files(folder, DATA) if path.name not in files]
    remove(folder / MANIFEST_FILE, *stale)
    columns, parquet_size = (
        LabelColumns(distilled.labels, distilled.weights, distilled.soft_labels),
        0,
    )
    for name, rows in zip(files, np.array_split(np.arange(len(distilled)), count), strict=True):
        with atomic_file(folder / DATA / name) as file:
            write_rows(file, rows, pictures, columns, names)
            parquet_size += file.tell()
    return Sizes(
        images=size,
        soft_labels=distilled.soft_labels.nbytes,
        parquet=parquet_size,
        label_views=write_label_views(folder, views, len(names)),
    )


def remove_other_report(folder: Path, distilled: DistilledSet, views: LabelViews | None) -> bool:
    """Remove the report in ``folder``, to be called before a set is written there, where it is
    about another set than ``distilled``, or about students that saw other label views than
    ``views``, or cannot be read. Returns whether it was removed.
    """
    path = folder / REPORT_FILE
    if not path.exists() or _is_report_of(folder, distilled, views):
        return False
    remove(path)
    return True


def _is_report_of(folder: Path, distilled: DistilledSet, views: LabelViews | None) -> bool:
    count, classes = distilled.soft_labels.shape
    try:
        report = read_report(folder)
        if report is None or not _equal(read_distilled(folder), distilled):
            return False
        if all(row.labels != "views" for row in report.rows):
            return True
        return _equal(read_label_views(folder, count, classes, distilled.images.shape[1]), views)
    except RunFolderError:
        return False


def _equal(one: DistilledSet | LabelViews | None, other: DistilledSet | LabelViews | None) -> bool:
    if one is None or other is None:
        return one is other
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return all(np.array_equal(mine, theirs) for mine, theirs in pairs)


def shards(folder: Path) -> list[Path]:
    """The parquet files of ``folder``: all of ``train-*-of-K``, in order."""
    found = whole_shards(folder, DATA)
    if not found:
        raise lacking(folder, DATA)
    return found


def read_distilled(folder: Path) -> DistilledSet:
    """Read back exactly what :func:`write_publishable` wrote."""
    parts = []
    for path in shards(folder):
        with guarded(path):
            parts.append(_read_shard(path))
    names = parts[0].class_names
    with guarded(folder / "data"):
        if any(part.class_names != names for part in parts):
            raise ValueError("the files disagree on the class names")
        return DistilledSet(
            images=np.concatenate([part.images for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            weights=np.concatenate([part.weights for part in parts]),
            soft_labels=np.concatenate([part.soft_labels for part in parts]),
            class_names=names,
        )


def read_summary(folder: Path) -> tuple[int, tuple[str, ...]]:
    """Number of rows and the class names, from the parquet footers alone."""
    rows, names = 0, set()
    for path in shards(folder):
        with guarded(path):
            file, own = _open_shard(path)
            rows += file.metadata.num_rows
            names.add(own)
    if len(names) != 1:
        raise RunFolderError(f"'{folder / 'data'}': the files disagree on the class names")
    return rows, names.pop()


def _open_shard(path: Path) -> tuple[pq.ParquetFile, tuple[str, ...]]:
    file = pq.ParquetFile(path)
    if file.metadata.num_rows > _MAX_ROWS:
        raise ValueError(f"{file.metadata.num_rows} rows are more than {_MAX_ROWS}")
    stored = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]
    names = tuple(stored["label"]["names"])
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError("a class name is not text, or there is none")
    if not file.schema_arrow.equals(image_features(names).arrow_schema):
        raise ValueError("its columns are not image, label, weight and soft_label")
    return file, names


def _read_shard(path: Path) -> DistilledSet:
    file, names = _open_shard(path)
    table = file.read()
    if any(column.null_count for column in table.columns):
        raise ValueError("a value is missing")
    pictures = table["image"].combine_chunks().field("bytes")
    images = np.stack([_decode(picture.as_py()) for picture in pictures])
    soft = table["soft_label"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    labels, weights = table["label"].to_numpy(), table["weight"].to_numpy()
    return DistilledSet(images, labels, weights, soft.reshape(len(images), len(names)), names)


def _decode(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        if max(image.size) > _MAX_SIDE:
            raise ValueError(f"an image has {image.size} pixels; the limit is {_MAX_SIDE} a side")
        if image.mode != "RGB":
            raise ValueError(f"an image is {image.mode} instead of RGB")
        return np.asarray(image)


def read_report(folder: Path) -> Report | None:
    """None if the set was not evaluated."""
    path = folder / REPORT_FILE
    return Report.read(path) if path.exists() else None


@dataclass(frozen=True)
class Candidate:
    """The images that are judged.

    pixels: (n, 3, R, R) uint8; labels: (n,) int64; weights: (n,) float32, mean 1 within each class;
    soft: (n, C) float32 probabilities, or None if there are none; views: likewise.
    """

    pixels: Tensor
    labels: Tensor
    weights: Tensor
    soft: Tensor | None
    views: LabelViews | None = None

    @property
    def ipc(self) -> int:
        """Images per class, rounded where classes differ."""
        return max(1, round(len(self.labels) / (int(self.labels.max()) + 1)))


def mean_one(weights: Tensor, labels: Tensor) -> Tensor:
    """Weights (n,) of sum 1 within each class as weights of mean 1."""
    return weights * torch.bincount(labels)[labels]


def candidate(distilled: DistilledSet, views: LabelViews | None = None) -> Candidate:
    labels = torch.from_numpy(distilled.labels)
    return Candidate(
        pixels=torch.from_numpy(distilled.images).permute(0, 3, 1, 2),
        labels=labels,
        weights=mean_one(torch.from_numpy(distilled.weights), labels),
        soft=torch.from_numpy(distilled.soft_labels),
        views=views,
    )
