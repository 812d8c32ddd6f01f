"""A set that this tool has published on the Hub, fetched to be read as a published folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import DatasetCard, HfApi, constants, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from wdistill.artifact.layout import MANIFEST_FILE, SET_NAME, set_folders
from wdistill.config import DataConfig
from wdistill.data.source_errors import Explained, is_network
from wdistill.errors import DataError, HubError

INDEX = ("README.md", f"ipc*/{MANIFEST_FILE}")
IN_A_SET = ("data/train-*.parquet", "soft_labels/train-*.parquet", "results.json")


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
        names = [file.rfilename.split("/") for file in info.siblings or ()]
        if not any(SET_NAME.fullmatch(path[0]) and path[1:] == [MANIFEST_FILE] for path in names):
            return None
        # Not by the commit's hash: only a branch can be found again without the Hub.
        folder = _chosen(info.id, _snapshot(info.id, revision, INDEX), chosen)
        _snapshot(info.id, revision, [f"{folder.name}/{pattern}" for pattern in IN_A_SET])
    return _hub_set(info.id, folder)


def split_name(name: str) -> tuple[str, str | None]:
    """``you/set/ipc10`` as the id of a dataset and the name of a set in it."""
    repo, _, last = name.rpartition("/")
    return (repo, last) if repo.count("/") == 1 and SET_NAME.fullmatch(last) else (name, None)


def _fetched_before(name: str, revision: str | None, chosen: str | None) -> HubSet | None:
    try:
        root = _snapshot(name, revision, INDEX, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    return _hub_set(name, _chosen(name, root, chosen)) if set_folders(root) else None


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


def _chosen(name: str, root: Path, chosen: str | None) -> Path:
    """The folder of the set that is meant."""
    sets = {folder.name: folder for folder in set_folders(root)}
    card = root / "README.md"
    default = default_config(card.read_text(errors="replace")) if card.is_file() else None
    folder = sets.get(chosen or default or "", list(sets.values())[-1])
    if chosen is not None and folder.name != chosen:
        raise DataError(f"dataset {name!r} has no set {chosen!r}; it has {', '.join(sets)}")
    return folder


def _hub_set(name: str, folder: Path) -> HubSet:
    root = folder.parent
    return HubSet(name, f"{constants.ENDPOINT}/datasets/{name}", root.name, folder)


def default_config(card: str) -> str | None:
    """The configuration that ``card`` has loaded without a name, if it says so."""
    entries = listed(split_card(card)[1].get("configs"))
    named = [entry for entry in entries if isinstance(entry, dict) and entry.get("default")]
    return str(entry_name(named[0])) if named else None


def split_card(card: str) -> tuple[str, dict[str, Any], str]:
    """The YAML block with its fences, what it says, and the text below it."""
    try:
        parsed = DatasetCard(card)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise HubError(f"README.md has a damaged YAML block ({reason}); repair it there") from None
    text = str(parsed.text)
    return card[: len(card) - len(text)], dict(parsed.data.to_dict()), text


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def entry_name(entry: dict[str, Any]) -> Any:
    return entry.get("config_name", "default")
