"""Images that stand in two splits, found by their content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wdistill.data.content.decoding import encoded_bytes
from wdistill.data.splits import ImageSplit
from wdistill.errors import DataError

TAIL = 4096  # bytes at the end of a file, where those of different images differ
Key = tuple[int, bytes]


def without_shared(
    train: ImageSplit, evaluation: ImageSplit, is_holdout: bool
) -> tuple[ImageSplit, ImageSplit, tuple[str, ...]]:
    """The splits without images that stand in both, and what is to be said of these. They are left
    out of training, or of images that were held out, which are not worth training images.
    """
    if is_holdout:
        shared = shared_rows(evaluation, train)
        if not len(shared) or len(shared) == len(evaluation):
            return train, evaluation, ()
        note = f"Left out {len(shared):,} held out images that are in training too, by content."
        rest = np.setdiff1d(np.arange(len(evaluation)), shared)
        return train, evaluation.take(rest), (note,)
    shared = shared_rows(train, evaluation)
    if not len(shared):
        return train, evaluation, ()
    kept = train.take(np.setdiff1d(np.arange(len(train)), shared))
    lost = np.setdiff1d(train.labels, kept.labels)
    if len(lost):
        raise DataError(
            f"{len(shared):,} of {len(train):,} images of split {train.name!r} stand in split "
            f"{evaluation.name!r} too, among them all of {len(lost):,} of the classes; remove the "
            "copies from one of the two, or choose another `data.eval_split`"
        )
    note = (
        f"Left out of training {len(shared):,} of {len(train):,} images of split {train.name!r} "
        f"that stand in split {evaluation.name!r} too, by content."
    )
    return kept, evaluation, (note,)


def shared_rows(split: ImageSplit, other: ImageSplit) -> np.ndarray:
    """Rows of ``split`` whose image stands in ``other`` too, byte for byte.

    Lengths and last bytes of all files are compared, and all bytes of those that agree in them:
    nothing is decoded, and of large datasets only a small part is read. An image that was encoded
    anew is not found, as its pixels are mostly others too.
    """
    keys, others = _keys(split), _keys(other)
    common = set(keys) & set(others)
    if not common:
        return np.zeros(0, np.int64)
    wanted = {_digest(other, row) for row, key in enumerate(others) if key in common}
    rows = [row for row, key in enumerate(keys) if key in common and _digest(split, row) in wanted]
    return np.array(rows, np.int64)


def _keys(split: ImageSplit) -> list[Key | None]:
    """Length and last bytes of each image; None where there is none."""
    stored = list(_stored_keys(split.dataset, split.column))
    return [stored[row] for row in split.rows]


def _stored_keys(dataset: Any, column: str) -> Iterator[Key | None]:
    for batch in dataset.with_format("arrow").iter(batch_size=1000):
        for chunk in batch.column(column).chunks:
            content = chunk.field("bytes").cast(pa.large_binary())
            lengths = pc.binary_length(content).to_pylist()
            tails = pc.binary_slice(content, -TAIL).to_pylist()
            cells = chunk.to_pylist() if content.null_count else [None] * len(chunk)
            for length, tail, cell in zip(lengths, tails, cells, strict=True):
                yield (length, tail) if length else _file_key(cell)


def _file_key(cell: dict[str, Any] | None) -> Key | None:
    """Of a file that is not in the table; what cannot be read is told when it is asked for."""
    path = str((cell or {}).get("path") or "")
    with suppress(OSError, ValueError):
        if "://" in path:
            data = encoded_bytes(cell)
            return len(data), data[-TAIL:]
        with Path(path).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            return (size, file.read()) if size else None
    return None


def _digest(split: ImageSplit, row: int) -> bytes:
    cell = split.dataset[int(split.rows[row])][split.column]
    return hashlib.sha256(encoded_bytes(cell)).digest()
