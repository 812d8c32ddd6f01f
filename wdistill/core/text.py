"""Sizes, names and addresses as text that is safe to print and to publish."""

from __future__ import annotations

import html
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any


class Shown:
    """Base class of objects that a notebook displays as preformatted text."""

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def human_bytes(size: int) -> str:
    """E.g. ``21.4 kB``, in powers of 1000."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def human_seconds(seconds: float) -> str:
    """E.g. ``42 s``, ``3 min 20 s``, ``5 h 10 min``."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


_ADDRESS = re.compile(
    r"(?:https?://[^/]+/|hf://)?(?:(?:datasets|models)/)?(?P<id>[\w.-]+/[\w.-]+)"
    r"(?:@(?P<at>[^/]+)|/(?:tree|blob|resolve)/(?P<tree>[^/]+)(?:/.*)?)?/?"
)


def hub_id_in(address: str) -> str | None:
    """What to give in place of a web or ``hf://`` address, or ID@REVISION; None for other text."""
    found = _ADDRESS.fullmatch(address)
    if found is None or found["id"] == address:
        return None
    revision = found["at"] or found["tree"]
    return f"the id {found['id']!r}" + (f" and the revision {revision!r}" if revision else "")


def without_folders(value: Any) -> Any:
    """``value`` with every local path reduced to its last component, safe to publish."""
    if isinstance(value, dict):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(without_folders(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = {part.name: getattr(value, part.name) for part in fields(value)}
        return replace(value, **without_folders(parts))
    return _without_folder(value) if isinstance(value, str) else value


def _without_folder(value: str) -> str:
    option, equals, argument = value.partition("=")
    if value.startswith("--") and equals:
        return f"{option}={_without_folder(argument)}"
    # A Hub id has at most one slash; a longer path, a pattern or a file is this machine's.
    local = value.startswith(("/", "~", ".")) or value.count("/") > 1 or os.path.exists(value)
    if local or "*" in value or value.endswith(".parquet"):
        return Path(value).name or value
    return value


def displayed(names: Iterable[str]) -> dict[str, str]:
    """Published form of each name, without local folders; duplicates are numbered."""
    published: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for name in dict.fromkeys(names):
        short = str(without_folders(name))
        counts[short] += 1
        published[name] = short if counts[short] == 1 else f"{short} ({counts[short]})"
    return published


NO_BREAK = "\u00a0"


def clean(value: Any) -> str:
    """One line without control characters, such as right-to-left overrides."""
    printable = (c if c.isprintable() or c == NO_BREAK else " " for c in str(value))
    return " ".join(word for word in "".join(printable).split(" ") if word)


_LINK = re.compile(r"https?://[\w.-]+(:\d+)?(/[\w./%#?=&~+-]*)?", re.ASCII)


def is_url(text: str) -> bool:
    return bool(_LINK.fullmatch(text))


def folded(name: str) -> str:
    """The same for names that differ only in case, in spaces around or in their Unicode form."""
    return unicodedata.normalize("NFC", name.strip().casefold())
