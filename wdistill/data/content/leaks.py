"""Images that stand in both splits, found by their pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from wdistill.core.files import read_json, write_json
from wdistill.core.log import Progress
from wdistill.core.processes import share_file, summed
from wdistill.core.settings import stable_hash
from wdistill.data.dataset import ImageData
from wdistill.data.pixels import PixelStore, Preprocessing
from wdistill.data.splits import ImageSplit
from wdistill.errors import DataError

BATCH = 64  # images that are gathered at once: of many more, malloc maps and zeroes the memory anew
SIDE = 32  # pixels of a side that are hashed; whole images are compared where these agree


@dataclass(frozen=True, eq=False)
class Pixels:
    """Both splits of a dataset as a network sees them."""

    train: PixelStore
    test: PixelStore

    def normalised(self, preprocessing: Preprocessing) -> Pixels:
        return Pixels(self.train.normalised(preprocessing), self.test.normalised(preprocessing))


def without_copies(
    data: ImageData,
    pixels: Pixels,
    accelerator: Accelerator | None = None,
    looked_at: Tensor | None = None,
    record: Path | None = None,
) -> tuple[ImageData, Pixels]:
    """The splits without images that stand in both, pixel for pixel. These are left out of
    training; of images that were held out, they are left out there, which costs less.

    All images are decoded for this, and kept by the stores.

    Args:
        accelerator: Of the processes that share the images and all call it; None: this one alone.
        looked_at: Rows of the training split, the others are taken as they are; None for all.
        record: A file that keeps the answer for the next start.

    Raises:
        DataError: All images of a class are copies.
    """
    split, other = pixels.train, pixels.test
    if data.eval_is_holdout:
        split, other = other, split
    own = None if looked_at is None else looked_at.tolist()
    key = stable_hash([data.source.fingerprint, split.split.name, len(split), len(other), own])
    if record is not None and accelerator is not None:
        share_file(record, accelerator)
    known = read_json(record) if record is not None and record.exists() else {}
    if known.get("key") == key:
        rows = np.array(known["rows"], np.int64)
    else:
        rows = _copies(pixels, looked_at, data.eval_is_holdout, accelerator)
        if record is not None and (accelerator is None or accelerator.is_main_process):
            write_json(record, {"key": key, "rows": rows.tolist()})
    if not len(rows) or (data.eval_is_holdout and len(rows) == len(split)):
        return data, pixels
    kept = split.take(torch.from_numpy(np.setdiff1d(np.arange(len(split)), rows)))
    if data.eval_is_holdout:
        note = f"Left out {len(rows):,} held out images that are in training too, by their pixels."
        return _changed(data, Pixels(pixels.train, kept), note), Pixels(pixels.train, kept)
    lost = np.setdiff1d(split.split.labels, kept.split.labels)
    of_all = f"{len(rows):,} of {len(split):,} images of split {split.split.name!r}"
    where = f"split {other.split.name!r} too"
    if len(lost):
        raise DataError(
            f"{of_all} stand in {where}, among them all of {len(lost):,} of the classes; remove "
            "the copies from one of the two, or choose another `data.eval_split`"
        )
    note = f"Left out of training {of_all} that stand in {where}, by their pixels."
    return _changed(data, Pixels(kept, other), note), Pixels(kept, other)


def _changed(data: ImageData, pixels: Pixels, note: str) -> ImageData:
    return replace(
        data,
        train=pixels.train.split,
        eval=pixels.test.split,
        notes=(*data.notes, note),
    )


def _copies(
    pixels: Pixels, looked_at: Tensor | None, of_test: bool, accelerator: Accelerator | None
) -> np.ndarray:
    """Rows of the training split, or of the other, whose image stands in both."""
    rows = torch.arange(len(pixels.train)) if looked_at is None else looked_at
    silent = pixels.train.quiet or not (accelerator is None or accelerator.is_main_process)
    with Progress("decoding", len(rows) + len(pixels.test), "images", quiet=silent) as bar:
        train = _hashes(pixels.train, rows, accelerator, bar.update)
        test = _hashes(pixels.test, torch.arange(len(pixels.test)), accelerator, bar.update)
    common = np.intersect1d(train[train != 0], test)
    train_rows, test_rows = (np.flatnonzero(np.isin(hashes, common)) for hashes in (train, test))
    train_keys = _contents(pixels.train.split, train_rows)
    test_keys = _contents(pixels.test.split, test_rows)
    chosen = test_keys if of_test else train_keys
    found = [row for key in train_keys.keys() & test_keys.keys() for row in chosen[key]]
    return np.array(sorted(found), np.int64)


def _hashes(
    store: PixelStore,
    rows: Tensor,
    accelerator: Accelerator | None,
    advance: Callable[[int], object],
) -> np.ndarray:
    """(n,) int64, the same for images whose pixels are the same; 0 for rows not looked at."""
    hashes = torch.zeros(len(store), dtype=torch.int64)
    rank, count = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    own = rows[rank::count]
    stride = max(1, store.preprocessing.resolution // SIDE)
    for part, pixels in zip(own.split(BATCH), store.batches(own, BATCH), strict=True):
        sample = pixels[:, :, ::stride, ::stride].contiguous().numpy()
        hashes[part] = torch.tensor([_number(image) for image in sample])
        advance(len(part) * count)
    return (summed(hashes, accelerator) if accelerator else hashes).numpy()


def _number(image: np.ndarray) -> int:
    return int.from_bytes(blake2b(image.data, digest_size=8).digest(), "big", signed=True) or 1


def _contents(split: ImageSplit, rows: np.ndarray) -> dict[bytes, list[int]]:
    """The rows by a hash of the whole image."""
    found: dict[bytes, list[int]] = defaultdict(list)
    for row in rows.tolist():
        image = split.image(row)
        found[blake2b(f"{image.size}".encode() + image.tobytes()).digest()].append(row)
    return found
