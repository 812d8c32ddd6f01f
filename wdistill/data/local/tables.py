"""Parquet files as splits."""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from wdistill.data.local.layout import split_word
from wdistill.errors import DataError

SHARD = re.compile(r"(\w+(?:\.\w+)*)-\d{5}-of-\d{5}.*\.parquet")  # what `datasets` pushes, in data/
FIRST = ("train", "validation", "test")


def by_split(
    files: list[Path], root: Path, whole: bool = False
) -> tuple[dict[str, list[Path]], list[Path]]:
    """Files grouped by the split that folder or file name speaks of, as `datasets` does; and those
    that speak of none where others are called after the training split.

    whole: that every file was asked for; then those are of the training split too.
    """
    named = {file: _split_of(file.relative_to(root)) for file in files}
    shards = {
        file: match[1]
        for file in files
        if file.parent == root / "data" and (match := SHARD.fullmatch(file.name))
    }
    if shards and not whole:
        named = {file: shards.get(file) for file in files}
    rest = [file for file, split in named.items() if split is None]
    if whole or "train" not in named.values():
        rest, named = [], {file: split or "train" for file, split in named.items()}
    groups: dict[str, list[Path]] = {}
    for file, split in named.items():
        if split is not None:
            groups.setdefault(split, []).append(file)
    order = [*FIRST, *sorted(groups)]
    return dict(sorted(groups.items(), key=lambda item: order.index(item[0]))), rest


def _split_of(path: Path) -> str | None:
    words = [split_word(part) for part in (*path.parts[:-1], path.stem)]
    return next((word for word in words if word), None)


def read_tables(groups: dict[str, list[Path]]) -> dict[str, Any]:
    """A ``datasets.Dataset`` for each split."""
    patterns = {
        split: [glob.escape(str(file.resolve())) for file in files]
        for split, files in groups.items()
    }
    files = [file for group in groups.values() for file in group]
    _check_columns(files)
    features = _plain_features(files[0])
    try:
        return dict(datasets.DatasetDict.from_parquet(patterns, features=features))
    except Exception as error:
        message = _other_types(files)
        if message is None:
            raise
        raise DataError(message) from error


def _plain_features(file: Path) -> datasets.Features | None:
    """Features of a file with views of bytes or text, as polars writes them, which `datasets` does
    not know; None for others.
    """
    schema = pq.read_schema(file)
    plain = pa.schema([field.with_type(_plain(field.type)) for field in schema])
    return None if plain.equals(schema) else datasets.Features.from_arrow_schema(plain)


def _plain(kind: pa.DataType) -> pa.DataType:
    if kind == pa.binary_view():
        return pa.binary()
    if kind == pa.string_view():
        return pa.string()
    if pa.types.is_struct(kind):
        return pa.struct([part.with_type(_plain(part.type)) for part in kind])
    return kind


def _check_columns(files: list[Path]) -> None:
    """Raise DataError if not all files have the same columns."""
    first = pq.read_schema(files[0]).names
    for file in files[1:]:
        names = pq.read_schema(file).names
        more = [name for name in names if name not in first]
        less = [name for name in first if name not in names]
        if more or less:
            has, lacks = (file, files[0]) if more else (files[0], file)
            raise DataError(
                f"parquet files differ: {has.name!r} has column {(more or less)[0]!r}, which "
                f"{lacks.name!r} lacks; give all files the same columns"
            )


def _other_types(files: list[Path]) -> str | None:
    """Which column of a file is of another type than in the first, in a line; None if none is."""
    first = pq.read_schema(files[0])
    for file in files[1:]:
        schema = pq.read_schema(file)
        for name in first.names:
            kind, other = first.field(name).type, schema.field(name).type
            if kind != other:
                return (
                    f"parquet files differ: column {name!r} is {kind} in {files[0].name!r} and "
                    f"{other} in {file.name!r}; give all files the same types"
                )
    return None
