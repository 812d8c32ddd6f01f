"""Datasets of the Hub that `datasets` has prepared before, for work without a network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from datasets.naming import camelcase_to_snakecase
from huggingface_hub import constants, try_to_load_from_cache

from wdistill.config import DataConfig
from wdistill.data.provenance import Opened, Source, local_card


@dataclass(frozen=True)
class _Copy:
    """One folder of Arrow files: ``<owner>___<name>/<config>/<version>/<revision>``."""

    folder: Path
    config_name: str
    splits: tuple[str, ...]
    age: float

    @property
    def revision(self) -> str:
        return self.folder.name

    @property
    def owner(self) -> str:
        return self.folder.parents[2].name.rpartition("___")[0]


def prepared_before(name: str, config: DataConfig) -> Opened | None:
    """The newest copy of the wanted config and revision, its splits possibly in several folders.

    `datasets` itself finds only copies of all splits, and none by a legacy name without owner.
    """
    copies = [
        copy
        for copy in _copies(name)
        if config.config_name in (None, copy.config_name)
        and config.revision in (None, copy.revision)
    ]
    if len({copy.owner for copy in copies}) != 1:  # none, or a short name that several may mean
        return None
    newest = max(copies, key=lambda copy: copy.age)
    folders = {
        split: copy.folder
        for copy in copies
        if (copy.owner, copy.config_name, copy.revision)
        == (newest.owner, newest.config_name, newest.revision)
        for split in copy.splits
    }
    short = name.rpartition("/")[2]
    full = name if "/" in name or not newest.owner else f"{newest.owner}/{short}"
    source = Source(
        id=full,
        kind="hub",
        config_name=None if newest.config_name == "default" else newest.config_name,
        revision=newest.revision,
        gated="unknown",
        url=f"{constants.ENDPOINT}/datasets/{full}",
        **_cached_card(full, newest.revision),
    )
    note = f"The Hub is out of reach: using the copy of {full!r} prepared before."
    return Opened(source, tuple(folders), lambda split: _read(folders[split], split), (note,))


def _copies(name: str) -> Iterator[_Copy]:
    owner, _, short = name.rpartition("/")
    short = camelcase_to_snakecase(short)
    root = Path(datasets.config.HF_DATASETS_CACHE)
    for folder in [f"{owner}___{short}"] if owner else [f"*___{short}", short]:
        for file in root.glob(f"{folder}/*/*/*/dataset_info.json"):
            if not re.fullmatch("[0-9a-f]{40}", file.parent.name):
                continue  # a local dataset: those are named by a shorter hash
            try:
                info = json.loads(file.read_text(encoding="utf-8"))
                splits = tuple(info["splits"])
            except (ValueError, KeyError, TypeError):
                continue
            yield _Copy(file.parent, str(info.get("config_name")), splits, file.stat().st_mtime)


def _cached_card(full: str, revision: str) -> dict[str, Any]:
    readme = try_to_load_from_cache(full, "README.md", revision=revision, repo_type="dataset")
    return local_card(Path(readme).parent) if isinstance(readme, str) else {}


def _read(folder: Path, split: str) -> Any:
    shards = [*folder.glob(f"*-{split}.arrow"), *folder.glob(f"*-{split}-*-of-*.arrow")]
    parts = [datasets.Dataset.from_file(str(shard)) for shard in sorted(shards)]
    return datasets.concatenate_datasets(parts)
