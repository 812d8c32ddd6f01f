"""The YAML header of the card on the Hub, brought up to date with ours.

Fields that we do not write, and ours where they say the same already, stay letter by letter with
their comments: no scalar is resolved, so that ``no``, ``1.10`` and ``007`` are never rewritten. Of
the other fields the values are replaced, except for lists that people extend, which are united:
tags, task categories, and the configurations by name.
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

from wdistill.artifact.layout import damaged_header, entry_name, listed

# Of an earlier push: ours name those of every set that is there now.
_OLD_TAG = re.compile(r"ipc-\d+")
_OLD_CONFIG = re.compile(r"ipc\d+(_soft_labels)?")
_LICENCE = ("license_name", "license_link")  # they belong to the license beside them
_WIDE = 10**9  # no line is folded
_AFTER_FIELD = re.compile(r"(?:^(?:#.*|[ \t]*)\r?\n)*\Z", re.MULTILINE)


class _AsWritten(VersionedResolver):
    """Takes every plain scalar for text, and so writes it as it was."""

    @property
    def versioned_resolver(self) -> dict[str, Any]:
        return {}


def merged_header(ours: str, theirs: str) -> str:
    """``theirs``, brought up to date with ``ours``: two YAML mappings, each ending in a line break.

    Raises HubError if ``theirs`` is not a mapping that can be read.
    """
    try:
        return _merged(ours, theirs)
    except (YAMLError, yaml.YAMLError, ValueError) as error:
        raise damaged_header(error) from None


def line_break(text: str) -> str:
    """With which the lines of ``text`` end."""
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
    """Each field's key and text; comments and blank lines between fields have no key."""
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
    """The mapping ``{a: b, ...}`` with a line for each field."""
    data = _yaml(block).load(block)
    data.fa.set_block_style()
    return _dumped(data, block)


def _updated(key: str, theirs: str, ours: str) -> str:
    """The text of a field with the value that it is to have."""
    field, own = _yaml(theirs).load(theirs), _yaml(ours).load(ours)
    before = _dumped(field, theirs)
    field[key] = _UNITED.get(key, _replaced)(own[key], field[key])
    after = _dumped(field, theirs)
    return theirs if after == before else after.replace("\n", line_break(theirs))


def _replaced(ours: Any, theirs: Any) -> Any:
    return ours


def _united(ours: Any, theirs: Any) -> Any:
    """All values: theirs in their order, without those that an earlier push left."""
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
    """All entries: theirs in their order, of which ours replace those of the same name."""
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
    """Take what ours says; added keys stay, except for ``default``, which is ours to give."""
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
    """As ``text`` is indented."""
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
