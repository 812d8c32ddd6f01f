"""Read a complete published set from a folder or from the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from wdistill.artifact.distilled_set import DistilledSet, read_distilled, read_report
from wdistill.artifact.layout import (
    MANIFEST_FILE,
    SET_NAME,
    check_id,
    default_config,
    one_set,
    set_folders,
)
from wdistill.artifact.manifest import Manifest, check_bytes, read_manifest
from wdistill.artifact.parquet import read_label_views
from wdistill.artifact.records import SourceRecord
from wdistill.artifact.report import Report
from wdistill.config import DataConfig
from wdistill.data.dataset import ImageData
from wdistill.data.source_errors import Explained, is_network
from wdistill.data.sources import is_only_local
from wdistill.errors import DataError, HubError, RunFolderError
from wdistill.labels.views import LabelViews

INDEX = ("README.md", f"ipc*/{MANIFEST_FILE}")
IN_A_SET = ("data/train-*.parquet", "soft_labels/train-*.parquet", "report.json")


@dataclass(frozen=True, eq=False)
class PublishedSet:
    """A set with its label views, manifest and report.

    folder: on this machine; report: None if the set was not evaluated.
    """

    folder: Path
    distilled: DistilledSet
    views: LabelViews | None
    manifest: Manifest
    report: Report | None


def open_published(source: str | Path, revision: str | None = None) -> PublishedSet:
    """Open a published set.

    Args:
        source: A run folder, a published folder, the folder of one set, or an id on the Hub, which
            may end in the name of a set, as ``/ipc10``. A folder takes precedence over an id. An id
            without it means the set that `load_dataset` loads without a name.
        revision: Branch, tag or commit on the Hub.

    Raises:
        DataError: the Hub has no such dataset.
        RunFolderError: wdistill did not write the dataset.
    """
    path, name = Path(source).expanduser(), str(source)
    if path.exists():
        return read_published(one_set(path))
    if isinstance(source, Path) or is_only_local(split_name(name)[0]):
        raise RunFolderError(f"{name!r} does not exist; give a run, its publish folder or a Hub id")
    on_hub = fetch_set(name, revision)
    if on_hub is None:
        with Explained(DataConfig(dataset=name)):
            HfApi().dataset_info(split_name(name)[0], timeout=30)  # or say why it is not there
        raise RunFolderError(f"dataset {name!r} has no {MANIFEST_FILE}; wdistill did not make it")
    return read_published(on_hub.folder)


def read_published(folder: Path) -> PublishedSet:
    """Read the set in ``folder``.

    Raises:
        RunFolderError: a file is damaged, or files contradict each other.
    """
    manifest = read_manifest(folder)
    check_bytes(folder, manifest.bytes)
    distilled = read_distilled(folder)
    count, classes = distilled.soft_labels.shape
    side = distilled.images.shape[1]
    views = read_label_views(folder, count, classes, side)
    recorded = (manifest.images, manifest.resolution, manifest.classes)
    if recorded != (count, side, distilled.class_names) or side != distilled.images.shape[2]:
        raise RunFolderError(f"'{folder}': its images and its {MANIFEST_FILE} disagree")
    counts = np.bincount(distilled.labels, minlength=classes)
    if (counts != manifest.per_class).any():
        label = int((counts != manifest.per_class).argmax())
        raise RunFolderError(
            f"'{folder}': class {manifest.classes[label]!r} has {counts[label]} images and not "
            f"{manifest.per_class[label]}, as its {MANIFEST_FILE} says"
        )
    described = manifest.label_views
    expected = described and (described.views, described.views * count, described.topk)
    actual = views and (views.count, len(views), views.logits.shape[1])
    if actual != expected:
        raise RunFolderError(f"'{folder}': its label views and its {MANIFEST_FILE} disagree")
    return PublishedSet(folder, distilled, views, manifest, read_report(folder))


@dataclass(frozen=True)
class HubSet:
    """id, url: of the dataset; revision: the commit of which ``folder`` holds one set."""

    id: str
    url: str
    revision: str
    folder: Path


def fetch_set(name: str, revision: str | None = None) -> HubSet | None:
    """Download a set from the Hub, or find an earlier download if the Hub cannot be reached.

    Args:
        name: Id of the dataset, which may end in the name of a set, as ``/ipc10``; without it, the
            set that `load_dataset` loads without a name.
        revision: Branch, tag or commit.

    Returns:
        The set; None if wdistill did not write the dataset, or if that cannot be known offline.

    Raises:
        DataError: there is no such dataset or set, or no access to it.
    """
    name, set_name = split_name(name)
    with Explained(DataConfig(dataset=name, revision=revision)):
        try:
            info = HfApi().dataset_info(name, revision=revision, timeout=30)
        except Exception as error:
            if not is_network(error):
                raise
            return _fetched_before(name, revision, set_name)
        names = [file.rfilename.split("/") for file in info.siblings or ()]
        if not any(SET_NAME.fullmatch(path[0]) and path[1:] == [MANIFEST_FILE] for path in names):
            return None
        # Not by the commit's hash: only a branch can be found again without the Hub.
        folder = _folder_of(info.id, _snapshot(info.id, revision, INDEX), set_name)
        _snapshot(info.id, revision, [f"{folder.name}/{pattern}" for pattern in IN_A_SET])
    return _hub_set(info.id, folder)


def split_name(name: str) -> tuple[str, str | None]:
    """Split ``you/set/ipc10`` into the id of a dataset and the name of a set in it."""
    repo, _, last = name.rpartition("/")
    return (repo, last) if repo.count("/") == 1 and SET_NAME.fullmatch(last) else (name, None)


def _fetched_before(name: str, revision: str | None, set_name: str | None) -> HubSet | None:
    try:
        root = _snapshot(name, revision, INDEX, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    return _hub_set(name, _folder_of(name, root, set_name)) if set_folders(root) else None


def _snapshot(
    name: str, revision: str | None, patterns: Sequence[str], local_files_only: bool = False
) -> Path:
    return Path(
        snapshot_download(
            name,
            repo_type="dataset",
            revision=revision,
            allow_patterns=list(patterns),
            local_files_only=local_files_only,
        )
    )


def _folder_of(name: str, root: Path, set_name: str | None) -> Path:
    """The folder of the set ``set_name``, else of the card's default, else of the largest set."""
    sets = {folder.name: folder for folder in set_folders(root)}
    card = root / "README.md"
    default = default_config(card.read_text(errors="replace")) if card.is_file() else None
    folder = sets.get(set_name or default or "", list(sets.values())[-1])
    if set_name is not None and folder.name != set_name:
        raise DataError(f"dataset {name!r} has no set {set_name!r}; it has {', '.join(sets)}")
    return folder


def _hub_set(name: str, folder: Path) -> HubSet:
    root = folder.parent
    return HubSet(name, f"{constants.ENDPOINT}/datasets/{name}", root.name, folder)


def remote(name: str, what: str, setting: str | None = None) -> str:
    """Check that ``name`` can only mean a repository on the Hub, and return it.

    Args:
        name: An id that a manifest records.
        what: The role of ``name``, for the error.
        setting: The setting that replaces ``name``, for the error.

    Raises:
        RunFolderError: ``name`` is not an id, or there is a local folder of that name.
    """
    try:
        check_id(name)
    except HubError as error:
        raise RunFolderError(f"the {what} of {MANIFEST_FILE}: {error}") from error
    if Path(name).exists():
        advice = f", or say what you mean with `{setting}`" if setting else ""
        raise RunFolderError(
            f"the {what} {name!r} is on the Hub, but there is a folder of that name here; "
            f"run from another folder{advice}"
        )
    return name


def check_data(data: ImageData, recorded: SourceRecord, advice: str = "") -> None:
    """Raise DataError, ending in ``advice``, unless ``data`` is the ``recorded`` source."""
    now, was = data.source.fingerprint, recorded.fingerprint
    if was and not data.is_of(was):
        raise DataError(
            f"{data.source.id!r} is not the data that this set was made from: its fingerprint is "
            f"{now[:16]} and was {was[:16]}; it has {data.stored[0]} training images and had "
            f"{recorded.train_images + recorded.shared}{advice}"
        )
