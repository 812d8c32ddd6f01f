"""What `wdistill evaluate` judges: a run, a published set, or any small image dataset."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from wdistill.artifact.distilled_set import DistilledSet
from wdistill.artifact.layout import MANIFEST_FILE, one_set
from wdistill.artifact.manifest import Manifest
from wdistill.artifact.parquet import label_shards
from wdistill.artifact.reading import fetch_set, read_published, remote, split_name
from wdistill.config import DataConfig
from wdistill.core.files import IDENTITY, read_json
from wdistill.data.content.values import read_numbers, read_vectors
from wdistill.data.dataset import Rows, load_rows
from wdistill.data.source_errors import ALLOWED, missing_source
from wdistill.data.sources import is_only_local
from wdistill.data.splits import ImageSplit
from wdistill.errors import DataError, OptionError, RunFolderError
from wdistill.evaluation.sets.folders import (
    labelled_folder,
    labels_file,
    read_soft_labels,
    soft_labels_file,
)
from wdistill.evaluation.sets.spaces import FileForm, as_images
from wdistill.evaluation.sets.tensors import SUFFIXES, read_tensor_set
from wdistill.labels.views import LabelViews

logger = logging.getLogger(__name__)

CHOICES = ("config_name", "revision", "train_split", "eval_split")
_UNSAID = FileForm()
WEIGHT, SOFT_LABEL = "weight", "soft_label"  # the columns of a published set


@dataclass(frozen=True, eq=False)
class Subject:
    """A set of images to evaluate.

    Attributes:
        kind: run, published, dataset or file (of tensors).
        named: Whether the classes have names; otherwise the names are the labels as numbers.
        images: An image split, or (n, H, W, 3) uint8 for a set of this tool.
        weights: (n,), sum 1 within each class, or None.
        soft_labels: (n, C), or None.
        label_bytes: Size of the files of ``views``.
        folder: The run folder, if it is a run.
        manifest: Of a run or a published set.
        tiles: Images that were decoded from each stored one.
        stored_bytes: Size of the stored images, where they are not in a format for images.
        notes: What was taken for granted or lost, one sentence each.
    """

    kind: str
    id: str
    url: str | None
    revision: str | None
    fingerprint: str | None
    class_names: tuple[str, ...]
    named: bool
    labels: np.ndarray
    images: ImageSplit | np.ndarray
    weights: np.ndarray | None
    soft_labels: np.ndarray | None
    views: LabelViews | None = None
    label_bytes: int = 0
    folder: Path | None = None
    manifest: Manifest | None = None
    tiles: int = 1
    stored_bytes: int | None = None
    notes: tuple[str, ...] = ()


def open_subject(source: str, config: DataConfig, form: FileForm = _UNSAID) -> Subject:
    """Open the set to evaluate.

    Args:
        source: A run folder, a published folder, the Hub id of a published set, any dataset that a
            run can read, or a file of tensors as papers publish them.
        config: Columns and split, for the last two.
        form: What is said of the tensors, for the last.
    """
    path = Path(source).expanduser()
    if (path / IDENTITY).is_file():
        if not any((path / "publish").glob(f"ipc*/{MANIFEST_FILE}")):
            raise RunFolderError(
                f"the run in {source!r} is not finished; run its command again, then evaluate"
            )
        return _published_set(one_set(path), "run", path)
    if (path / MANIFEST_FILE).is_file() or any(path.glob(f"ipc*/{MANIFEST_FILE}")):
        return _published_set(one_set(path), "published", None)
    if path.is_file() and path.suffix in SUFFIXES:
        return _tensors(path, config, form)
    if form != replace(_UNSAID, dataset=form.dataset):
        raise OptionError(
            f"`space` and `tiles` are for files of tensors ({', '.join(SUFFIXES)}), and {source!r} "
            "is none; leave them out"
        )
    config = replace(config, dataset=source)
    if path.is_dir() and (labels := labels_file(path)):
        return _with_soft_labels(_rows_of(labelled_folder(path, labels)), path)
    if path.exists() or glob.has_magic(source):
        return _with_soft_labels(_dataset(config), path)
    if is_only_local(split_name(source)[0]):
        raise DataError(f"SOURCE {source!r} does not exist; give a run folder, or {ALLOWED}")
    try:
        return _of_the_hub(config, source)
    except DataError as error:
        not_found = missing_source(source, error)
        if not_found is None:
            raise
        raise not_found from error


def _tensors(path: Path, config: DataConfig, form: FileForm) -> Subject:
    stored = read_tensor_set(path, config.train_split)
    images = as_images(stored, form)
    for note in images.notes:
        logger.info(f"{path.name}: {note}")
    return Subject(
        kind="file",
        id=path.name,
        url=None,
        revision=None,
        fingerprint=hashlib.sha256(path.read_bytes()).hexdigest(),
        class_names=tuple(map(str, range(images.classes))),
        named=False,
        labels=images.labels,
        images=images.pixels,
        weights=None,
        soft_labels=images.soft,
        tiles=images.tiles,
        stored_bytes=stored.bytes,
        notes=images.notes,
    )


def _of_the_hub(config: DataConfig, name: str) -> Subject:
    hub_set = fetch_set(name)
    if hub_set is None:
        return _dataset(config)
    subject = _published_set(hub_set.folder, "published", None)
    return replace(subject, id=hub_set.id, url=hub_set.url, revision=hub_set.revision)


def _published_set(publish: Path, kind: str, folder: Path | None) -> Subject:
    published = read_published(publish)
    distilled: DistilledSet = published.distilled
    return Subject(
        kind=kind,
        id=(folder or publish.parent).resolve().name,
        url=None,
        revision=None,
        fingerprint=fingerprint_of(distilled),
        class_names=distilled.class_names,
        named=True,
        labels=distilled.labels,
        images=distilled.images,
        weights=distilled.weights,
        soft_labels=distilled.soft_labels,
        views=published.views,
        label_bytes=sum(path.stat().st_size for path in label_shards(publish)),
        folder=folder,
        manifest=published.manifest,
    )


def fingerprint_of(distilled: DistilledSet) -> str:
    """SHA-256 over class names, pixels, labels, weights and soft labels."""
    digest = hashlib.sha256(json.dumps(distilled.class_names).encode())
    arrays = (distilled.images, distilled.labels, distilled.weights, distilled.soft_labels)
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def _dataset(config: DataConfig) -> Subject:
    return _rows_of(load_rows(config))


def _with_soft_labels(subject: Subject, path: Path) -> Subject:
    """The set with the soft labels in a file of tensors beside its images, if there is one."""
    beside = soft_labels_file(path) if path.is_dir() else None
    if beside is None or not isinstance(subject.images, ImageSplit):
        return subject
    soft, note = read_soft_labels(beside, subject.images, len(subject.class_names))
    logger.info(f"{path.name}: {note}")
    return replace(subject, soft_labels=soft, notes=(*subject.notes, note))


def _rows_of(rows: Rows) -> Subject:
    split, table = rows.split, rows.table
    classes = len(rows.class_names)
    weights = read_numbers(table, WEIGHT) if WEIGHT in table.features else None
    soft = read_vectors(table, SOFT_LABEL, classes) if SOFT_LABEL in table.features else None
    weights = None if weights is None else weights[split.rows]
    soft = None if soft is None else soft[split.rows]
    return Subject(
        kind="dataset",
        id=rows.source.id,
        url=rows.source.url,
        revision=rows.source.revision,
        fingerprint=rows.source.fingerprint,
        class_names=rows.class_names,
        named=rows.named,
        labels=split.labels,
        images=split,
        weights=weights if _are_shares(weights, split.labels) else None,
        soft_labels=soft if _are_shares(soft, None) else None,
    )


def _are_shares(values: np.ndarray | None, labels: np.ndarray | None) -> bool:
    """Whether values are shares: they sum to 1 within each class, or within each row if labels is
    None. A column of another tool may have the same name and another meaning.
    """
    if values is None or not (np.isfinite(values).all() and (values >= 0).all()):
        return False
    sums = values.sum(1) if labels is None else np.bincount(labels, values)[np.unique(labels)]
    return bool(np.allclose(sums, 1, atol=1e-3))


def against(subject: Subject, config: DataConfig) -> DataConfig:
    """The real data to compare with: those of ``config``, otherwise the source of the set, of which
    ``config`` may select another configuration, revision or split.

    Raises:
        OptionError: The set does not record its source.
        RunFolderError: A published manifest names a source that is not on the Hub.
    """
    if config.dataset is not None:
        return config
    settings = {name: getattr(config, name) for name in CHOICES}
    overrides = {name: value for name, value in settings.items() if value is not None}
    return replace(_source_config(subject), **overrides)


def _source_config(subject: Subject) -> DataConfig:
    source = subject.manifest.source if subject.manifest else None
    if subject.folder is not None:
        run_identity = read_json(subject.folder / IDENTITY)
        names = {f"data.{field.name}": field.name for field in fields(DataConfig)}
        values = {names[key]: value for key, value in run_identity.items() if key in names}
        if source is not None and source.kind == "hub":
            values["revision"] = source.revision  # the branch may have moved on since
        return DataConfig(**values)
    if subject.manifest is not None and source is not None and source.kind in ("embedded", "hub"):
        columns = DataConfig(
            image_column=source.image_column,
            label_column=source.label_column,
            group_column=subject.manifest.config.data.group_column,
            train_split=source.train_split,
            eval_split=None if source.eval_is_holdout else source.eval_split,
        )
        if source.kind == "embedded":
            return columns
        return replace(
            columns,
            dataset=remote(source.id, "source", "against.dataset"),
            config_name=source.config_name,
            revision=source.revision,
        )
    raise OptionError(
        f"{subject.id!r} does not say which real images it stands for; name them with "
        "`against.dataset`"
    )


def check_options(subject: Subject, columns: DataConfig, resolution: int | None) -> None:
    """Raise OptionError if the user sets columns or the split of a set that records them."""
    settings = {
        "columns.train_split": columns.train_split,
        "columns.image_column": columns.image_column,
        "columns.label_column": columns.label_column,
        "against.resolution": resolution,
    }
    conflicts = [f"`{setting}`" for setting, value in settings.items() if value is not None]
    if subject.manifest is not None and conflicts:
        raise OptionError(
            f"{' and '.join(conflicts)} cannot apply to {subject.id!r}, which is a set of wdistill "
            "and says itself how to read it; leave out what is for sets of others"
        )
