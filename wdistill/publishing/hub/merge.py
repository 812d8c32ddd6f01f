"""Merge a generated card with the card on the Hub without losing anything written by hand.

Generated text is between two HTML comments, which pages do not show:

- Each push replaces the text between them; text above and below stays.
- If the card existed before the first push, it stays, and the generated text follows it.
- If somebody removed one or both comments, the whole text belongs to that person and stays. Only
  the YAML block is updated, because loading depends on it.

The YAML block is merged by :mod:`wdistill.publishing.hub.header`.
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
    """Put the text of ``card`` between the two comments, unless they are there already."""
    head, text = _halves(card)
    return head + (text if _parts(text) else _wrapped(text))


def _halves(card: str) -> tuple[str, str]:
    """The YAML block with its fences, and the text below it."""
    block = REGEX_YAML_BLOCK.match(card)
    return (card[: block.end()], card[block.end() :]) if block else ("", card)


def merge_cards(ours: str, theirs: str, pushed_before: bool) -> str:
    """Update the card on the Hub. Merging a second time changes nothing.

    Args:
        ours: The generated card.
        theirs: The card on the Hub.
        pushed_before: Whether the repository has a set already. It distinguishes a card whose
            comments were removed from one that never had them.

    Raises:
        HubError: the YAML block of ``theirs`` cannot be read.
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
    """The text above the comments, from one to the other, and below; None if one is missing."""
    marks = list(_MARKERS.finditer(text))
    if [mark[1] for mark in marks] != ["begin", "end"]:
        return None
    start, stop = marks[0].start(), marks[1].end()
    return text[:start], text[start:stop], text[stop:]


def _wrapped(text: str) -> str:
    return f"\n{BEGIN}\n\n{_MARKERS.sub('', text).strip()}\n\n{END}\n"
