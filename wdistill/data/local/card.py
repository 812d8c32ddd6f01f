"""What the README of a dataset says of it: licence, files, names of classes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import datasets
import yaml
from huggingface_hub import DatasetCard


def local_card(path: Path) -> dict[str, Any]:
    """Licence and name from the card in a folder."""
    return card_fields(_card(path / "README.md"))


def says_how(path: Path) -> bool:
    """Whether the card of a folder says which files are which split, or what columns mean."""
    card = _card(path / "README.md")
    return card is not None and bool(card.get("configs") or card.get("dataset_info"))


def _card(readme: Path) -> Any:
    if not readme.is_file():
        return None
    try:
        return DatasetCard.load(readme, ignore_metadata_errors=True).data
    except Exception:  # a README that is no dataset card says nothing
        return None


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


def has_untyped_names(features: Any) -> bool:
    """Whether YAML made something else of class names than text: False of no, 7 of 007."""
    labels = [kind for kind in features.values() if isinstance(kind, datasets.ClassLabel)]
    return any(not isinstance(name, str) for kind in labels for name in kind.names or ())


def with_text_names(rows: Any, readme: Path | None) -> Any:
    """A ``datasets.Dataset`` whose class names are what the card says, letter by letter."""
    features = datasets.Features(rows.features)
    for column, kind in rows.features.items():
        if isinstance(kind, datasets.ClassLabel) and has_untyped_names({column: kind}):
            written = _written(readme, column, len(kind.names)) or tuple(map(str, kind.names))
            features[column] = datasets.ClassLabel(names=list(written))
    return datasets.Dataset(rows.data, info=datasets.DatasetInfo(features=features))


def _written(readme: Path | None, column: str, count: int) -> tuple[str, ...] | None:
    """The names of a label column as they stand in the card; None where they do not."""
    if readme is None or not readme.is_file():
        return None
    block = re.match(r"\s*---\s*\n(.*?)\n---", readme.read_text(encoding="utf-8"), re.DOTALL)
    try:
        card = yaml.load(block[1], yaml.BaseLoader) if block else {}  # noqa: S506 (text only)
    except yaml.YAMLError:
        return None
    infos = card.get("dataset_info") or []
    for info in infos if isinstance(infos, list) else [infos]:
        for feature in info.get("features") or []:
            kind = feature.get("dtype")
            if feature.get("name") == column and isinstance(kind, dict) and "class_label" in kind:
                names = kind["class_label"].get("names") or []
                if isinstance(names, dict):
                    names = [names[key] for key in sorted(names, key=int)]
                if len(names) == count:
                    return tuple(names)
    return None
