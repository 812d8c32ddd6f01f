"""What people wrote on a card stays, what was generated is brought up to date."""

from __future__ import annotations

import difflib
import re
from typing import Any

import pytest
import yaml

from wdistill.errors import HubError
from wdistill.publishing.hub.merge import BEGIN, END, marked, merge_cards

OLD = """---
license: mit
pretty_name: Shapes
tags: [dataset-distillation, ipc-1]
task_categories: [image-classification]
configs:
- config_name: default
  data_files:
  - {split: train, path: data/train-*.parquet}
dataset_info:
  splits:
  - {name: train, num_examples: 3}
---

# One image per class

Old words.
"""
NEW = OLD.replace("ipc-1", "ipc-10").replace("One image", "Ten images").replace("Old", "New")


def data_of(card: str) -> dict[str, Any]:
    return dict(yaml.safe_load(re.split(r"---\r?\n", card)[1]))


def body_of(card: str) -> str:
    return card.split("---\n", 2)[2]


def test_the_marks_are_invisible_and_set_once() -> None:
    card = marked(OLD)
    assert body_of(card) == f"\n{BEGIN}\n\n# One image per class\n\nOld words.\n\n{END}\n"
    assert card.split("---\n")[1] == OLD.split("---\n")[1]
    assert marked(card) == card
    markdown_it = pytest.importorskip("markdown_it")
    page = markdown_it.MarkdownIt("commonmark", {"html": True}).render(body_of(card))
    assert "<h1>One image per class</h1>" in page


def test_text_above_and_below_stays() -> None:
    theirs = marked(OLD).replace(BEGIN, f"Above, by hand.\n\n{BEGIN}") + "\n## By hand\n"
    merged = merge_cards(NEW, theirs, pushed_before=True)
    assert "Old words" not in merged
    assert "New words" in merged
    assert body_of(merged).startswith("\nAbove, by hand.\n\n<!-- wdistill:begin")
    assert merged.endswith(f"{END}\n\n## By hand\n")


def test_a_card_of_before_the_first_push_comes_first() -> None:
    theirs = "---\nlicense: cc-by-4.0\n---\n# My own words\n"
    merged = merge_cards(NEW, theirs, pushed_before=False)
    assert body_of(merged).startswith(f"# My own words\n\n{BEGIN}\n\n# Ten images per class")
    for empty in ("", "---\nlicense: mit\n---\n", "---\nlicense: mit\n---\n\n  \n"):
        assert body_of(merge_cards(NEW, empty, pushed_before=False)) == body_of(marked(NEW))


@pytest.mark.parametrize("left", [(), (BEGIN,), (END,), (END, BEGIN), (BEGIN, BEGIN, END)])
def test_without_both_marks_the_text_is_theirs_and_only_yaml_is_ours(left: tuple[str]) -> None:
    own = "\n# All my own\n" + "\nwords\n".join(left)
    theirs = OLD.partition("\n# ")[0] + own
    merged = merge_cards(NEW, theirs, pushed_before=True)
    assert body_of(merged) == own
    assert "ipc-10" in data_of(merged)["tags"]


def test_yaml_ours_wins_theirs_stays_lists_are_united() -> None:
    theirs = """---
license: other
license_name: old-terms
license_link: https://a.b/c
language: [en]
pretty_name: By hand
tags: [cats, ipc-1, synthetic]
task_categories: image-feature-extraction
configs:
- config_name: extra
  data_files: extra/*.parquet
- config_name: default
  data_files: elsewhere/*.parquet
dataset_info:
- config_name: default
  splits: []
- config_name: extra
  splits: [{name: test, num_examples: 7}]
train-eval-index: [{task: image-classification}]
---
"""
    data = data_of(merge_cards(NEW, theirs, pushed_before=True))
    assert (data["license"], data["pretty_name"], data["language"]) == ("mit", "Shapes", ["en"])
    assert not {"license_name", "license_link"} & data.keys()
    assert data["tags"] == ["cats", "ipc-10", "synthetic", "dataset-distillation"]
    assert data["task_categories"] == ["image-feature-extraction", "image-classification"]
    assert data["configs"] == [
        {"config_name": "extra", "data_files": "extra/*.parquet"},
        {
            "config_name": "default",
            "data_files": [{"split": "train", "path": "data/train-*.parquet"}],
        },
    ]
    info = {entry["config_name"]: entry["splits"] for entry in data["dataset_info"]}
    assert info["default"] == [{"name": "train", "num_examples": 3}]
    assert info["extra"] == [{"name": "test", "num_examples": 7}]
    assert data["train-eval-index"] == [{"task": "image-classification"}]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    "theirs",
    [
        "",
        "# Only words",
        marked(OLD),
        marked(OLD).replace("\n", "\r\n"),
        "---\r\nlicense: mit\r\n---\r\nWindows\r\n",
        "---\ntags: [ipc-1, b]\nconfigs: [{config_name: x}, odd]\nemoji: 🐈\n---\nText, no newline",
        f"---\n---\n{END}\n{BEGIN}",
    ],
)
def test_merging_again_changes_nothing(theirs: str, before: bool) -> None:
    once = merge_cards(NEW, theirs, before)
    assert merge_cards(NEW, once, pushed_before=True) == once
    assert data_of(once)["license"] == "mit"


def test_a_card_that_is_up_to_date_stays_letter_by_letter() -> None:
    assert merge_cards(OLD, marked(OLD), pushed_before=True) == marked(OLD)


@pytest.mark.parametrize(
    "block", ["a: [", "- a", "just words", "1: 2", "a: !!python/object:x.y {}"]
)
def test_a_damaged_yaml_block_is_one_line(block: str) -> None:
    with pytest.raises(HubError, match="damaged YAML block") as caught:
        merge_cards(NEW, f"---\n{block}\n---\ntext", pushed_before=True)
    assert "\n" not in str(caught.value)


WRITTEN = {
    "comments": "# above\nmine: 1  # beside\n\n# below\n",
    "words of YAML 1.1": "language:\n- no\n- 'no'\n- \"yes\"\na: on\nb: ~\nc: True\n",
    "numbers": "version: 1.10\narxiv: 2311.18530\ncode: 007\nsci: 1e3\ntime: 1:30\nhex: 0x1F\n",
    "dates": "day: 2024-01-01\nat: 2024-01-01T10:00:00Z\n",
    "block": "gated: |\n  First line: yes\n\n  - second # line\nfolded: >-\n  a\n  b\n\n",
    "lines": "words: one\n  and two\n'quoted': \"three\n  four\"\nlist: [a,\n  b ]\n",
    "spaces": "mine:   1\nother :   { a:  b }\nnested:\n    - x\n    -   y: 2\n",
    "anchors": "base: &base {a: 1}\nuse:\n  <<: *base\n",
    "tags": "number: !!str 12\n",
    "unicode": "words: \U0001f600 é 中\n",
    "nothing": "mine:\n",
}


def with_lines(card: str, lines: str, first: bool) -> str:
    """``card`` with lines written by hand in its YAML block."""
    _, block, rest = card.split("---\n", 2)
    return f"---\n{lines + block if first else block + lines}---\n{rest}"


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("lines", WRITTEN.values(), ids=WRITTEN)
def test_what_was_written_by_hand_stays_letter_by_letter(
    lines: str, ends: str, first: bool
) -> None:
    theirs = with_lines(marked(OLD), lines, first)
    for ours in (OLD, NEW):
        merged = merge_cards(ours, theirs.replace("\n", ends), pushed_before=True)
        assert merged == with_lines(marked(ours), lines, first).replace("\n", ends)


def test_comments_stay_in_the_fields_that_we_write() -> None:
    theirs = """---
# first
license: apache-2.0  # as our lawyer said
tags:  # all of them
  - ipc-1
  # mine
  - cats  # and dogs
  - wdistill

# about the sets
configs:
- config_name: extra  # by hand
  data_files: extra/*.parquet
- config_name: default
  drop_labels: no  # also by hand
  default: true
  data_files: old
pretty_name: 'no'
# last
---
"""
    merged = merge_cards(NEW, theirs, pushed_before=True).split("---\n")[1]
    changed = [
        line
        for line in difflib.ndiff(theirs.split("---\n")[1].splitlines(), merged.splitlines())
        if line.startswith("- ")
    ]
    assert changed == [
        "- license: apache-2.0  # as our lawyer said",
        "-   - ipc-1",
        "-   default: true",
        "-   data_files: old",
        "- pretty_name: 'no'",
    ]
    assert re.search(r"license: mit +# as our lawyer said\n", merged)
    assert "  - ipc-10\n  # mine\n  - cats  # and dogs\n  - wdistill\n" in merged
    assert yaml.safe_load(merged)["configs"] == [
        {"config_name": "extra", "data_files": "extra/*.parquet"},
        {
            "config_name": "default",
            "drop_labels": False,
            "data_files": [{"split": "train", "path": "data/train-*.parquet"}],
        },
    ]


def test_a_byte_order_mark_does_not_hide_the_header() -> None:
    merged = merge_cards(NEW, "\ufeff" + marked(OLD) + "\nbelow\n", pushed_before=True)
    assert merged == marked(NEW) + "\nbelow\n"


def test_a_field_that_stands_twice_is_named() -> None:
    theirs = with_lines(marked(OLD), "license: cc-by-4.0\n", first=False)
    with pytest.raises(HubError, match="damaged YAML block \\(it has 'license' twice\\)"):
        merge_cards(NEW, theirs, pushed_before=True)


@pytest.mark.parametrize(
    "theirs",
    [
        "{license: mit, mine: 007, tags: [a, 'no']}",
        "# only words",
        "{}",
        "  mine: 007\n  license: x",
    ],
)
def test_a_header_in_braces_of_comments_or_indented_is_brought_up_to_date(theirs: str) -> None:
    merged = merge_cards(NEW, f"---\n{theirs}\n---\nwords\n", pushed_before=True)
    data = data_of(merged)
    assert data["pretty_name"] == "Shapes"
    assert ("007" in merged) == ("007" in theirs)
    assert ("# only words\n" in merged) == ("#" in theirs)
    assert merge_cards(NEW, merged, pushed_before=True) == merged
