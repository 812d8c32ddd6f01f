"""A published set as a whole, from a folder or from the Hub; the one place that finds its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from wdistill.artifact import DistilledSet, read_distilled, read_manifest, read_results
from wdistill.config import DataConfig
from wdistill.errors import RunFolderError
from wdistill.label_files import read_label_views
from wdistill.label_views import LabelViews
from wdistill.published import MANIFEST_FILE, publish_folder
from wdistill.source_errors import Explained

FILES = (MANIFEST_FILE, "results.json", "data/*.parquet", "soft_labels/*.parquet")


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
    ``revision`` is a branch, tag or commit. A folder wins over an id of the same name.

    Raises DataError if the Hub has no such dataset, RunFolderError if it is none of wdistill's.
    """
    return read_published(located(source, revision))


def located(source: str | Path, revision: str | None = None) -> Path:
    """The folder with the files of ``source``, see :func:`open_published`."""
    path, name = Path(source).expanduser(), str(source)
    if path.exists():
        return publish_folder(path)
    if isinstance(source, Path) or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise RunFolderError(f"{name!r} does not exist; give a run, its publish folder or a Hub id")
    with Explained(DataConfig(dataset=name, revision=revision)):
        found = snapshot_download(
            name, repo_type="dataset", revision=revision, allow_patterns=list(FILES)
        )
    if not (Path(found) / MANIFEST_FILE).exists():
        raise RunFolderError(f"dataset {name!r} has no {MANIFEST_FILE}; wdistill did not make it")
    return Path(found)


def read_published(folder: Path) -> PublishedSet:
    """The set in a published folder. Raises RunFolderError if its files are damaged or disagree."""
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
