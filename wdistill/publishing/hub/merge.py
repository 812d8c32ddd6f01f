"""A generated card and the one that is on the Hub, made one: nothing written by hand is lost.

What this package generates stands between two HTML comments, which pages do not show:

- Between them each push writes anew; text above and below belongs to people and stays.
- A card without them that was there before the first push stays, and ours goes below it.
- A card from which somebody took them (or one of them) out has become that person's own: all its
  text stays, and only the YAML block is brought up to date, because loading depends on it.

The YAML block at the top is the business of :mod:`wdistill.publishing.hub.header`.
"""

from __future__ import annotations

import re

from huggingface_hub.repocard import REGEX_YAML_BLOCK

from wdistill.artifact.layout import split_card
from wdistill.publishing.hub.header import line_break, merged_header

BEGIN = "<!-- wdistill:begin. Each push writes this part anew; text above and below it stays. -->"
END = "<!-- wdistill:end -->"
_BYTE_ORDER_MARK = "\ufeff"
_MARKERS = re.compile(r"<!-- wdistill:(begin|end)\b[^>]*-->")


def marked(card: str) -> str:
    """``card`` with its text between the two marks, unless it has them already."""
    head, text = _halves(card)
    return head + (text if _parts(text) else _wrapped(text))


def _halves(card: str) -> tuple[str, str]:
    """The YAML block with its fences, and the text below it."""
    block = REGEX_YAML_BLOCK.match(card)
    return (card[: block.end()], card[block.end() :]) if block else ("", card)


def merge_cards(ours: str, theirs: str, pushed_before: bool) -> str:
    """``theirs``, brought up to date with ``ours``; merging twice changes nothing more.

    ``pushed_before`` tells a card from which the marks were taken from one that never had them.
    Raises `HubError` if the YAML block of ``theirs`` cannot be read.
    """
    head, _, text = split_card(theirs.removeprefix(_BYTE_ORDER_MARK))
    own_head, own_text = _halves(marked(ours))
    own_text = own_text.replace("\n", line_break(text))
    return _merged_head(own_head, head) + _merged_text(own_text, text, pushed_before)


def _merged_head(ours: str, theirs: str) -> str:
    own, now = (REGEX_YAML_BLOCK.match(head) for head in (ours, theirs))
    if own is None or now is None:
        return ours + theirs
    end = line_break(now[1])
    block = merged_header(own[2] + "\n", now[2] + end).removesuffix(end)
    return f"{now[1]}{block}{now[3]}"


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
