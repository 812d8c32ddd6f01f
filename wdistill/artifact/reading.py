"""A published set as a whole, from a folder or from the Hub; the one place that finds its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from wdistill.artifact.distilled_set import (
    DistilledSet,
    read_distilled,
    read_manifest,
    read_results,
)
from wdistill.artifact.hub_set import fetch_set, split_name
from wdistill.artifact.layout import MANIFEST_FILE, one_set
from wdistill.artifact.parquet import read_label_views
from wdistill.config import DataConfig
from wdistill.data.dataset import ImageData
from wdistill.data.source_errors import Explained
from wdistill.data.sources import is_only_local
from wdistill.errors import DataError, HubError, RunFolderError
from wdistill.labels.views import LabelViews


@dataclass(frozen=True, eq=False)
class PublishedSet:
    """Everything that students can be trained from, and how it was made.

    folder: where it lies on this machine; results: None if it was not evaluated.
    """

    folder: Path
    distilled: DistilledSet
    views: LabelViews | None
    manifest: dict[str, Any]
    results: dict[str, Any] | None


def open_published(source: str | Path, revision: str | None = None) -> PublishedSet:
    """``source``: a run folder, a published folder, or the id of a dataset on the Hub, of which
    ``revision`` is a branch, tag or commit. A folder wins over an id of the same name. Where there
    are several sets, the folder of one, or on the Hub id/ipcN; an id alone means the set that
    `load_dataset` takes without a name.

    Raises DataError if the Hub has no such dataset, RunFolderError if it is none of wdistill's.
    """
    path, name = Path(source).expanduser(), str(source)
    if path.exists():
        return read_published(one_set(path))
    if isinstance(source, Path) or is_only_local(split_name(name)[0]):
        raise RunFolderError(f"{name!r} does not exist; give a run, its publish folder or a Hub id")
    found = fetch_set(name, revision)
    if found is None:
        with Explained(DataConfig(dataset=name)):
            HfApi().dataset_info(split_name(name)[0], timeout=30)  # or say why it is not there
        raise RunFolderError(f"dataset {name!r} has no {MANIFEST_FILE}; wdistill did not make it")
    return read_published(found.folder)


def read_published(folder: Path) -> PublishedSet:
    """The set in a set's folder. Raises RunFolderError if its files are damaged or disagree."""
    manifest, distilled = read_manifest(folder), read_distilled(folder)
    count, classes = distilled.soft_labels.shape
    side = distilled.images.shape[1]
    views = read_label_views(folder, count, classes, side)
    told = (manifest["images"], manifest["resolution"], tuple(manifest["classes"]))
    if told != (count, side, distilled.class_names) or side != distilled.images.shape[2]:
        raise RunFolderError(f"'{folder}': its images and its {MANIFEST_FILE} disagree")
    if (views is None) != (manifest["labels"]["stored"] is None):
        raise RunFolderError(f"'{folder}': its label views and its {MANIFEST_FILE} disagree")
    return PublishedSet(folder, distilled, views, manifest, read_results(folder))


def remote(name: str, what: str, option: str | None = None) -> str:
    """``name``, which may only mean something on the Hub; a local folder would win over it.

    what: the role of ``name``; option: that with which the user says what is meant. Raises
    RunFolderError if it is no id of the Hub, or also the name of a folder here.
    """
    try:
        check_id(name)
    except HubError as error:
        raise RunFolderError(f"the {what} of {MANIFEST_FILE}: {error}") from error
    if Path(name).exists():
        advice = f", or say what you mean with {option}" if option else ""
        raise RunFolderError(
            f"the {what} {name!r} is on the Hub, but there is a folder of that name here; "
            f"run from another folder{advice}"
        )
    return name


def check_data(data: ImageData, recorded: dict[str, Any], advice: str = "") -> None:
    """Raises DataError, ending in ``advice``, unless ``data`` are those that the set with the
    source ``recorded`` was made from.
    """
    now, was = data.source.fingerprint, recorded["fingerprint"]
    if was and not data.is_of(was):
        raise DataError(
            f"{data.source.id!r} is not the data that this set was made from: its fingerprint is "
            f"{now[:16]} and was {was[:16]}; it has {len(data.train)} training images and had "
            f"{recorded['train_images']}{advice}"
        )


def check_id(repo_id: str) -> None:
    """Raises `HubError` unless ``repo_id`` is 'name' or 'user/name'."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        raise HubError(
            f"{repo_id!r} is not a repository id; give 'name' or 'user/name' "
            "of letters, digits, '-', '_' and '.', up to 96 characters"
        ) from None
