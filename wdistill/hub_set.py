"""A set that this tool has published on the Hub, fetched to be read as a published folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from wdistill.config import DataConfig
from wdistill.published import MANIFEST_FILE
from wdistill.source_errors import Explained, is_network

FILES = ("data/train-*.parquet", MANIFEST_FILE, "results.json")


@dataclass(frozen=True)
class HubSet:
    """id, url: of the dataset; revision: the commit whose files are in ``folder``."""

    id: str
    url: str
    revision: str
    folder: Path


def fetch_set(name: str) -> HubSet | None:
    """The dataset ``name`` as it is on the Hub now, or was when it could last be reached; None if
    there is one, but not of this tool, or if that cannot be told.

    Raises DataError if there is no such dataset, or no access to it.
    """
    with Explained(DataConfig(dataset=name)):
        try:
            info = HfApi().dataset_info(name, timeout=30)
        except Exception as error:
            if not is_network(error):
                raise
            return _fetched_before(name)
        if all(file.rfilename != MANIFEST_FILE for file in info.siblings or ()):
            return None
        # Not by the commit's hash: only a branch can be found again without the Hub.
        folder = _snapshot(info.id, False)
    return _hub_set(info.id, folder)


def _fetched_before(name: str) -> HubSet | None:
    try:
        folder = _snapshot(name, True)
    except LocalEntryNotFoundError:
        return None
    return _hub_set(name, folder) if (folder / MANIFEST_FILE).is_file() else None


def _snapshot(name: str, local_files_only: bool) -> Path:
    return Path(
        snapshot_download(
            name,
            repo_type="dataset",
            allow_patterns=list(FILES),
            local_files_only=local_files_only,
        )
    )


def _hub_set(name: str, folder: Path) -> HubSet:
    return HubSet(name, f"{constants.ENDPOINT}/datasets/{name}", folder.name, folder)
