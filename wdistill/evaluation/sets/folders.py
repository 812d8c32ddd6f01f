"""Folders of images with one file of labels, and soft labels in a file of tensors beside images."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from wdistill.data.columns import is_named
from wdistill.data.dataset import Rows
from wdistill.data.local.images import IMAGE, LABEL, dataset_of, file_cells
from wdistill.data.opened import Source
from wdistill.data.splits import ImageSplit, labelled_split
from wdistill.errors import DataError
from wdistill.evaluation.sets.tensors import load_tensor

FILES = ("file_name", "filename", "file", "image", "path", "name")
CLASSES = ("label", "class", "class_id", "target", "labels")
SOFT = ("soft_labels", "soft_label", "labels_soft", "soft")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_PAIR = 2


def labels_file(folder: Path) -> Path | None:
    """The one .json or .csv in a folder whose images lie in no folders of classes; None where there
    is none, several, or one that is read elsewhere (metadata.csv).
    """
    pictures = [path for path in folder.iterdir() if path.suffix.lower() in _PICTURES]
    inner = folder / "images"
    if not pictures and not (inner.is_dir() and any(_is_picture(path) for path in inner.iterdir())):
        return None
    kinds = (".json", ".csv")
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in kinds]
    own = [path for path in files if path.stem != "metadata"]
    return own[0] if len(own) == len(files) == 1 else None


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in _PICTURES


def labelled_folder(folder: Path, labels: Path) -> Rows:
    """The images that ``labels`` names.

    It is a JSON of {file: class}, of [[file, class], ...] (also below "labels", as in StyleGAN's
    dataset.json) or of records, or a CSV with a header or two columns.

    Raises:
        DataError: It is none of these, or names a file that is not there, or one twice.
    """
    pairs = list(_json_pairs(labels) if labels.suffix.lower() == ".json" else _csv_pairs(labels))
    if not pairs:
        raise DataError(f"{labels.name!r} names no image; write {{file: class}} or [[file, class]]")
    paths = [_place(folder, labels, name) for name, _ in pairs]
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise DataError(f"{labels.name!r} names {twice.name!r} more than once; leave one label")
    classes = pa.array(_same_kind([label for _, label in pairs], labels))
    features = {IMAGE: datasets.Image()} | datasets.Features.from_arrow_schema(
        pa.schema([(LABEL, classes.type)])
    )
    table = dataset_of([file_cells([str(path) for path in paths]), classes], features)
    split, found = labelled_split(table, "train", (IMAGE, LABEL))
    source = Source(folder.resolve().name, "imagefolder", fingerprint="")
    return Rows(source, split, table, found.names, is_named(table.features[LABEL]))


def _place(folder: Path, labels: Path, name: str) -> Path:
    """The image of that name in the folder or in ``images`` below it."""
    for root in (folder, folder / "images"):
        path = (root / name).resolve()
        if path.is_relative_to(folder.resolve()) and path.is_file():
            return path
    raise DataError(f"{labels.name!r} names {name!r}, which is no image in {folder.name!r}")


def _json_pairs(file: Path) -> Iterator[tuple[str, object]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"cannot read {file.name!r}: {reason}; mend or remove it") from error
    if isinstance(content, dict) and isinstance(content.get("labels"), list | dict):
        content = content["labels"]
    rows = list(content.items()) if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise DataError(f"{file.name!r} is no list and no mapping; write {{file: class}}")
    for row in rows:
        if isinstance(row, dict):
            yield _record(row, file)
        elif isinstance(row, list | tuple) and len(row) == _PAIR and isinstance(row[0], str):
            yield row[0], row[1]
        else:
            raise DataError(f"{file.name!r} has {str(row)[:60]!r}; write [file, class] or a record")


def _csv_pairs(file: Path) -> Iterator[tuple[str, object]]:
    try:
        rows = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8-sig"), newline="")))
    except (ValueError, OSError, csv.Error) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"cannot read {file.name!r}: {reason}; mend or remove it") from error
    rows = [row for row in rows if row]
    if rows and any(name in FILES for name in rows[0]):
        for row in rows[1:]:
            yield _record(dict(zip(rows[0], row, strict=False)), file)
        return
    for row in rows:
        if len(row) != _PAIR:
            raise DataError(
                f"{file.name!r} has a row of {len(row)} values; write file and class in each, or a "
                f"header with {FILES[0]} and {CLASSES[0]}"
            )
        yield row[0], _number(row[1])


def _record(row: dict[str, object], file: Path) -> tuple[str, object]:
    name = next((row[key] for key in FILES if key in row), None)
    label = next((row[key] for key in CLASSES if key in row), None)
    if not isinstance(name, str) or label is None:
        keys = ", ".join(map(str, row)) or "nothing"
        raise DataError(
            f"{file.name!r} has a record of {keys}; the file belongs in {', '.join(FILES[:3])}, "
            f"the class in {', '.join(CLASSES[:3])}"
        )
    return name, _number(label) if isinstance(label, str) else label


def _number(text: str) -> object:
    return int(text) if text.isascii() and text.isdecimal() and str(int(text)) == text else text


def _same_kind(labels: list[object], file: Path) -> list[object]:
    """The labels, which must all be whole numbers or all be names."""
    if all(isinstance(label, int) and not isinstance(label, bool) for label in labels):
        return labels
    if all(isinstance(label, str | int) and not isinstance(label, bool) for label in labels):
        return [str(label) for label in labels]
    odd = next(
        label for label in labels if isinstance(label, bool) or not isinstance(label, str | int)
    )
    raise DataError(
        f"{file.name!r} has {str(odd)[:60]!r} for a class; write a name or a number, and soft "
        f"labels in a file of tensors beside it ({SOFT[0]}.pt)"
    )


def soft_labels_file(folder: Path) -> Path | None:
    """A file of soft labels in the folder: ``soft_labels.pt``, ``.npy`` or ``.npz``."""
    files = [
        path
        for name in SOFT
        for suffix in (".pt", ".pth", ".npy", ".npz")
        if (path := folder / f"{name}{suffix}").is_file()
    ]
    return files[0] if files else None


def read_soft_labels(
    file: Path, split: ImageSplit, classes: int
) -> tuple[NDArray[np.float32], str]:
    """(n, C) probabilities for the rows of ``split``, and what was assumed.

    Row i of the tensor is the i-th image in the order of its path, as ``ImageFolder`` counts them.

    Raises:
        DataError: Other numbers of images or classes, or no probabilities.
    """
    values = load_tensor(file).float()
    if values.shape != (len(split), classes):
        raise DataError(
            f"{file.name!r} has soft labels of shape {' x '.join(map(str, values.shape))}, and "
            f"there are {len(split):,} images of {classes:,} classes; save one row for each image"
        )
    if not _are_probabilities(values):
        raise DataError(
            f"{file.name!r} has values that are no probabilities; save softmax(logits / T)"
        )
    cells = split.dataset[split.column]
    paths = [cells[int(row)]["path"] or "" for row in split.rows]
    place = np.empty(len(paths), dtype=np.int64)
    place[np.argsort(np.array(paths), kind="stable")] = np.arange(len(paths))
    soft = values[torch.from_numpy(place)].numpy()
    agree = float((soft.argmax(1) == split.labels).mean())
    note = (
        f"Soft labels are those of {file.name}, in the order of the paths; their largest value is "
        f"the image's class in {100 * agree:.0f} % of the images."
    )
    return soft, note


def _are_probabilities(values: Tensor) -> bool:
    finite = bool(torch.isfinite(values).all())
    return finite and bool((values >= 0).all()) and bool(((values.sum(1) - 1).abs() < 1e-3).all())
