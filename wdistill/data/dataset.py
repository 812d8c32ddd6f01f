"""Any class-labelled image dataset as two splits of upright RGB images with named classes."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wdistill.config import DataConfig
from wdistill.data.columns import choose_columns, is_named
from wdistill.data.content.choice import (
    check_apart,
    eval_names,
    names_in,
    rows_of,
    train_name,
    unused_splits,
)
from wdistill.data.content.decoding import digest_of_images, to_rgb
from wdistill.data.content.values import Labels, read_groups
from wdistill.data.hub.streaming import SIZE_SAMPLE, Scaling
from wdistill.data.opened import Opened, Source
from wdistill.data.sources import open_source
from wdistill.data.splits import (
    ImageSplit,
    hold_out,
    labelled_split,
    only_used,
    renamed,
    without_broken,
)
from wdistill.errors import DataError

logger = logging.getLogger(__name__)
__all__ = ["ImageData", "ImageSplit", "Source", "load_data", "to_rgb"]
FINGERPRINT_ALL = 100_000  # rows up to which every image enters the fingerprint
FINGERPRINT_SAMPLE = 10_000


@dataclass(frozen=True, eq=False)
class ImageData:
    """A dataset ready to be distilled and evaluated on."""

    source: Source
    class_names: tuple[str, ...]
    train: ImageSplit
    eval: ImageSplit
    train_split: str
    eval_split: str
    eval_is_holdout: bool
    image_column: str
    label_column: str
    unlabelled: int  # rows left out of the two splits because they have no label
    broken: int  # rows left out because their image cannot be decoded
    stored: tuple[int, int]  # rows of the two splits, with those that are copies of one another
    notes: tuple[str, ...]  # what was inferred or left out, one sentence each
    native_size: int  # median of the longer side over a sample, in pixels
    by_revision: str  # fingerprint as that of a stream; empty where there is no commit

    def is_of(self, recorded: str) -> bool:
        """Whether ``recorded`` is the fingerprint of these data, read as a stream or not."""
        return recorded in {self.source.fingerprint, self.by_revision} - {""}

    @property
    def eval_place(self) -> str:
        """Where the evaluation images are, in words: ``in 'test'``, ``held out of 'train'``."""
        return f"{'held out of' if self.eval_is_holdout else 'in'} {self.eval_split!r}"

    @property
    def shared(self) -> int:
        """Rows left out of training because their image is in the evaluation split too."""
        return self.stored[0] - len(self.train)

    def check_classes(self, ipc: int, images: int | None = None) -> None:
        """Raise DataError unless there are two or more classes, each with ``ipc`` images; of
        ``images`` in all, where the settings give that number.
        """
        train, evaluation, names = self.train, self.eval, self.class_names
        counts = np.bincount(train.labels, minlength=len(names))
        if not len(train):
            raise DataError(
                f"split {train.name!r} has no image that can be decoded; choose another"
            )
        if len(names) < 2:
            raise DataError(f"the dataset has one class, {names[0]!r}; two or more are needed")
        smallest = int(counts.argmin())
        name, count = names[smallest], int(counts[smallest])
        if count == 0:
            raise DataError(
                f"no image of class {name!r} in split {train.name!r} can be decoded; repair one, "
                "or remove the class"
            )
        if count < ipc:
            held = int((evaluation.labels == smallest).sum()) if self.eval_is_holdout else 0
            beside = f" besides {held} held out for evaluation" if held else ""
            noun = "image" if count == 1 else "images"
            if images is not None:
                raise DataError(
                    f"class {name!r} has {count} {noun}{beside} but `barycenter.images` {images} "
                    f"are {ipc} for each class; lower it to {count * len(names)} or less, or "
                    "choose `barycenter.allocation=w2`"
                )
            raise DataError(
                f"class {name!r} has {count} {noun}{beside} but `barycenter.ipc` is {ipc}; "
                f"lower `barycenter.ipc` to {count} or less"
            )


def load_data(
    config: DataConfig,
    seed: int,
    ipc: int,
    quiet: bool = True,
    scaling: Callable[[int], Scaling] | None = None,
) -> ImageData:
    """Open the dataset, infer what ``config`` leaves open, and check every class against ``ipc``.

    The hold-out, where there is no evaluation split, is the only use of ``seed``. With ``scaling``
    a dataset of the Hub is read as a stream.
    """
    opened = open_source(config, scaling, quiet)
    read = _read_splits(opened, config)
    splits = read.splits
    revision = opened.source.revision
    by_revision = _fingerprint(read, revision) if revision else ""
    fingerprint = by_revision if opened.stream else _fingerprint(read)
    unlabelled = sum(int((split.labels < 0).sum()) for split in splits)
    splits = [split.take(np.flatnonzero(split.labels >= 0)) for split in splits]
    labelled = sum(map(len, splits))
    if config.skip_broken:
        splits = [without_broken(split, quiet) for split in splits]
    broken = labelled - sum(map(len, splits))
    is_holdout = len(splits) == 1
    if is_holdout:
        splits = hold_out(splits[0], len(read.class_names), seed)
    train, evaluation = splits
    data = ImageData(
        source=replace(opened.source, fingerprint=fingerprint),
        class_names=read.class_names,
        train=replace(train, fingerprint=fingerprint),
        eval=replace(evaluation, fingerprint=fingerprint),
        train_split=train.name,
        eval_split=evaluation.name,
        eval_is_holdout=is_holdout,
        image_column=read.image_column,
        label_column=read.label_column,
        unlabelled=unlabelled,
        broken=broken,
        stored=(len(train), len(evaluation)),
        notes=(
            *opened.notes,
            *_notes(config, read, (unlabelled, broken), (train, evaluation)),
            *read.notes,
            *unused_splits(opened, {name for piece in read.names for name in names_in(piece)}),
            *([opened.stream.note()] if opened.stream else []),
        ),
        native_size=opened.stream.native_size() if opened.stream else _native_size(train),
        by_revision=by_revision,
    )
    data.check_classes(ipc)
    return data


@dataclass(frozen=True)
class _Read:
    """The splits as they are stored: all rows, -1 where there is no label."""

    splits: list[ImageSplit]  # training, then evaluation if there is one
    class_names: tuple[str, ...]
    image_column: str
    label_column: str
    skipped: tuple[tuple[str, int], ...] = ()  # evaluation splits without labels, their rows
    notes: tuple[str, ...] = ()  # what was made of the classes

    @property
    def names(self) -> tuple[str, ...]:
        """All splits that were looked at."""
        return *(split.name for split in self.splits), *(name for name, _ in self.skipped)


def _read_splits(opened: Opened, config: DataConfig) -> _Read:
    name = train_name(opened, config)
    dataset, pieces = rows_of(opened, name, "data.train_split")
    if not len(dataset):
        raise DataError(f"split {name!r} is empty; choose another with `data.train_split`")
    columns = choose_columns(dataset, config)
    train, labels = labelled_split(dataset, name, columns)
    if not (train.labels >= 0).any():
        raise DataError(f"split {name!r} has no labels; choose another `data.train_split`")
    train, class_names = only_used(train, labels.names)
    if config.group_column is not None:
        train = replace(train, groups=read_groups(dataset, config.group_column))
    notes = labels.notes + _no_images(name, labels, train)
    read = _Read([train], class_names, *columns, notes=notes)
    for other in eval_names(opened, config, name):
        stored, tested = rows_of(opened, other, "data.eval_split")
        check_apart(name, pieces, other, tested)
        if columns[1] in stored.features:
            evaluation, found = labelled_split(stored, other, columns, class_names)
            if (evaluation.labels >= 0).any():
                evaluation, differing = renamed(evaluation, found.names, class_names)
                return replace(read, splits=[train, evaluation], notes=read.notes + differing)
        read = replace(read, skipped=(*read.skipped, (other, len(stored))))
    if config.eval_split is not None:
        raise DataError(
            f"split {config.eval_split!r} has no labels; choose another `data.eval_split`"
        )
    return read


def _no_images(name: str, labels: Labels, train: ImageSplit) -> tuple[str, ...]:
    """A line about classes that have a name only."""
    names, used = len(labels.names), len(np.unique(train.labels[train.labels >= 0]))
    if used == names:
        return ()
    return (
        f"Left out {names - used:,} of {names:,} class names: no image of split {name!r} is of "
        "these classes.",
    )


@dataclass(frozen=True, eq=False)
class Rows:
    """One split as it is: its labelled rows, and the table, which may have more columns."""

    source: Source
    split: ImageSplit
    table: Any  # datasets.Dataset, of which split.rows are positions
    class_names: tuple[str, ...]
    named: bool  # False: the classes are numbers


def load_rows(config: DataConfig) -> Rows:
    """The split ``config.train_split`` (the only one, or train) of a dataset, to be judged."""
    opened = open_source(config)
    name = train_name(opened, config, "columns.train_split")
    table, _ = rows_of(opened, name, "columns.train_split")
    columns = choose_columns(table, config)
    split, labels = labelled_split(table, name, columns)
    split = split.take(np.flatnonzero(split.labels >= 0))
    if not len(split):
        raise DataError(
            f"split {name!r} has no labelled images; choose another with `columns.train_split`"
        )
    for note in (*opened.notes, *labels.notes):
        logger.info(f"{name}: {note}")
    read = _Read([split], labels.names, split.column, "")
    source = replace(opened.source, fingerprint=_fingerprint(read))
    return Rows(source, split, table, labels.names, is_named(table.features[columns[1]]))


def _fingerprint(read: _Read, revision: str | None = None) -> str:
    """SHA-256 over names, labels and encoded images: the same on every machine.

    Of splits above ``FINGERPRINT_ALL`` rows, a fixed sample of the images enters. Those of a stream
    are not kept: their commit, ``revision``, stands for them.
    """
    header = [read.class_names, read.image_column, read.label_column]
    digest = hashlib.sha256(json.dumps(header).encode())
    for split in read.splits:
        rows = len(split)
        digest.update(f"{split.name}\0{rows}\0".encode())
        digest.update(split.labels.astype("<i8").tobytes())
        if revision is not None:
            continue
        images = split.dataset
        if rows > FINGERPRINT_ALL:
            chosen = np.random.default_rng(0).choice(rows, FINGERPRINT_SAMPLE, replace=False)
            images = images.select(np.sort(chosen))
        digest.update(digest_of_images(images, split.column))
    if revision is not None:
        return f"revision:{revision}:{digest.hexdigest()[:16]}"
    return digest.hexdigest()


def _native_size(split: ImageSplit) -> int:
    count = min(SIZE_SAMPLE, len(split))
    rows = np.random.default_rng(0).choice(len(split), count, replace=False)
    return int(np.median([max(split.size(int(row))) for row in rows]))


def _notes(
    config: DataConfig,
    read: _Read,
    left_out: tuple[int, int],
    splits: tuple[ImageSplit, ImageSplit],
) -> tuple[str, ...]:
    """What a user should know and did not say."""
    train, evaluation = splits
    unlabelled, broken = left_out
    notes = []
    if config.dataset is None:
        notes.append("No dataset is named: using the embedded Fashion-MNIST subset, offline.")
    elif config.image_column is None or config.label_column is None:
        notes.append(
            f"Images are in column {read.image_column!r}, labels in column {read.label_column!r}."
        )
    notes += [
        f"Split {name!r} ({rows:,} images) has no labels and is not used."
        for name, rows in read.skipped
    ]
    if len(read.splits) == 1:
        notes.append(
            f"No evaluation split with labels beside {train.name!r}: {len(evaluation)} of its "
            f"{len(train) + len(evaluation)} images are held out, a seeded tenth of each class."
        )
    elif config.dataset is not None and config.eval_split is None:
        notes.append(f"Evaluation is on split {evaluation.name!r}.")
    if unlabelled:
        notes.append(f"Left out {unlabelled} rows without a label (-1 or missing).")
    if broken:
        notes.append(f"Left out {broken} rows with a broken image.")
    return tuple(notes)
