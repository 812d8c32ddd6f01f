"""Merge the YAML header of the card on the Hub with the generated one.

Fields that are not generated, and generated fields whose value has not changed, keep every letter
and comment: no scalar is resolved, so ``no``, ``1.10`` and ``007`` are never rewritten. Other
values are replaced, except for lists that people extend (tags, task categories, configurations),
which are merged.
"""

from __future__ import annotations

import io
import re
import textwrap
from itertools import pairwise
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode
from ruamel.yaml.resolver import VersionedResolver

from wdistill.artifact.layout import (
    LABELS_SUFFIX,
    SET_NAME,
    damaged_header,
    entry_name,
    listed,
)

# Of an earlier push: ours name those of every set that is there now.
_OLD_TAG = re.compile(r"ipc-\d+")
_OLD_CONFIG = re.compile(rf"{SET_NAME.pattern}({LABELS_SUFFIX})?")
_LICENCE = ("license_name", "license_link")  # they belong to the license beside them
_WIDE = 10**9  # no line is folded
_AFTER_FIELD = re.compile(r"(?:^(?:#.*|[ \t]*)\r?\n)*\Z", re.MULTILINE)


class _AsWritten(VersionedResolver):
    """Reads every plain scalar as text, which is then written unchanged."""

    @property
    def versioned_resolver(self) -> dict[str, Any]:
        return {}


def merged_header(ours: str, theirs: str) -> str:
    """Update the header on the Hub.

    Args:
        ours: The generated YAML mapping, ending in a line break.
        theirs: The YAML mapping on the Hub, ending in a line break.

    Raises:
        HubError: ``theirs`` cannot be read or is not a mapping.
    """
    try:
        return _merged(ours, theirs)
    except (YAMLError, yaml.YAMLError, ValueError) as error:
        raise damaged_header(error) from None


def line_break(text: str) -> str:
    """The line break that ``text`` uses."""
    return "\r\n" if "\r\n" in text else "\n"


def _merged(ours: str, theirs: str) -> str:
    own, now = (dict(yaml.safe_load(text) or {}) for text in (ours, theirs))
    own_texts = {key: text for key, text in _fields(ours) if key}
    obsolete = [key for key in _LICENCE if "license" in own and key not in own]
    end, texts, there = line_break(theirs), [], set()
    for key, text in _fields(theirs):
        if key is None or (key not in own and key not in obsolete):
            texts.append(text)
        elif key not in obsolete:
            same = key not in _UNITED and own[key] == now[key]
            texts.append(text if same else _updated(key, text, own_texts[key]))
        there.add(key)
    texts += [text.replace("\n", end) for key, text in own_texts.items() if key not in there]
    return "".join(texts)


def _fields(block: str) -> list[tuple[str | None, str]]:
    """Split a header into (key, text) of each field, and (None, text) of what is between them."""
    root = _yaml(block).compose(block)
    if root is None:
        return [(None, block)]
    if not isinstance(root, MappingNode):
        raise ValueError("it is not a mapping")
    if not root.value:
        return []
    if root.flow_style:
        return _fields(_as_lines(block))
    if root.start_mark.column:
        return _fields(textwrap.dedent(block))
    keys = [str(key.value) for key, _ in root.value]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ValueError(f"it has {twice[0]!r} twice")
    starts = [key.start_mark.index - key.start_mark.column for key, _ in root.value]
    fields: list[tuple[str | None, str]] = [(None, block[: starts[0]])]
    for key, (start, end) in zip(keys, pairwise([*starts, len(block)]), strict=True):
        text = block[start:end]
        rest = _AFTER_FIELD.search(text)
        cut = rest.start() if rest else len(text)
        fields += [(key, text[:cut]), (None, text[cut:])]
    return fields


def _as_lines(block: str) -> str:
    """Rewrite the mapping ``{a: b, ...}`` with one line per field."""
    data = _yaml(block).load(block)
    data.fa.set_block_style()
    return _dumped(data, block)


def _updated(key: str, theirs: str, ours: str) -> str:
    """The text of a field with its new value."""
    field, own = _yaml(theirs).load(theirs), _yaml(ours).load(ours)
    before = _dumped(field, theirs)
    field[key] = _UNITED.get(key, _replaced)(own[key], field[key])
    after = _dumped(field, theirs)
    return theirs if after == before else after.replace("\n", line_break(theirs))


def _replaced(ours: Any, theirs: Any) -> Any:
    return ours


def _united(ours: Any, theirs: Any) -> Any:
    """The values of both lists, in their order, without outdated tags of earlier pushes."""
    values = theirs if isinstance(theirs, CommentedSeq) else CommentedSeq(listed(theirs))
    missing = [value for value in listed(ours) if value not in values]
    for index in reversed(range(len(values))):
        if values[index] in listed(ours) or not _OLD_TAG.fullmatch(str(values[index])):
            continue
        if missing:  # comments belong to the place in the list
            values[index] = missing.pop()
        else:
            del values[index]
    values.extend(missing)
    return values


def _by_name(ours: Any, theirs: Any) -> Any:
    """The entries of both lists, in their order; ours replace entries of the same name."""
    entries = theirs if isinstance(theirs, CommentedSeq) else CommentedSeq(listed(theirs))
    own = {str(entry_name(entry)): entry for entry in listed(ours)}
    for index in reversed(range(len(entries))):
        entry = entries[index]
        name = str(entry_name(entry)) if isinstance(entry, dict) else None
        if name in own:
            _refresh(entry, own.pop(name))
        elif name is None or _OLD_CONFIG.fullmatch(name):
            del entries[index]
    entries.extend(own.values())
    if len(entries) == 1 and isinstance(ours, dict):
        return entries[0]
    for entry in entries:
        if "config_name" not in entry:
            entry.insert(0, "config_name", "default")
    return entries


def _refresh(entry: CommentedMap, ours: CommentedMap) -> None:
    """Take over the values of ours. Keys that people added stay, except for ``default``."""
    if "default" in entry and "default" not in ours:
        del entry["default"]
    for key, value in ours.items():
        if not _alike(entry.get(key), value):
            entry[key] = value


def _alike(one: Any, other: Any) -> bool:
    """Whether both are the same, quotes included: ``no`` is not ``'no'``."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return type(one) is type(other) and bool(one == other)


_UNITED = {
    "tags": _united, "task_categories": _united, "configs": _by_name, "dataset_info": _by_name,
}  # fmt: skip


def _yaml(text: str) -> YAML:
    """A reader and writer that keeps comments, quotes and the indentation of ``text``."""
    parser = YAML()
    parser.Resolver = _AsWritten
    parser.preserve_quotes = True
    parser.width = _WIDE
    dash = re.search(r"\n( *)- ", text)
    offset = len(dash[1]) if dash else 0
    parser.indent(mapping=2, sequence=offset + 2, offset=offset)
    return parser


def _dumped(data: Any, text: str) -> str:
    stream = io.StringIO()
    _yaml(text).dump(data, stream)
    return stream.getvalue()
