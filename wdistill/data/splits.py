"""Rows of a dataset with labels, whose images are decoded when asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import datasets
import numpy as np
from PIL import Image, UnidentifiedImageError

from wdistill.core.log import Progress
from wdistill.core.text import folded
from wdistill.data.content.decoding import decode, encoded_bytes, stored_size
from wdistill.data.content.values import Labels, read_labels
from wdistill.errors import DataError

T = TypeVar("T")
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
    fingerprint: str = ""  # of the whole dataset

    def __len__(self) -> int:
        return len(self.rows)

    def image(self, row: int) -> Image.Image:
        """Upright RGB image of ``row``."""
        return next(self.images([row]))

    def images(self, rows: Sequence[int]) -> Iterator[Image.Image]:
        """Upright RGB images of ``rows``, decoded one after the other; their files are looked up in
        the dataset at once, which takes less Python than one by one.
        """
        return self._read(rows, decode)

    def size(self, row: int) -> tuple[int, int]:
        """Width and height of the image of ``row`` as it is stored, which need no decoding."""
        return next(self._read([row], stored_size))

    @cached_property
    def _table(self) -> Any:
        return self.dataset.with_format("arrow")

    def _read(self, rows: Sequence[int], read: Callable[[bytes], T]) -> Iterator[T]:
        positions = self.rows[rows].tolist()
        cells = self._table[positions].column(self.column)
        for position, cell in zip(positions, cells, strict=True):
            yield self._content(position, cell.as_py(), read)

    def _content(self, position: int, cell: dict[str, Any] | None, read: Callable[[bytes], T]) -> T:
        try:
            return read(encoded_bytes(cell))
        except Exception as error:  # PIL raises many kinds on damaged files
            file = f" ({cell['path']})" if cell and cell.get("path") else ""
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            if isinstance(error, UnidentifiedImageError):  # whose text is an address in memory
                reason = "its content is no image of a kind that can be read"
            where = f"row {position} of split {self.name!r}{file}"
            raise DataError(
                f"broken image in {where}: {reason}; repair it or pass `data.skip_broken=True`"
            ) from error

    def take(self, chosen: np.ndarray) -> ImageSplit:
        """The split with only these rows, in this order."""
        groups = None if self.groups is None else self.groups[chosen]
        return replace(self, labels=self.labels[chosen], rows=self.rows[chosen], groups=groups)


def labelled_split(
    dataset: Any, name: str, columns: tuple[str, str], trained: tuple[str, ...] | None = None
) -> tuple[ImageSplit, Labels]:
    """Labels, and the images kept undecoded; the class names are those of this split alone."""
    image_column, label_column = columns
    labels = read_labels(dataset, label_column, name, trained)
    images = dataset.with_format(None).select_columns([image_column])
    images = images.cast_column(image_column, datasets.Image(decode=False))
    rows = np.arange(len(labels.values))
    return ImageSplit(labels.values, images, rows, name, image_column), labels


def renamed(
    split: ImageSplit, names: tuple[str, ...], class_names: tuple[str, ...]
) -> tuple[ImageSplit, tuple[str, ...]]:
    """The split with its labels in the order of the training classes, matched by name; where there
    is none of that name, by what it is without case and Unicode form, which is then said.
    """
    position = {name: index for index, name in enumerate(class_names)}
    alike: dict[str, list[str]] = {}
    for name in class_names:
        alike.setdefault(folded(name), []).append(name)
    order, differing = np.full(len(names) + 1, -1, dtype=np.int64), []
    for label in np.unique(split.labels[split.labels >= 0]):
        name = names[label]
        others = [name] if name in position else alike.get(folded(name), [])
        if len(others) != 1:
            raise DataError(
                f"split {split.name!r} has class {name!r} which the training split lacks; "
                "choose another `data.eval_split`"
            )
        order[label] = position[others[0]]
        if name != others[0]:
            differing.append(f"{name!r} as {others[0]!r}")
    if not differing:
        return replace(split, labels=order[split.labels]), ()
    note = (
        f"{len(differing):,} classes of split {split.name!r} are matched without regard to case, "
        f"such as {differing[0]}."
    )
    return replace(split, labels=order[split.labels]), (note,)


def only_used(split: ImageSplit, names: tuple[str, ...]) -> tuple[ImageSplit, tuple[str, ...]]:
    """The split without the names of classes that no image of it has; their order stays."""
    used = np.unique(split.labels[split.labels >= 0])
    if len(used) == len(names):
        return split, names
    order = np.full(len(names) + 1, -1, dtype=np.int64)
    order[used] = np.arange(len(used))
    return replace(split, labels=order[split.labels]), tuple(names[label] for label in used)


def without_broken(split: ImageSplit, quiet: bool = True) -> ImageSplit:
    """Only the rows whose image can be decoded; every image is tried once."""

    def sound(rows: np.ndarray) -> list[bool]:
        return [_is_sound(split, int(row)) for row in rows]

    batches = np.array_split(np.arange(len(split)), max(1, len(split) // 64))
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        Progress(f"checking {split.name} images", len(split), "img", quiet=quiet) as bar,
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
