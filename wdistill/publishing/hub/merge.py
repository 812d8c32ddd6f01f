"""A generated card and the one that is on the Hub, made one: nothing written by hand is lost.

What this package generates stands between two HTML comments, which pages do not show:

- Between them each push writes anew; text above and below belongs to people and stays.
- A card without them that was there before the first push stays, and ours goes below it.
- A card from which somebody took them (or one of them) out has become that person's own: all its
  text stays, and only the YAML block is brought up to date, because loading depends on it.

In the YAML block our keys win, keys that we do not write stay, and lists that people extend are
united: tags, task categories, and the configurations by name.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from wdistill.artifact.layout import entry_name, listed, split_card

BEGIN = "<!-- wdistill:begin. Each push writes this part anew; text above and below it stays. -->"
END = "<!-- wdistill:end -->"
_MARKERS = re.compile(r"<!-- wdistill:(begin|end)\b[^>]*-->")
# Of an earlier push: ours name those of every set that is there now.
_OWN_TAG = re.compile(r"ipc-\d+")
_OWN_CONFIG = re.compile(r"ipc\d+(_soft_labels)?")
_LICENCE = ("license_name", "license_link")  # they belong to the license beside them
Json = dict[str, Any]


def marked(card: str) -> str:
    """``card`` with its text between the two marks, unless it has them already."""
    head, _, text = split_card(card)
    return head + (text if _parts(text) else _wrapped(text))


def merge_cards(ours: str, theirs: str, pushed_before: bool) -> str:
    """``theirs``, brought up to date with ``ours``; merging twice changes nothing more.

    ``pushed_before`` tells a card from which the marks were taken from one that never had them.
    Raises `HubError` if the YAML block of ``theirs`` cannot be read.
    """
    head, data, text = split_card(theirs)
    merged = _merged_data(split_card(ours)[1], data)
    if merged != data:
        head = f"---\n{_dumped(merged)}---\n"
    return head + _merged_text(split_card(marked(ours))[2], text, pushed_before)


def _merged_text(ours: str, theirs: str, pushed_before: bool) -> str:
    if not theirs.strip():
        return ours
    new, old = _parts(ours), _parts(theirs)
    if new and old:
        return old[0] + new[1] + old[2]
    return theirs if pushed_before else f"{theirs.rstrip()}\n{ours}"


def _parts(text: str) -> tuple[str, str, str] | None:
    """Above, from mark to mark, and below; None unless there is one of each, in order."""
    marks = list(_MARKERS.finditer(text))
    if [mark[1] for mark in marks] != ["begin", "end"]:
        return None
    start, stop = marks[0].start(), marks[1].end()
    return text[:start], text[start:stop], text[stop:]


def _wrapped(text: str) -> str:
    return f"\n{BEGIN}\n\n{_MARKERS.sub('', text).strip()}\n\n{END}\n"


def _dumped(data: Json) -> str:
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


def _merged_data(ours: Json, theirs: Json) -> Json:
    kept = {
        key: value
        for key, value in theirs.items()
        if key not in ours and not ("license" in ours and key in _LICENCE)
    }
    merged = {**ours, **kept}
    for key in ("tags", "task_categories"):
        values = list(listed(ours.get(key)))
        for value in listed(theirs.get(key)):
            if value not in values and not _OWN_TAG.fullmatch(str(value)):
                values.append(value)
        if values:
            merged[key] = values
    for key in ("configs", "dataset_info"):
        if key in ours and key in theirs:
            merged[key] = _by_name(ours[key], theirs[key])
    return merged


def _by_name(ours: Any, theirs: Any) -> Any:
    names = [entry_name(entry) for entry in listed(ours)]
    entries = [entry for entry in listed(theirs) if isinstance(entry, dict)]
    others = [
        entry
        for entry in entries
        if entry_name(entry) not in names and not _OWN_CONFIG.fullmatch(str(entry_name(entry)))
    ]
    if not others:
        return ours
    return [{"config_name": entry_name(entry), **entry} for entry in [*listed(ours), *others]]
