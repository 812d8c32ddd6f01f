"""A set that this tool has published on the Hub, fetched to be read as a published folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from wdistill.card_merge import default_config
from wdistill.config import DataConfig
from wdistill.errors import DataError
from wdistill.published import MANIFEST_FILE, SET_NAME, set_folders
from wdistill.source_errors import Explained, is_network

IN_A_SET = ("data/train-*.parquet", "soft_labels/train-*.parquet", MANIFEST_FILE, "results.json")
FILES = ("README.md", *(f"ipc*/{pattern}" for pattern in IN_A_SET))


@dataclass(frozen=True)
class HubSet:
    """id, url: of the dataset; revision: the commit of which ``folder`` holds one set."""

    id: str
    url: str
    revision: str
    folder: Path


def fetch_set(name: str, revision: str | None = None) -> HubSet | None:
    """The dataset ``name`` as it is on the Hub now, or was when it could last be reached; None if
    there is one, but not of this tool, or if that cannot be told. Of several sets the one that
    `load_dataset` takes without a name, or that of ``name``/ipcN.

    Raises DataError if there is no such dataset or set, or no access to it.
    """
    name, chosen = split_name(name)
    with Explained(DataConfig(dataset=name, revision=revision)):
        try:
            info = HfApi().dataset_info(name, revision=revision, timeout=30)
        except Exception as error:
            if not is_network(error):
                raise
            return _fetched_before(name, revision, chosen)
        names = [PurePosixPath(file.rfilename) for file in info.siblings or ()]
        if not any(path.name == MANIFEST_FILE and len(path.parts) == 2 for path in names):
            return None
        # Not by the commit's hash: only a branch can be found again without the Hub.
        folder = _snapshot(info.id, revision, False)
    return _hub_set(info.id, folder, chosen)


def split_name(name: str) -> tuple[str, str | None]:
    """``you/set/ipc10`` as the id of a dataset and the name of a set in it."""
    repo, _, last = name.rpartition("/")
    return (repo, last) if repo.count("/") == 1 and SET_NAME.fullmatch(last) else (name, None)


def _fetched_before(name: str, revision: str | None, chosen: str | None) -> HubSet | None:
    try:
        folder = _snapshot(name, revision, True)
    except LocalEntryNotFoundError:
        return None
    return _hub_set(name, folder, chosen) if set_folders(folder) else None


def _snapshot(name: str, revision: str | None, local_files_only: bool) -> Path:
    return Path(
        snapshot_download(
            name,
            repo_type="dataset",
            revision=revision,
            allow_patterns=list(FILES),
            local_files_only=local_files_only,
        )
    )


def _hub_set(name: str, root: Path, chosen: str | None) -> HubSet:
    sets = {folder.name: folder for folder in set_folders(root)}
    card = root / "README.md"
    default = default_config(card.read_text(errors="replace")) if card.is_file() else None
    folder = sets.get(chosen or default or "", list(sets.values())[-1])
    if chosen is not None and folder.name != chosen:
        raise DataError(f"dataset {name!r} has no set {chosen!r}; it has {', '.join(sets)}")
    return HubSet(name, f"{constants.ENDPOINT}/datasets/{name}", root.name, folder)
