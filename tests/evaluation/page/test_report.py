"""The page says what report.json says, shows the given images, and needs nothing from outside."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from functools import cache
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.browser import CHROMIUM, chromium
from helpers.reports import IPC, NAMES, equivalent, gallery, report, report_row
from PIL import Image

from wdistill.artifact.report import Equivalent, Report
from wdistill.core.text import clean, human_bytes
from wdistill.evaluation.page.headline import headline
from wdistill.evaluation.page.html import link
from wdistill.evaluation.page.plot_style import LABELS, SETS
from wdistill.evaluation.page.report import Gallery, render_report
from wdistill.evaluation.wording import COUNTED

NO_PLOTS = {"rows": [], "equivalents": [], "scores": [], "projection": None}
ATTACK = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Tags with their attributes, and the words between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.cells: list[list[str]] = []
        self.words, self.in_cell = "", False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

        self.in_cell = tag not in ("table", "tr") and (self.in_cell or tag in ("td", "th"))

    def handle_endtag(self, tag: str) -> None:
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.words += data
        if self.in_cell:
            self.cells[-1][-1] += data.strip()

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(gallery_: Gallery | None = None, **changes: Any) -> Page:
    return Page(render_report(report(**changes), gallery_ or gallery()))


@cache
def usual() -> str:
    """The page of the usual report, for the tests that only look at it."""
    return render_report(report(), gallery())


def lead(**changes: Any) -> str:
    found = headline(report(**changes))
    return f"{found.tone}: {found.lead}".replace("\u00a0", " ")


def pixels(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def test_every_row_is_in_the_table_with_its_numbers() -> None:
    shown, cells = report(), Page(usual()).cells
    rivals = {r.labels: r.top1_mean for r in shown.rows
              if (r.images, r.ipc) == ("random", IPC)}  # fmt: skip
    for row in shown.rows:
        over = 100 * (row.top1_mean - rivals[row.labels])
        compared = row.images in ("distilled", "nearest", "herding")
        expected = [
            SETS[row.images],
            f"{row.ipc:,}",
            f"{100 * row.top1_mean:.1f} ± {100 * row.top1_std:.1f} % (n = {row.n})",
            f"{over:+.1f}".replace("-", "−") if compared else "",
            f"{100 * row.top5_mean:.1f} ± {100 * row.top5_std:.1f} %",
        ]
        start = cells.index([f"{row.student}, {LABELS[row.labels]}"])
        (found,) = [line for line in cells[start : start + 10] if line[:2] == expected[:2]]
        assert found[:5] == expected
        size = human_bytes(row.bytes)
        bits = f"{8 * row.bytes // len(shown.source.classes):,}"
        assert found[5:] == [size, bits, f"{row.steps:,}", f"{row.seconds:.4g}"]
    assert len([line for line in cells if len(line) == 9]) == len(shown.rows) + 1


def test_the_page_says_what_its_sizes_are_of() -> None:
    assert COUNTED in Page(usual()).words


def test_the_page_begins_with_the_headline() -> None:
    top, parsed = headline(report()), Page(usual())
    assert {"class": f"lead {top.tone}"} in parsed.all("p")
    assert top.lead in parsed.words
    assert top.details in parsed.words


def test_worth_scores_recipe_and_versions_are_told() -> None:
    shown = report(local_students={"mine": "vit, 4 layers of 96 channels"})
    html = render_report(shown, gallery())
    parsed = Page(html)
    assert "Student mine" in parsed.words
    assert "vit, 4 layers of 96 channels" in parsed.words
    line = ["resnet10-w16", "hard labels", "10", "23", "19 to 28", "2.3 ×", "a gain"]
    assert line in parsed.cells
    assert ["resnet10-w16", "6.9", "22.7", "23.8"] in parsed.cells
    assert "Augmentation-robust" not in parsed.words.partition("What they mean")[0]
    for words in ("batch size", "0.001", "cosine", "resnet18-w64", "93.1 %", "torch 2.13.0",
                  "cpu (2 threads)", "c0ffee", shown.command, "10,000 images"):  # fmt: skip
        assert words in parsed.words, words
    assert "epochs" not in parsed.words, "a setting that is null is left out"
    assert {"href": shown.against.url, "rel": "noopener noreferrer"} in parsed.all("a")


@pytest.mark.parametrize(
    ("worth", "said"),
    [
        (equivalent(), "gain: These 10 images per class train a student as well as about 23 random real images per class (95 % interval: 19 to 28)."),  # noqa: E501
        (equivalent(ipc=4.2, low=3.3, high=5.1), "loss: These 10 images per class train a student only as well as about 4.2 random real images per class (95 % interval: 3.3 to 5.1): random real images are the better choice here."),  # noqa: E501
        (equivalent(ipc=11, low=8, high=14), "even: No clear difference: these 10 images per class train a student as well as about 11 random real images per class (95 % interval: 8 to 14)."),  # noqa: E501
        (equivalent(ipc=50, low=8, high=50, bound="at_least"), "even: No clear difference: these 10 images per class train a student as well as about 50 random real images per class (95 % interval: 8 to 50 or more)."),  # noqa: E501
        (equivalent(ipc=50, low=None, high=None, bound="at_least"), "gain: These 10 images per class train a student at least as well as 50 random real images per class, the most that were tried."),  # noqa: E501
        (equivalent(ipc=1, low=None, high=None, bound="at_most"), "loss: These 10 images per class train a student no better than 1 random real image per class, the fewest that were tried: random real images are the better choice here."),  # noqa: E501
    ],
)  # fmt: skip
def test_the_headline_is_as_plain_about_a_loss_as_about_a_gain(
    worth: Equivalent, said: str
) -> None:
    assert lead(equivalents=[worth]) == said


def test_the_headline_without_an_equivalent_number() -> None:
    ours, theirs = report_row("distilled", n=1, top1_mean=0.5), report_row("random", n=1)
    better, worse = (theirs.model_copy(update={"top1_mean": mean}) for mean in (0.42, 0.55))
    start = "10 images per class bring a student to 50.0 % (n = 1) top-1 accuracy"
    said = {
        "8.0 points better than as many random real images: 42.0 % (n = 1)": [ours, better],
        "5.0 points worse than as many random real images: 55.0 % (n = 1)": [ours, worse],
    }
    for end, rows in said.items():
        assert lead(rows=rows, equivalents=[]) == (
            f"unknown: {start}, {end}; one seed, so the spread is unknown."
        )
    alone = lead(rows=[ours], equivalents=[])
    assert alone == f"unknown: {start}; random real images were not tried beside them."
    assert lead(rows=[theirs], equivalents=[]).startswith("unknown: No student was trained")


def test_a_worth_that_would_mislead_is_unknown_for_a_reason() -> None:
    parsed = page(n=1)
    line = ["resnet10-w16", "hard labels", "10", "unknown", "–", "–", "not known"]
    assert line in parsed.cells
    assert "one seed does not show whether more random real images help" in parsed.words
    assert "The arrow leads" not in parsed.words


def test_several_comparisons_are_counted() -> None:
    loss = equivalent("soft", ipc=3, low=2, high=4)
    words = headline(report(equivalents=[equivalent(), loss])).details
    assert "Over all combinations of student and labels: a gain in 1 of 2, a loss in 1 of 2." in (
        words
    )


def test_the_images_are_the_given_pixels() -> None:
    given = gallery()
    assert given.nearest is not None
    assert given.weights is not None
    assert given.distances is not None
    parsed = Page(usual())
    pictures = parsed.all("img")
    assert len(pictures) == 2 * len(given.images)
    for index, (ours, real) in enumerate(zip(pictures[::2], pictures[1::2], strict=True)):
        assert np.array_equal(pixels(ours["src"]), given.images[index])
        assert np.array_equal(pixels(real["src"]), given.nearest[index])
        assert ours["alt"] == f"{NAMES[given.labels[index]]}, image {index % IPC + 1}"
        assert real["alt"]
        assert f"weight {given.weights[index]:.2g}" in parsed.words
        assert f"distance {given.distances[index]:.2g}" in parsed.words


def test_large_images_are_reduced_and_keep_their_shape() -> None:
    given = gallery(("one",), ipc=2)
    wide = np.repeat(np.repeat(given.images, 8, 1), 16, 2)
    parsed = page(Gallery(wide, given.labels), names=("one",), **NO_PLOTS)
    shapes = [pixels(image["src"]).shape for image in parsed.all("img")]
    assert shapes == [(80, 160, 3)] * 2


def test_a_large_gallery_is_cut_and_says_so() -> None:
    names = tuple(f"class {c}" for c in range(45))
    parsed = page(gallery(names, ipc=13, side=4), names=names, **NO_PLOTS)
    assert len(parsed.all("img")) == 20 * 10 * 2
    assert "25 more classes are not shown." in parsed.words
    assert parsed.words.count("3 more images of this class are not shown.") == 20
    assert "15 more classes" in parsed.words, "those that are folded"


def test_hostile_names_are_literal_text() -> None:
    names = (ATTACK, 'x" onerror="alert(1)', "{{ 7*7 }}\u202e", *NAMES[3:])
    values = report(names).model_dump()
    values["source"] |= {"id": ATTACK, "url": "javascript:alert(1)", "revision": ATTACK}
    values["against"] |= {"id": ATTACK, "url": 'https://a.b/"><script>', "eval_split": ATTACK}
    values |= {"command": ATTACK, "device": ATTACK, "versions": {ATTACK: ATTACK}}
    values |= {"local_students": {ATTACK: ATTACK}}
    values["recipe"] |= {"optimizer": ATTACK, "schedule": ATTACK}
    values["teacher"] |= {"name": ATTACK}
    for part in ("rows", "equivalents", "scores"):
        for row in values[part]:
            row["student"] = ATTACK
    values["projection"]["method"] = ATTACK
    html = render_report(Report.model_validate(values), gallery(names))
    parsed, honest = Page(html), Page(usual())
    assert f"<h3>{escape(ATTACK)}</h3>" in html
    assert "{{ 7*7 }}" in parsed.words
    assert "\u202e" not in html
    assert {tag for tag, _ in parsed.tags} <= {tag for tag, _ in honest.tags}
    assert len(parsed.all("img")) == len(honest.all("img"))
    assert not parsed.all("a")
    assert not [name for _, given in parsed.tags for name in given if name.startswith("on")]


def test_nothing_is_loaded_from_outside() -> None:
    html = usual()
    parsed = Page(html)
    forbidden = {"script", "link", "iframe", "object", "embed", "base", "form", "video"}
    assert not forbidden & {tag for tag, _ in parsed.tags}
    for tag, given in parsed.tags:
        for name in {"src", "href", "xlink:href", "srcset", "poster", "action"} & set(given):
            assert tag == "a" or given[name].startswith(("data:image/", "#")), (tag, name)
    assert set(re.findall(r"url\((.)", html)) == {"#"}
    assert "@import" not in html
    (policy,) = [m["content"] for m in parsed.all("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_every_picture_has_words_for_those_who_cannot_see_it() -> None:
    shown = report()
    drawings = [svg["aria-label"] for svg in Page(usual()).all("svg")]
    assert len(drawings) == 3 + 2 + 2 + 2 + 1
    row = next(row for row in shown.rows if row.images == "distilled")
    assert f"distilled, 10 per class: {100 * row.top1_mean:.1f} %" in drawings[0]
    assert all(drawings)


def test_missing_parts_leave_no_empty_box() -> None:
    bare = report_row("distilled", n=1, top5_mean=None, top5_std=None, per_class=[],
                      confusion=None, curve={"step": [], "loss": []})  # fmt: skip
    given = replace(gallery(), weights=None, nearest=None, distances=None)
    parsed = page(given, rows=[bare], equivalents=[], scores=[], projection=None, teacher=None)
    heads = ("Worth in random", "Scores", "A closer look", "Top-5", "teacher", "weight 0", "±  ",
             "distance", "Over all combinations", "None", "nan")  # fmt: skip
    assert not [words for words in heads if words in parsed.words]
    assert f"{100 * bare.top1_mean:.1f} % (n = 1)" in parsed.words
    assert len(parsed.all("svg")) == 2
    assert len(parsed.all("img")) == len(given.images)
    assert not parsed.all("figcaption")
    empty = [h for h in ("<section>\\s*</section>", "<table>\\s*</table>", "<dl[^>]*>\\s*</dl>")
             if re.search(h, render_report(report(rows=[]), gallery()))]  # fmt: skip
    assert not empty


def test_one_kind_of_labels_and_sets_of_uneven_classes() -> None:
    shown = report(labels=("views",))
    uneven = shown.source.model_copy(update={"ipc": None})
    shown = shown.model_copy(update={"source": uneven})
    parsed = Page(render_report(shown, gallery()))
    assert len(parsed.all("svg")) == 2 + 1 + 1 + 1 + 1
    assert "stored labels of every view" in parsed.words
    assert "Over all combinations" not in parsed.words


def test_links_and_lines() -> None:
    assert link("<a>", "ftp://a.b") == "&lt;a&gt;"
    assert link("<a>", "https://a.b/c?d=e&f=g") == (
        '<a href="https://a.b/c?d=e&amp;f=g" rel="noopener noreferrer">&lt;a&gt;</a>'
    )
    assert clean(" a\n\u2028b  c\u00a0d\u202e ") == "a b c\u00a0d"


MEASURE = """
addEventListener("load", () => {
  const frame = document.querySelector("iframe").contentDocument
  const pictures = [...frame.images], plots = [...frame.querySelectorAll("svg.plot")]
  document.body.dataset.found = JSON.stringify({
    width: frame.scrollingElement.scrollWidth,
    decoded: pictures.filter((image) => image.naturalWidth > 0).length,
    flat: plots.filter((svg) => !svg.closest("details") && !svg.getBoundingClientRect().height).length,
    lead: frame.querySelector(".lead").innerText,
    scripts: frame.scripts.length,
  })
})
"""  # noqa: E501


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("names", [NAMES, (ATTACK, "w" * 300, *(f"class {c}" for c in range(40)))])
def test_it_renders_on_a_phone(names: tuple[str, ...], tmp_path: Path) -> None:
    """In a frame of 360 pixels, since a window cannot be so narrow."""
    values = report(names, labels=("hard", "soft", "views", "teacher")).model_dump()
    for row in (*values["rows"], *values["equivalents"], *values["scores"]):
        row.student = "a-student-with-a-long-name/" + "x" * 60
    inner = render_report(Report.model_validate(values), gallery(names))
    frame = f'<iframe width="360" height="800" style="border: 0" srcdoc="{escape(inner)}"></iframe>'
    outer = f"<!doctype html><body>{frame}<script>{MEASURE}</script></body>"
    done = chromium(tmp_path, outer, "--dump-dom")
    written = re.search(r'data-found="([^"]*)"', done.stdout)
    assert written is not None, done.stderr
    found = json.loads(unescape(written[1]))
    assert found["width"] <= 360
    assert found["decoded"] == len(Page(inner).all("img"))
    assert found["flat"] == 0
    assert found["scripts"] == 0
    assert found["lead"].startswith("These 10 images per class train a student")
    assert ":CONSOLE" not in done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_it_is_painted(tmp_path: Path) -> None:
    """The distilled set's colour and the first image's pixels are on the screen."""
    target = tmp_path / "wide.png"
    given = gallery()
    given.images[0] = (255, 0, 255)
    html = render_report(report(), given)
    done = chromium(tmp_path, html, "--window-size=1200,4000", f"--screenshot={target}")
    screen = np.asarray(Image.open(target).convert("RGB")).reshape(-1, 3)
    for colour in ((0xE4, 0x25, 0x36), (255, 0, 255)):
        assert (screen == colour).all(1).sum() > 500
    assert ":CONSOLE" not in done.stderr
