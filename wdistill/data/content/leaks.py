"""Images that stand in two splits, found by their content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wdistill.data.content.decoding import encoded_bytes
from wdistill.data.splits import ImageSplit
from wdistill.errors import DataError

TAIL = 4096  # bytes at the end of a file, where those of different images differ
THREADS = 16  # that wait for the disk
PIECE = 500  # files that a thread looks at


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

    Lengths are compared, of files of the same length the last bytes, and all bytes of those that
    agree in them: nothing is decoded, and of large datasets only a small part is read. An image
    that was encoded anew is not found, as its pixels are mostly others too.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        files, others = (_mapped(pool, _measured, _stored(part)) for part in (split, other))
        lengths = {file.length for file in files} & {file.length for file in others} - {0}
        ended = partial(_ended, lengths)
        files, others = (_mapped(pool, ended, part) for part in (files, others))
    common = {file for file in files if file.end} & {file for file in others if file.end}
    wanted = {_digest(other, row) for row, file in enumerate(others) if file in common}
    rows = [
        row for row, file in enumerate(files) if file in common and _digest(split, row) in wanted
    ]
    return np.array(rows, np.int64)


class _File(NamedTuple):
    """length: in bytes, 0 where there is no image; end: a hash of the last bytes, empty where it is
    not needed; path: where the bytes are, until they are read.
    """

    length: int = 0
    end: bytes = b""
    path: str = ""


def _stored(split: ImageSplit) -> list[_File]:
    """What the table says of each image, without a look into files."""
    files = []
    for batch in split.dataset.with_format("arrow").iter(batch_size=1000):
        for chunk in batch.column(split.column).chunks:
            content = chunk.field("bytes").cast(pa.large_binary())
            lengths = pc.binary_length(content).to_pylist()
            ends = pc.binary_slice(content, -TAIL).to_pylist()
            for length, end, path in zip(
                lengths, ends, chunk.field("path").to_pylist(), strict=True
            ):
                files.append(_File(length, _hash(end)) if length else _File(path=path or ""))
    return [files[row] for row in split.rows]


def _measured(file: _File) -> _File:
    """What cannot be read is told when it is asked for."""
    if not file.path:
        return file
    with suppress(OSError, ValueError):
        if "://" in file.path:
            data = encoded_bytes({"bytes": None, "path": file.path})
            return _File(len(data), _hash(data[-TAIL:]))
        return _File(os.path.getsize(file.path), file.end, file.path)
    return _File()


def _ended(lengths: set[int], file: _File) -> _File:
    """With its last bytes if another file has the same length."""
    if file.length not in lengths:
        return _File()
    if not file.path:
        return file
    with suppress(OSError), Path(file.path).open("rb") as content:
        content.seek(max(0, file.length - TAIL))
        return _File(file.length, _hash(content.read()))
    return _File()


def _hash(end: bytes) -> bytes:
    return hashlib.blake2b(end, digest_size=16).digest()


def _mapped(
    pool: ThreadPoolExecutor, function: Callable[[_File], _File], files: list[_File]
) -> list[_File]:
    pieces = [files[first : first + PIECE] for first in range(0, len(files), PIECE)]
    return [file for piece in pool.map(lambda p: list(map(function, p)), pieces) for file in piece]


def _digest(split: ImageSplit, row: int) -> bytes:
    cell = split.dataset[int(split.rows[row])][split.column]
    return hashlib.sha256(encoded_bytes(cell)).digest()
