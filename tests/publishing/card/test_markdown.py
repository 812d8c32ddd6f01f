"""Whatever a stranger writes, the card shows it as words."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from wdistill.core.text import clean
from wdistill.evaluation.page.html import html_environment
from wdistill.publishing.card.markdown import code, environment, escape, fenced, link

MARKS = "*_`~#|<>[](){}!\\&;:/.-+=\"'$^@ \t\n\r\u202e\u2028\x00"
ANY = st.text(max_size=60) | st.text(MARKS + "aw1", max_size=60)
NASTY = (
    "<script>alert(1)</script>", "[x](javascript:a)", "![x](y)", "a | b\n|---|---|", "www.evil.org",
    "http://evil.org", "&lt;b&gt;", "# head", "- item", "1. item", "1) item", "+ x", "***", "---",
    "===", "~~x~~", "`x`", "    code", "> quote", "a@b.org", "\\", "\\*", "[x]: http://y.org",
    "<!-- x -->", "__x__", ":smile:", "$x$", "| a |", "http&#58;//a.b",
)  # fmt: skip
GITHUB = MarkdownIt("gfm-like", {"linkify": False})


def words(text: str) -> str:
    """What is left of ``text`` in one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def every_nasty(test):  # type: ignore[no-untyped-def]
    for text in NASTY:
        test = example(text)(test)
    return test


@every_nasty
@given(ANY)
def test_escaped_text_is_one_paragraph_of_literal_words(text: str) -> None:
    """In the middle of a line, as templates print it."""
    tokens = GITHUB.parse(f"x {escape(text)} x")
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    inside = tokens[1].children or []
    assert {token.type for token in inside} <= {"text", "text_special"}
    assert words("".join(token.content for token in inside)) == words(f"x {text} x")


@every_nasty
@given(ANY)
def test_escaped_text_is_one_cell_of_a_table(text: str) -> None:
    tokens = GITHUB.parse(f"| a | b |\n|---|---|\n| x {escape(text)} | {code(text)} |\n")
    kinds = [token.type for token in tokens]
    assert kinds.count("td_open") == 2
    assert kinds.count("tr_open") == 2
    cells = [token for token in tokens if token.type == "inline"][2:]
    assert words(cells[0].content) == words(unescape(cells[0].content)) or "&" in cells[0].content
    assert {token.type for token in cells[0].children or []} <= {"text", "text_special"}
    assert {token.content for token in cells[1].children or [] if token.type == "html_inline"} <= {
        "<code>", "</code>",
    }  # fmt: skip


@every_nasty
@given(ANY)
def test_a_template_escapes_what_it_prints(text: str) -> None:
    assert environment().from_string("{{ text }}").render(text=text) == escape(text)


@every_nasty
@given(ANY)
def test_a_fence_holds_any_text(text: str) -> None:
    tokens = GITHUB.parse(fenced(text))
    assert [token.type for token in tokens] == ["fence"]
    assert tokens[0].content.rstrip("\n") == clean(text)


@every_nasty
@given(ANY)
def test_a_link_goes_only_to_plain_addresses(text: str) -> None:
    inside = GITHUB.parseInline(f"x {link(text, text)} x")[0].children or []
    targets = [token.attrGet("href") for token in inside if token.type == "link_open"]
    assert all(re.match(r"https?://", str(target)) for target in targets)
    for token in inside:
        assert token.type in ("text", "text_special", "link_open", "link_close")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@every_nasty
@given(ANY)
def test_the_page_shows_it_as_words_too(text: str) -> None:
    page = html_environment().from_string("<p title='{{ text }}'>x {{ text }} x</p>")
    parser = Tags()
    parser.feed(page.render(text=text))
    parser.close()
    assert parser.tags == ["p"]
    assert parser.text == f"x {clean(text)} x"
