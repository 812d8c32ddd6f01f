"""Where the files of published sets are, repository ids, and the configurations on a card.

A push needs only this of the room, so nothing heavy is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import DatasetCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from huggingface_hub.utils import validate_repo_id

from wdistill.config import Aim, Allocation
from wdistill.errors import HubError, RunFolderError

PUBLISH = "publish"  # the publishable folder in a run folder
MANIFEST_FILE = "wdistill.json"
CURVE_FILE = "accuracy.png"  # the plot of a report: accuracy by bits per class
# Folder and configuration of a set: ipc10, ipc10-w2, ipc10-37500B, ipc10-w2-37500B-convnet.
SET_NAME = re.compile(r"ipc(\d{1,4})(-w2)?(-\d{1,18}B)?(-convnet)?")
SHARD_NAME = re.compile(r"train-(\d{5})-of-(\d{5})\.parquet")
LABELS_SUFFIX = "_soft_labels"  # of the configuration of its label views


def set_name(
    ipc: int, allocation: Allocation = "uniform", budget: int | None = None, aim: Aim = "any"
) -> str:
    """The name of a set: its images per class, how they are shared out if not equally, the bytes
    that it was to fit into, and for whom it is made if not for any student. Sets that differ in
    these can be in one repository.
    """
    shared = "" if allocation == "uniform" else f"-{allocation}"
    fits = "" if budget is None else f"-{budget}B"
    return f"ipc{ipc}{shared}{fits}" + ("" if aim == "any" else f"-{aim}")


def set_order(name: str) -> tuple[int, bool, str]:
    """Sorts names of sets: by images per class, and of equal numbers the plain name last."""
    match = SET_NAME.fullmatch(name)
    ipc, *details = match.groups() if match else ("0", name)
    return int(ipc), not any(details), name


def publish_folder(path: Path, required: Sequence[str] = (f"ipc*/{MANIFEST_FILE}",)) -> Path:
    """The publishable folder of ``path``: its subfolder ``publish`` if there is one, else itself.

    Raises:
        RunFolderError: no file matches one of the patterns ``required``.
    """
    root = path / PUBLISH if (path / PUBLISH).is_dir() else path
    for pattern in required:
        if not any(root.glob(pattern)):
            raise RunFolderError(
                f"{str(path)!r} has no {pattern}; give the output folder of a finished "
                "`wdistill run`, or its publish folder"
            )
    return root


def set_folders(root: Path) -> list[Path]:
    """The sets in a publishable folder, the smallest first."""
    folders = [path.parent for path in root.glob(f"ipc*/{MANIFEST_FILE}")]
    sets = [path for path in folders if SET_NAME.fullmatch(path.name)]
    return sorted(sets, key=lambda path: set_order(path.name))


def one_set(path: Path) -> Path:
    """The folder of the only set in ``path``, which may itself be the folder of a set.

    Raises:
        RunFolderError: there is no set, or there are several.
    """
    if (path / MANIFEST_FILE).is_file():
        return path
    sets = set_folders(publish_folder(path))
    if len(sets) != 1:
        names = " or ".join(str(folder) for folder in sets)
        raise RunFolderError(f"{str(path)!r} holds {len(sets)} sets; give one of them: {names}")
    return sets[0]


def inside(folder: Path, path: Path) -> Path:
    """Refuse links that lead out of the folder, other than those of a Hub cache snapshot."""
    real, home = path.resolve(), folder.resolve()
    above = [parent for parent in list(home.parents)[:2] if parent.name == "snapshots"]
    homes = [home, *(parent.parent / "blobs" for parent in above)]
    if not any(real.is_relative_to(allowed) for allowed in homes):
        raise RunFolderError(f"'{path}' is a link that leads out of its folder; copy the file")
    return path


def shard_files(folder: Path, name: str) -> list[Path]:
    """The parquet files in the subfolder ``name``, complete or not."""
    paths = folder.glob(f"{name}/train-*.parquet")
    return sorted(path for path in paths if SHARD_NAME.fullmatch(path.name))


def whole_shards(folder: Path, name: str) -> list[Path]:
    """All files ``train-*-of-K.parquet`` in the subfolder ``name``, in order.

    Raises:
        RunFolderError: one of them is missing, or is a link that leads out of ``folder``.
    """
    paths = [inside(folder, path) for path in shard_files(folder, name)]
    if [path.name for path in paths] != shard_names(len(paths)):
        raise lacking(folder, name)
    return paths


def shard_names(count: int) -> list[str]:
    return [f"train-{index:05d}-of-{count:05d}.parquet" for index in range(count)]


def lacking(folder: Path, name: str) -> RunFolderError:
    return RunFolderError(f"'{folder / name}' lacks train-*.parquet files; write it again")


def check_id(repo_id: str) -> None:
    """Raise HubError unless ``repo_id`` is 'name' or 'user/name' as the Hub allows it."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        twice = [pair for pair in ("--", "..") if pair in repo_id]
        reason = f", for the Hub allows no {twice[0]!r} in one" if twice else ""
        raise HubError(
            f"{repo_id!r} is not a repository id{reason}; give 'name' or 'user/name' "
            "of letters, digits, '-', '_' and '.', up to 96 characters"
        ) from None


def default_config(card: str) -> str | None:
    """The configuration that ``card`` marks as its default; None if it marks none."""
    entries = listed(split_card(card)[1].get("configs"))
    defaults = [entry for entry in entries if isinstance(entry, dict) and entry.get("default")]
    return str(entry_name(defaults[0])) if defaults else None


def split_card(card: str) -> tuple[str, dict[str, Any], str]:
    """Split a card into its YAML block with fences, the content of the block, and the text below.

    Raises:
        HubError: the YAML block cannot be read.
    """
    if not REGEX_YAML_BLOCK.match(card):  # of which the client would warn
        return "", {}, card
    try:
        parsed = DatasetCard(card)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise damaged_header(error) from None
    text = str(parsed.text)
    return card[: len(card) - len(text)], dict(parsed.data.to_dict()), text


def damaged_header(error: Exception) -> HubError:
    """The error for a card whose YAML block cannot be read, because of ``error``."""
    reason = " ".join(str(error).replace(' in "<unicode string>"', "").split())
    return HubError(f"README.md has a damaged YAML block ({reason}); repair it there")


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def entry_name(entry: dict[str, Any]) -> Any:
    return entry.get("config_name", "default")
