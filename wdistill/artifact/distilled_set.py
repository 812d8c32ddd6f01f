"""Write and read the folder of a distilled set.

Output is byte-identical for identical input. Nothing that is read is trusted, because a folder may
come from the Hub: types, shapes, names and sizes are checked, and a damaged or hostile folder
raises :class:`RunFolderError`. No code from the folder is ever executed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wdistill.artifact.layout import (
    CURVE_FILE,
    MANIFEST_FILE,
    lacking,
    shard_files,
    shard_names,
    whole_shards,
)
from wdistill.artifact.parquet import (
    GROUP_ROWS,
    LabelColumns,
    Pictures,
    check_columns,
    check_weights,
    image_features,
    open_rows,
    read_label_views,
    read_rows,
    write_label_views,
    write_rows,
)
from wdistill.artifact.records import Sizes
from wdistill.artifact.report import Report
from wdistill.core.files import (
    atomic_file,
    guarded,
    remove,
)
from wdistill.data.content.coding import Coding
from wdistill.errors import NumericalError, RunFolderError
from wdistill.labels.views import LabelViews

REPORT_FILE = "report.json"
DATA = "data"
_SHARD_BYTES = 300 * 10**6  # as `push_to_hub` cuts them, within its 500 MB


@dataclass(frozen=True, eq=False)
class DistilledSet:
    """N images of C classes; ``weights`` sum to 1 within a class, ``soft_labels`` within a row.

    Sums and the range of values are checked where a set is written and where it is read.

    Attributes:
        images: What a reader gets of the files.
        grey: Whether the files are read as grey images.
        files: The files of the images, in order; None for PNG.
    """

    images: NDArray[np.uint8]  # (N, H, W, 3)
    labels: NDArray[np.int64]  # (N,)
    weights: NDArray[np.float32]  # (N,)
    soft_labels: NDArray[np.float32]  # (N, C)
    class_names: tuple[str, ...]
    grey: bool = False
    files: Pictures | None = None

    def __post_init__(self) -> None:
        n, c = len(self.images), len(self.class_names)
        expected: dict[str, tuple[type, tuple[int, ...]]] = {
            "images": (np.uint8, (n, *self.images.shape[1:3], 3)),
            "labels": (np.int64, (n,)),
            "weights": (np.float32, (n,)),
            "soft_labels": (np.float32, (n, c)),
        }
        for name, (dtype, shape) in expected.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != shape:
                actual = f"{array.dtype} of shape {array.shape}"
                raise ValueError(f"{name} is {actual} instead of {dtype.__name__} of shape {shape}")
        if n == 0 or len(set(self.class_names)) != c:
            raise ValueError("there are no images, or two classes share a name")

    def __len__(self) -> int:
        return len(self.images)


def write_data(
    folder: Path,
    distilled: DistilledSet,
    views: LabelViews | None = None,
    packed: Sequence[Path] = (),
) -> Sizes:
    """Write the parquet files of a set into ``folder`` and remove those of an earlier one.
    ``packed``: those of ``views``, where they have been made already.

    The manifest is removed first and must be written last, so that a folder with a manifest is
    complete. Every file is read back and compared with ``distilled``.

    Raises:
        NumericalError: a value is impossible for its column; then nothing is written.
        RunFolderError: the files cannot be written, or do not contain what was written.
    """
    _refuse_impossible(folder, distilled)
    names, grey = distilled.class_names, distilled.grey
    pictures = distilled.files or Pictures(Coding().files(distilled.images, grey), folder)
    size, features = sum(pictures.sizes), image_features(names, grey)
    count = 1 + (size + distilled.soft_labels.nbytes) // _SHARD_BYTES
    files = shard_names(count)
    stale = [path for path in shard_files(folder, DATA) if path.name not in files]
    remove(folder / MANIFEST_FILE, *stale)
    columns, parquet_size = _columns(distilled), 0
    for name, rows in zip(files, np.array_split(np.arange(len(distilled)), count), strict=True):
        with atomic_file(folder / DATA / name) as file:
            write_rows(file, rows, pictures, columns, features)
            size_of_file = file.tell()
        _verify(folder / DATA / name, size_of_file, distilled, rows)
        parquet_size += size_of_file
    return Sizes(
        images=size,
        soft_labels=distilled.soft_labels.nbytes,
        parquet=parquet_size,
        label_views=write_label_views(folder, views, len(names), packed),
    )


def _columns(distilled: DistilledSet) -> LabelColumns:
    return LabelColumns(distilled.labels, distilled.weights, distilled.soft_labels)


def _refuse_impossible(folder: Path, distilled: DistilledSet) -> None:
    try:
        check_columns(_columns(distilled))
        check_weights(distilled.labels, distilled.weights)
    except ValueError as error:
        raise NumericalError(
            f"the set is not written to '{folder / DATA}': {error}; try "
            "`mixed_precision=no` or another `backbone`"
        ) from None


def _verify(path: Path, size: int, distilled: DistilledSet, rows: NDArray[np.int64]) -> None:
    """Raise RunFolderError unless ``path`` has ``size`` bytes and exactly these rows."""
    with guarded(path):
        if path.stat().st_size != size:
            raise ValueError(f"it has {path.stat().st_size} bytes instead of {size}")
        opened = open_rows(path)
        file = opened.file
        if file.metadata.num_rows != len(rows):
            raise ValueError(f"it has {file.metadata.num_rows} rows instead of {len(rows)}")
        first = int(rows[0])
        for batch in file.iter_batches(batch_size=GROUP_ROWS):
            part = read_rows(pa.Table.from_batches([batch]), first - int(rows[0]), opened)
            end = first + len(part[0])
            expected = (distilled.images, *vars(_columns(distilled)).values())
            if not all(
                np.array_equal(a, b[first:end]) for a, b in zip(part, expected, strict=True)
            ):
                raise ValueError(f"rows from {first} are not what was written")
            first = end


def remove_other_report(folder: Path, distilled: DistilledSet, views: LabelViews | None) -> bool:
    """Remove the report in ``folder`` unless it is about ``distilled`` and ``views``.

    To be called before the set is written to ``folder``. A report that cannot be read is removed.

    Returns:
        Whether a report was removed.
    """
    path = folder / REPORT_FILE
    if not path.exists() or _is_report_of(folder, distilled, views):
        return False
    remove(path, folder / CURVE_FILE)
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
    names = [name for name in vars(one) if name != "files"]
    return all(np.array_equal(getattr(one, n), getattr(other, n)) for n in names)


def shards(folder: Path) -> list[Path]:
    """The parquet files of ``folder``, in order.

    Raises:
        RunFolderError: one of ``train-*-of-K.parquet`` is missing.
    """
    paths = whole_shards(folder, DATA)
    if not paths:
        raise lacking(folder, DATA)
    return paths


def read_distilled(folder: Path) -> DistilledSet:
    """The set that :func:`write_data` wrote to ``folder``.

    Raises:
        RunFolderError: a file is missing or damaged, or a value is impossible for its column.
    """
    parts = []
    for path in shards(folder):
        with guarded(path):
            parts.append(_read_shard(path))
    names = parts[0].class_names
    with guarded(folder / "data"):
        if any((part.class_names, part.grey) != (names, parts[0].grey) for part in parts):
            raise ValueError("the files disagree on the class names or the mode of images")
        distilled = DistilledSet(
            images=np.concatenate([part.images for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            weights=np.concatenate([part.weights for part in parts]),
            soft_labels=np.concatenate([part.soft_labels for part in parts]),
            class_names=names,
            grey=parts[0].grey,
        )
        check_weights(distilled.labels, distilled.weights)
        return distilled


def read_summary(folder: Path) -> tuple[int, tuple[str, ...]]:
    """Number of rows and the class names, from the parquet footers alone."""
    rows, names = 0, set()
    for path in shards(folder):
        with guarded(path):
            opened = open_rows(path)
            rows += opened.file.metadata.num_rows
            names.add(opened.class_names)
    if len(names) != 1:
        raise RunFolderError(f"'{folder / 'data'}': the files disagree on the class names")
    return rows, names.pop()


def _read_shard(path: Path) -> DistilledSet:
    opened = open_rows(path)
    images, labels, weights, soft = read_rows(opened.file.read(), 0, opened)
    check_columns(LabelColumns(labels, weights, soft))
    return DistilledSet(images, labels, weights, soft, opened.class_names, opened.grey)


def read_report(folder: Path) -> Report | None:
    """The report in ``folder``; None if the set was not evaluated."""
    path = folder / REPORT_FILE
    return Report.read(path) if path.exists() else None
