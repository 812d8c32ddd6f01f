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
from wdistill.labels.views import LabelViews, renamed

logger = logging.getLogger(__name__)

CHOICES = ("config_name", "revision", "train_split", "eval_split")
WEIGHT, SOFT_LABEL = "weight", "soft_label"  # the columns of a published set


@dataclass(frozen=True, eq=False)
class Subject:
    """Images to judge. weights: (n,), sum 1 within each class, or None; soft_labels: (n, C), or
    None; folder: the run folder, if it is one; manifest: of a run or a published set.
    """

    kind: str  # run, published, dataset
    id: str
    url: str | None
    revision: str | None
    fingerprint: str | None
    class_names: tuple[str, ...]
    named: bool  # False: the labels are numbers, and so are the names
    labels: np.ndarray
    images: ImageSplit | np.ndarray  # (n, H, W, 3) uint8 where they are this tool's own
    weights: np.ndarray | None
    soft_labels: np.ndarray | None
    views: LabelViews | None = None
    label_bytes: int = 0  # of the files that the views are in
    folder: Path | None = None
    manifest: Manifest | None = None


def open_subject(source: str, config: DataConfig) -> Subject:
    """``source``: a run folder, a published folder, the Hub id of a published set, or whatever
    a run reads; config: columns and split, for the last.
    """
    path = Path(source).expanduser()
    if (path / IDENTITY).is_file():
        if not any((path / "publish").glob(f"ipc*/{MANIFEST_FILE}")):
            raise RunFolderError(
                f"the run in {source!r} is not finished; run its command again, then evaluate"
            )
        return _own(one_set(path), "run", path)
    if (path / MANIFEST_FILE).is_file() or any(path.glob(f"ipc*/{MANIFEST_FILE}")):
        return _own(one_set(path), "published", None)
    config = replace(config, dataset=source)
    if path.exists() or glob.has_magic(source):
        return _dataset(config)
    if is_only_local(split_name(source)[0]):
        raise DataError(f"SOURCE {source!r} does not exist; give a run folder, or {ALLOWED}")
    try:
        return _of_the_hub(config, source)
    except DataError as error:
        missing = missing_source(source, error)
        if missing is None:
            raise
        raise missing from error


def _of_the_hub(config: DataConfig, name: str) -> Subject:
    found = fetch_set(name)
    if found is None:
        return _dataset(config)
    own = _own(found.folder, "published", None)
    return replace(own, id=found.id, url=found.url, revision=found.revision)


def _own(publish: Path, kind: str, folder: Path | None) -> Subject:
    found = read_published(publish)
    distilled: DistilledSet = found.distilled
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
        views=found.views,
        label_bytes=sum(path.stat().st_size for path in label_shards(publish)),
        folder=folder,
        manifest=found.manifest,
    )


def fingerprint_of(distilled: DistilledSet) -> str:
    """SHA-256 over class names, pixels, labels, weights and soft labels."""
    digest = hashlib.sha256(json.dumps(distilled.class_names).encode())
    given = (distilled.images, distilled.labels, distilled.weights, distilled.soft_labels)
    for array in given:
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
    """Whether values sum to 1, within each class or (labels None) within each row: a column of
    another set may have the same name and mean something else.
    """
    if values is None or not (np.isfinite(values).all() and (values >= 0).all()):
        return False
    sums = values.sum(1) if labels is None else np.bincount(labels, values)[np.unique(labels)]
    return bool(np.allclose(sums, 1, atol=1e-3))


def against(subject: Subject, given: DataConfig) -> DataConfig:
    """The real data to judge with: as ``given``, else those that the set was made from, of which
    ``given`` may choose another configuration, revision or split.

    Raises OptionError where nothing says which, RunFolderError if a published manifest names what
    is not on the Hub.
    """
    if given.dataset is not None:
        return given
    chosen = {name: getattr(given, name) for name in CHOICES}
    known = {name: value for name, value in chosen.items() if value is not None}
    return replace(_made_from(subject), **known)


def _made_from(subject: Subject) -> DataConfig:
    source = subject.manifest.source if subject.manifest else None
    if subject.folder is not None:
        told = read_json(subject.folder / IDENTITY)
        names = {f"data.{field.name}": field.name for field in fields(DataConfig)}
        known = {names[key]: value for key, value in told.items() if key in names}
        if source is not None and source.kind == "hub":
            known["revision"] = source.revision  # the branch may have moved on since
        return DataConfig(**known)
    if subject.manifest is not None and source is not None and source.kind in ("embedded", "hub"):
        stored = DataConfig(
            image_column=source.image_column,
            label_column=source.label_column,
            group_column=subject.manifest.config.data.group_column,
            train_split=source.train_split,
            eval_split=None if source.eval_is_holdout else source.eval_split,
        )
        if source.kind == "embedded":
            return stored
        return replace(
            stored,
            dataset=remote(source.id, "source", "against.dataset"),
            config_name=source.config_name,
            revision=source.revision,
        )
    raise OptionError(
        f"{subject.id!r} does not say which real images it stands for; name them with "
        "`against.dataset`"
    )


def check_options(subject: Subject, columns: DataConfig, resolution: int | None) -> None:
    """Raises OptionError if the user says how to read a set that says so itself."""
    given = {
        "columns.train_split": columns.train_split,
        "columns.image_column": columns.image_column,
        "columns.label_column": columns.label_column,
        "against.resolution": resolution,
    }
    named = [f"`{setting}`" for setting, value in given.items() if value is not None]
    if subject.manifest is not None and named:
        raise OptionError(
            f"{' and '.join(named)} cannot apply to {subject.id!r}, which is a set of wdistill and "
            "says itself how to read it; leave out what is for sets of others"
        )


def in_order_of(subject: Subject, names: tuple[str, ...], where: str) -> Subject:
    """The subject with its classes in the order of ``names``, those of the real data, matched by
    name or, where only one is meant, but for case and spaces; numbers that are no such names are
    positions in ``names``. Raises DataError naming a class that only one of them has.
    """
    own = _names_among(subject, names)
    present = {own[label] for label in np.unique(subject.labels)}
    strange = [name for name in own if name in present and name not in set(names)]
    if strange:
        raise DataError(
            f"{subject.id!r} has class {strange[0]!r}, which {where!r} lacks (it has "
            f"{_some(names)}); choose another `against.dataset`"
        )
    missing = [name for name in names if name not in present]
    if missing:
        raise DataError(
            f"{subject.id!r} has no image of class {missing[0]!r} of {where!r}; "
            "a set is judged on all classes of the real data: choose another `against.dataset`"
        )
    place = {name: index for index, name in enumerate(names)}
    target = np.array([place.get(name, -1) for name in own], dtype=np.int64)
    soft = subject.soft_labels
    if soft is not None:
        columns = np.array([own.index(name) for name in names])
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
        views=None if subject.views is None else renamed(subject.views, order, target),
    )


def _names_among(subject: Subject, names: tuple[str, ...]) -> tuple[str, ...]:
    """The subject's class names, as ``names`` has them."""
    own = subject.class_names
    known = subject.named and {own[label] for label in np.unique(subject.labels)} <= set(names)
    if own == names or known:
        return own
    if numbers := _positions(own):
        return tuple(names[n] if n < len(names) else own[i] for i, n in enumerate(numbers))
    groups = [Counter(map(folded, kind)) for kind in (own, names)]
    alike = {folded(name): name for name in names}
    matched = tuple(
        alike.get(folded(name), name) if all(group[folded(name)] <= 1 for group in groups) else name
        for name in own
    )
    changed = [(one, other) for one, other in zip(own, matched, strict=True) if one != other]
    if changed:
        pairs = _some(tuple(f"{one!r} as {other!r}" for one, other in changed))
        logger.info(f"{len(changed)} classes are matched but for case and spaces: {pairs}")
    return matched


def _positions(names: tuple[str, ...]) -> list[int]:
    """Numbers in place of names, as those write who leave the names out; else nothing. ``new007``
    is the folder of class 7 in the sets of SRe2L, ``00007`` in those of RDED.
    """
    numbers = [re.fullmatch(r"(?:new)?(\d+)", name) for name in names]
    return [int(number[1]) for number in numbers if number] if all(numbers) else []


def _some(names: tuple[str, ...], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
