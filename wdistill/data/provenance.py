"""Where data comes from, as the manifest and the card tell it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard

from wdistill.data.streaming import Stream


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
    stream: Stream | None = None  # what ``read`` is, if the dataset is not stored


def local_card(path: Path) -> dict[str, Any]:
    readme = path / "README.md"
    if not readme.is_file():
        return {}
    try:
        card = DatasetCard.load(readme, ignore_metadata_errors=True).data
    except Exception:  # a README that is no dataset card says nothing about the licence
        return {}
    return card_fields(card)


def card_fields(card: Any) -> dict[str, Any]:
    """Licence and name from a dataset card's metadata, where they are there."""
    if card is None:
        return {}
    found = {
        name: card.get(name) for name in ("license", "license_name", "license_link", "pretty_name")
    }
    return {
        name: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in found.items()
        if value
    }
