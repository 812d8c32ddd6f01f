"""Images whose labels stand in files called metadata: csv, json lines or parquet."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from wdistill.data.local.images import IMAGE, Readers, dataset_of, file_cells
from wdistill.data.local.layout import split_folders
from wdistill.data.local.tree import Tree
from wdistill.errors import DataError

FILE_NAME = "file_name"
Rows = list[dict[str, Any]]


def metadata_columns(tree: Tree) -> tuple[str, ...]:
    """Of the first file, without that of the files' names; none where there is no such column."""
    columns = next(iter(_rows(tree.metadata[0])), {})
    return tuple(name for name in columns if name != FILE_NAME) if FILE_NAME in columns else ()


def read_metadata(
    tree: Tree,
) -> tuple[Readers, dict[str, int], tuple[str, ...]]:
    """Readers of the splits, the number of rows of each, and what should be known of them."""
    places = {
        os.path.normpath(path): split
        for split, inner in split_folders(tree.folders).items()
        for parts in inner
        for _, path in tree.folders[parts]
    }
    splits: dict[str, Rows] = {}
    columns: dict[str, None] = {}
    for file in tree.metadata:
        for row in _rows(file):
            path = os.path.normpath(os.path.join(file.parent, str(row.get(FILE_NAME))))
            if path not in places:
                raise DataError(
                    f"{str(file)!r} names {row.get(FILE_NAME)!r} in column {FILE_NAME!r}, which is "
                    "no image beside it; mend the row or remove it"
                )
            columns |= dict.fromkeys(name for name in row if name != FILE_NAME)
            splits.setdefault(places[path], []).append(row | {FILE_NAME: path})
    _check_twice([row for rows in splits.values() for row in rows])
    readers: Readers = {
        split: partial(_dataset, rows, list(columns)) for split, rows in splits.items()
    }
    sizes = {split: len(rows) for split, rows in splits.items()}
    rest = tree.images - sum(sizes.values())
    note = f"Left out {rest:,} images that no metadata file names."
    return readers, sizes, (note,) if rest else ()


def _check_twice(rows: Rows) -> None:
    twice = [path for path, n in Counter(row[FILE_NAME] for row in rows).items() if n > 1]
    if twice:
        raise DataError(
            f"metadata files name {len(twice):,} images more than once, such as {twice[0]!r}; "
            "leave one row for each"
        )


def _rows(file: Path) -> Rows:
    """Values of a csv are text, whatever they look like: 007, no, NA and null name classes."""
    try:
        if file.suffix.lower() == ".parquet":
            return list(pq.read_table(file).to_pylist())
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix.lower() == ".csv":
            return [dict(row) for row in csv.DictReader(io.StringIO(text, newline=""))]
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, OSError, pa.ArrowException, csv.Error) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"cannot read {str(file)!r}: {reason}; mend or remove it") from error


def _dataset(rows: Rows, columns: list[str]) -> Any:
    cells = file_cells([row[FILE_NAME] for row in rows])
    arrays, features = [cells], {IMAGE: datasets.Image()}
    for name in columns:
        try:
            values = pa.array(_numbers([row.get(name) for row in rows]))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(
                f"column {name!r} of the metadata files mixes kinds of values; write all as text"
            ) from error
        if pa.types.is_null(values.type):
            values = values.cast(pa.string())
        arrays.append(values)
        features |= datasets.Features.from_arrow_schema(pa.schema([(name, values.type)]))
    return dataset_of(arrays, features)


def _numbers(values: list[Any]) -> list[Any]:
    """Text as numbers where every value is one, written as numbers are; the empty one as none."""
    values = [None if value == "" else value for value in values]
    texts = [value for value in values if value is not None]
    if texts and all(isinstance(text, str) and _is_whole(text) for text in texts):
        return [None if value is None else int(value) for value in values]
    return values


def _is_whole(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and str(int(text)) == text and len(text) < 19
