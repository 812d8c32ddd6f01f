"""Rows of a class-labelled split: decoding, matching of classes, hold-out."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import datasets
import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from wdistill.columns import read_labels
from wdistill.errors import DataError
from wdistill.images import decode, encoded_bytes

HOLDOUT = 0.1  # share of each class


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """Rows of one class-labelled split; images are decoded when asked for."""

    labels: np.ndarray  # (N,) int64
    dataset: Any  # datasets.Dataset with undecoded images
    rows: np.ndarray  # (N,) int64, positions in ``dataset``
    name: str
    column: str
    groups: np.ndarray | None = None  # (N,) int64: domain, client, ...; in any numbering

    def __len__(self) -> int:
        return len(self.rows)

    def image(self, row: int) -> Image.Image:
        """Upright RGB image of ``row``."""
        position = int(self.rows[row])
        cell = self.dataset[position][self.column]
        try:
            return decode(encoded_bytes(cell))
        except Exception as error:  # PIL raises many kinds on damaged files
            file = f" ({cell['path']})" if cell and cell.get("path") else ""
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            where = f"row {position} of split {self.name!r}{file}"
            raise DataError(
                f"broken image in {where}: {reason}; repair it or pass --skip-broken"
            ) from error

    def take(self, chosen: np.ndarray) -> ImageSplit:
        """The split with only these rows, in this order."""
        groups = None if self.groups is None else self.groups[chosen]
        return replace(self, labels=self.labels[chosen], rows=self.rows[chosen], groups=groups)


def labelled_split(
    dataset: Any, name: str, columns: tuple[str, str]
) -> tuple[ImageSplit, tuple[str, ...]]:
    """Labels, and the images kept undecoded; the class names are those of this split alone."""
    image_column, label_column = columns
    labels, class_names = read_labels(dataset, label_column, name)
    images = dataset.with_format(None).select_columns([image_column])
    images = images.cast_column(image_column, datasets.Image(decode=False))
    return ImageSplit(labels, images, np.arange(len(labels)), name, image_column), class_names


def renamed(split: ImageSplit, names: tuple[str, ...], class_names: tuple[str, ...]) -> ImageSplit:
    """The split with its labels in the order of the training classes, matched by name."""
    position = {name: index for index, name in enumerate(class_names)}
    used = np.unique(split.labels[split.labels >= 0])
    strange = [names[label] for label in used if names[label] not in position]
    if strange:
        raise DataError(
            f"split {split.name!r} has class {strange[0]!r} which the training split lacks; "
            "choose another --eval-split"
        )
    order = np.array([*(position.get(name, -1) for name in names), -1], dtype=np.int64)
    return replace(split, labels=order[split.labels])


def without_broken(split: ImageSplit, quiet: bool = True) -> ImageSplit:
    """Only the rows whose image can be decoded; every image is tried once."""

    def sound(rows: np.ndarray) -> list[bool]:
        return [_is_sound(split, int(row)) for row in rows]

    batches = np.array_split(np.arange(len(split)), max(1, len(split) // 64))
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(
            total=len(split), desc=f"checking {split.name} images", unit="image", disable=quiet
        ) as bar,
    ):
        keep: list[bool] = []
        for flags in pool.map(sound, batches):
            keep += flags
            bar.update(len(flags))
    return split.take(np.flatnonzero(keep))


def _is_sound(split: ImageSplit, row: int) -> bool:
    try:
        split.image(row)
    except DataError:
        return False
    return True


def hold_out(split: ImageSplit, classes: int, seed: int) -> list[ImageSplit]:
    """Training and evaluation rows: a tenth of each class, at least one where it has two."""
    held = np.zeros(len(split), dtype=bool)
    for label in range(classes):
        rows = np.flatnonzero(split.labels == label)
        count = max(1, round(HOLDOUT * len(rows))) if len(rows) > 1 else 0
        held[np.random.default_rng((seed, label)).permutation(rows)[:count]] = True
    return [split.take(np.flatnonzero(~held)), split.take(np.flatnonzero(held))]
