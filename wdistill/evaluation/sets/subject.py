"""What `wdistill evaluate` judges: a run, a published set, or any small image dataset."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import re
from collections import Counter
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
from wdistill.core.text import folded
from wdistill.data.columns import read_numbers, read_vectors
from wdistill.data.dataset import Rows, load_rows
from wdistill.data.source_errors import ALLOWED, missing_source
from wdistill.data.sources import is_only_local
from wdistill.data.splits import ImageSplit
from wdistill.errors import DataError, OptionError, RunFolderError
from wdistill.labels.views import LabelViews, reindex

logger = logging.getLogger(__name__)

CHOICES = ("config_name", "revision", "train_split", "eval_split")
WEIGHT, SOFT_LABEL = "weight", "soft_label"  # the columns of a published set


@dataclass(frozen=True, eq=False)
class Subject:
    """A set of images to evaluate.

    Attributes:
        kind: run, published or dataset.
        named: Whether the classes have names; otherwise the names are the labels as numbers.
        images: An image split, or (n, H, W, 3) uint8 for a set of this tool.
        weights: (n,), sum 1 within each class, or None.
        soft_labels: (n, C), or None.
        label_bytes: Size of the files of ``views``.
        folder: The run folder, if it is a run.
        manifest: Of a run or a published set.
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


def open_subject(source: str, config: DataConfig) -> Subject:
    """Open the set to evaluate.

    Args:
        source: A run folder, a published folder, the Hub id of a published set, or any dataset
            that a run can read.
        config: Columns and split, for the last.
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
    config = replace(config, dataset=source)
    if path.exists() or glob.has_magic(source):
        return _dataset(config)
    if is_only_local(split_name(source)[0]):
        raise DataError(f"SOURCE {source!r} does not exist; give a run folder, or {ALLOWED}")
    try:
        return _of_the_hub(config, source)
    except DataError as error:
        not_found = missing_source(source, error)
        if not_found is None:
            raise
        raise not_found from error


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
    rows: Rows = load_rows(config)
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


def in_order_of(subject: Subject, names: tuple[str, ...], dataset_id: str) -> Subject:
    """Reorder the classes of a set to ``names``, the classes of the real data.

    Classes are matched by name, or, where only one class is meant, ignoring case and surrounding
    spaces; numeric names that do not match are positions in ``names``.

    Raises:
        DataError: A class exists in only one of the two; the message names it.
    """
    subject_names = _names_among(subject, names)
    present = {subject_names[label] for label in np.unique(subject.labels)}
    unknown = [name for name in subject_names if name in present and name not in set(names)]
    if unknown:
        raise DataError(
            f"{subject.id!r} has class {unknown[0]!r}, which {dataset_id!r} lacks (it has "
            f"{_listed(names)}); choose another `against.dataset`"
        )
    missing = [name for name in names if name not in present]
    if missing:
        raise DataError(
            f"{subject.id!r} has no image of class {missing[0]!r} of {dataset_id!r}; "
            "a set is judged on all classes of the real data: choose another `against.dataset`"
        )
    index_of = {name: index for index, name in enumerate(names)}
    target = np.array([index_of.get(name, -1) for name in subject_names], dtype=np.int64)
    soft = subject.soft_labels
    if soft is not None:
        columns = np.array([subject_names.index(name) for name in names])
        soft = soft[:, columns]
    labels = target[subject.labels]
    order = np.argsort(labels, kind="stable")
    images = subject.images
    return replace(
        subject,
        class_names=names,
        labels=labels[order],
        images=images.take(order) if isinstance(images, ImageSplit) else images[order],
        weights=None if subject.weights is None else subject.weights[order],
        soft_labels=None if soft is None else soft[order],
        views=None if subject.views is None else reindex(subject.views, order, target),
    )


def _names_among(subject: Subject, names: tuple[str, ...]) -> tuple[str, ...]:
    """The class names of ``subject``, spelled as in ``names``."""
    subject_names = subject.class_names
    present = {subject_names[label] for label in np.unique(subject.labels)}
    if subject_names == names or (subject.named and present <= set(names)):
        return subject_names
    if numbers := _positions(subject_names):
        pairs = zip(numbers, subject_names, strict=True)
        return tuple(names[n] if n < len(names) else name for n, name in pairs)
    counts = [Counter(map(folded, group)) for group in (subject_names, names)]
    by_folded_name = {folded(name): name for name in names}
    matches = tuple(
        by_folded_name.get(folded(name), name)
        if all(count[folded(name)] <= 1 for count in counts)
        else name
        for name in subject_names
    )
    respelled = [pair for pair in zip(subject_names, matches, strict=True) if pair[0] != pair[1]]
    if respelled:
        listing = _listed(tuple(f"{one!r} as {other!r}" for one, other in respelled))
        logger.info(f"{len(respelled)} classes are matched but for case and spaces: {listing}")
    return matches


def _positions(names: tuple[str, ...]) -> list[int]:
    """The class indices that ``names`` are, or nothing if one is no index: labels stored without
    class names, ``new007`` as SRe2L names its folders, ``00007`` as RDED does.
    """
    numbers = [re.fullmatch(r"(?:new)?(\d+)", name) for name in names]
    return [int(number[1]) for number in numbers if number] if all(numbers) else []


def _listed(names: tuple[str, ...], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
