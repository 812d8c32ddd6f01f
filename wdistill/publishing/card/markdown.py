"""Untrusted text in Markdown: everything a template prints is escaped unless marked as trusted."""

from __future__ import annotations

import re
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from wdistill.core.files import template_folders
from wdistill.core.text import clean, is_url

_MARKUP = re.compile(r"[^\w \-.,/()'+%=:;±−·…²×]|:(?=/)")
_LOOSE_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_BARE_LINK = re.compile(r"(?i)\b(www)\.")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")


class Trusted(str):
    """Markdown made by this package from escaped parts."""

    __slots__ = ()


def escape(text: str) -> Trusted:
    """``text`` as one line of literal words: no HTML, no Markdown, no table cell borders."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    safe = _MARKUP.sub(lambda match: f"&#{ord(match[0])};", line)
    safe = _LOOSE_UNDERSCORE.sub("&#95;", safe)
    return Trusted(_BARE_LINK.sub(r"\1&#46;", safe))


def code(value: Any) -> Trusted:
    """A setting or an id as inline code; an empty value is a dash."""
    if value is None or value == []:
        return Trusted("–")
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return Trusted(f"<code>{escape(text)}</code>")


def fenced(text: str) -> Trusted:
    """A code block whose fence is longer than any run of backticks inside."""
    line = clean(text)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", line)), default=0))
    return Trusted(f"{fence}text\n{line}\n{fence}")


def link(text: str, url: str | None) -> Trusted:
    """A link where ``url`` is a plain http(s) address, else the bare text."""
    if url and is_url(url):
        return Trusted(f"[{escape(text)}]({url})")
    return escape(text)


def is_hub_id(text: str) -> bool:
    return bool(_HUB_ID.fullmatch(text)) and ".." not in text


def environment() -> Environment:
    """Templates of the wheel (``wdistill/cards``) or of a checkout (``cards`` beside it)."""
    jinja = Environment(
        loader=FileSystemLoader(template_folders()),
        autoescape=False,  # noqa: S701 (HTML rules are the wrong ones; `finalize` escapes)
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Trusted) else escape(value),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.filters |= {"code": code, "fenced": fenced, "trusted": Trusted}
    return jinja
