"""A dataset whose splits are known but not yet read, and how `datasets` reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets

from wdistill.config import DataConfig
from wdistill.data.hub.streaming import Stream
from wdistill.data.local.card import has_untyped_names, with_text_names
from wdistill.data.source_errors import Explained


@dataclass(frozen=True)
class Source:
    """Provenance of the data, as the manifest keeps it."""

    id: str
    kind: str  # embedded, hub, imagefolder, parquet, saved
    config_name: str | None = None
    revision: str | None = None  # commit on the Hub
    fingerprint: str = ""  # SHA-256 over content, or of a stream the commit, see data.py
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    gated: bool | str = False  # or "private" (repository), or "unknown" (read offline)
    pretty_name: str | None = None
    url: str | None = None


@dataclass(frozen=True)
class Opened:
    """A dataset whose splits are known but not yet read."""

    source: Source
    names: tuple[str, ...]
    read: Callable[[str], Any]  # split name -> datasets.Dataset
    notes: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)  # rows of splits, where they are known
    stream: Stream | None = None  # what ``read`` is, if the dataset is not stored


def named(read: Callable[[str], Any], readme: Callable[[], Path | None]) -> Callable[[str], Any]:
    """The same with class names that are text, also those that YAML took for something else."""

    def named(split: str) -> Any:
        rows = read(split)
        return with_text_names(rows, readme()) if has_untyped_names(rows.features) else rows

    return named


def data_files(builder: Any, root: str) -> set[str]:
    """Files of all splits, from below ``root``."""
    files = (builder.config.data_files or {}).values()
    return {str(file).partition(root)[2] for group in files for file in group}


def unnamed(listed: Iterable[str], used: set[str]) -> tuple[str, ...]:
    """A line about files of the kinds of those that are used, which are in no split: `datasets`
    goes by words in names, and takes only those that have one where others do.
    """
    kinds = {Path(name).suffix for name in used}
    rest = sorted(name for name in listed if Path(name).suffix in kinds and name not in used)
    rest = [name for name in rest if not any(part.startswith(".") for part in Path(name).parts)]
    if not rest:
        return ()
    return (f"Left out {len(rest):,} files whose names say no split, such as {rest[0]!r}.",)


def known_sizes(builder: Any) -> dict[str, int]:
    """Rows of each split, where the card or a prepared copy says so."""
    return {str(name): split.num_examples for name, split in (builder.info.splits or {}).items()}


def split_names(builder: Any) -> tuple[str, ...]:
    return tuple(map(str, builder.config.data_files or builder.info.splits or ()))


def prepared(
    builder: Any, config: DataConfig, hub_id: str | None = None, revision: str | None = None
) -> Callable[[str], Any]:
    """A reader of one split that downloads no other split where that can be told apart."""
    several = hub_id and builder.name == "parquet" and len(split_names(builder)) > 2
    apart = several and not _is_prepared(builder)

    def read(split: str) -> Any:
        with Explained(config, revision):
            if apart:
                chosen = {split: list(builder.config.data_files[split])}
                return datasets.load_dataset(
                    hub_id,
                    name=config.config_name,
                    revision=revision,
                    data_files=chosen,
                    features=builder.info.features,
                    split=split,
                )
            builder.download_and_prepare()
            return builder.as_dataset(split=split)

    return read


def _is_prepared(builder: Any) -> bool:
    try:
        datasets.DatasetInfo.from_directory(builder.cache_dir)
    except FileNotFoundError:
        return False
    return True
