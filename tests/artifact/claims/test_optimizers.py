"""A gain under one optimiser is called one under the other only where the seeds show it there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.reports import gallery, report, report_row

from wdistill.artifact.claims.optimizers import doubts, survivals
from wdistill.artifact.report import Panel, Recipe, Report, ResultRow
from wdistill.evaluation.page.headline import headline
from wdistill.evaluation.page.report import render_report
from wdistill.evaluation.several.page import render_page
from wdistill.evaluation.several.table import Entry, SideBySide
from wdistill.evaluation.wording import verdicts
from wdistill.publishing.card.report import report_view

ADAMW, SGD = (Panel("resnet10-w16", "hard", name) for name in ("AdamW", "SGD"))
SGD_RECIPE = Recipe(
    optimizer="SGD", lr=0.05, weight_decay=0.0005, momentum=0.9, epochs=None, steps=2000,
    batch_size=64, temperature=20.0, crop_min=0.4,
)  # fmt: skip


def row(images: str, optimizer: str, mean: float, n: int = 3, labels: str = "hard") -> ResultRow:
    std = 0.005 if n > 1 else 0.0
    return report_row(
        images, labels, n=n, optimizer=optimizer, top1_mean=mean, top1_std=std, top1=(mean,) * n
    )


def both(adamw: tuple[float, float], sgd: tuple[float, float], n: int = 3) -> Report:
    """Accuracies of distilled and of random images under each optimiser."""
    rows = [
        row(images, name, mean, n)
        for name, means in (("AdamW", adamw), ("SGD", sgd))
        for images, mean in zip(("distilled", "random"), means, strict=True)
    ]
    return of(rows)


def of(rows: list[ResultRow], **changes: Any) -> Report:
    return report(rows=rows, equivalents=[], scores=[], other_recipes=[SGD_RECIPE], **changes)


@pytest.mark.parametrize(
    ("adamw", "sgd", "word", "clause"),
    [
        ((0.60, 0.50), (0.58, 0.51), "yes", "the gain holds under both optimisers"),
        ((0.60, 0.50), (0.51, 0.505), "not clear", "the gain under AdamW is not clear under SGD"),
        ((0.505, 0.50), (0.60, 0.5), "not clear", "the gain under SGD is not clear under AdamW"),
        ((0.60, 0.50), (0.40, 0.50), "no", "the gain under AdamW is a loss under SGD"),
        ((0.505, 0.50), (0.5, 0.5), "no gain", "no gain is clear under either optimiser"),
        ((0.4, 0.5), (0.5, 0.5), "no gain",
         "no gain is clear under either optimiser, and under AdamW it is a loss"),
        ((0.4, 0.5), (0.3, 0.5), "no gain", "a loss under both optimisers"),
    ],
)  # fmt: skip
def test_each_outcome_has_its_words(
    adamw: tuple[float, float], sgd: tuple[float, float], word: str, clause: str
) -> None:
    shown = both(adamw, sgd)
    (found,) = survivals(shown)
    assert (found.word, found.clause) == (word, clause)
    gains = [100 * (mean[0] - mean[1]) for mean in (adamw, sgd)]
    assert [gain.points for gain in found.gains] == pytest.approx(gains)
    table = str(shown)
    assert table.splitlines()[-1].endswith(clause)
    assert any(line.endswith(f"{clause}.") for line in verdicts(shown))


def test_random_images_called_distilled_survive_nothing() -> None:
    """By chance they are 0.5 points better under one and 0.6 under the other."""
    shown = both((0.505, 0.5), (0.506, 0.5))
    (found,) = survivals(shown)
    assert found.word == "no gain"
    for text in (str(shown), *verdicts(shown), report_view(shown).headline, headline(shown).lead):
        assert "gain holds" not in text
    assert headline(shown).tone == "even"


def test_one_seed_shows_no_survival() -> None:
    shown = both((0.6, 0.5), (0.6, 0.5), n=1)
    (found,) = survivals(shown)
    assert found.word == "unknown"
    assert found.clause.endswith("is not known: one seed does not show what is chance")


def test_labels_that_do_all_the_work_survive_as_no_gain() -> None:
    rows = [
        row(images, name, mean, labels="soft")
        for name in ("AdamW", "SGD")
        for images, mean in (("distilled", 0.6), ("random", 0.5), ("noise", 0.6))
    ]
    (found,) = survivals(of(rows))
    assert found.word == "no gain"


def test_what_was_not_tried_is_said() -> None:
    rows = [row("distilled", "AdamW", 0.6), row("random", "AdamW", 0.5), row("random", "SGD", 0.5)]
    (found,) = survivals(of(rows))
    assert str(found) == (
        "+10.0 points under AdamW, not tried under SGD: whether a gain holds under both optimisers "
        "is not known: it was not measured under SGD"
    )


def test_one_optimiser_needs_no_words() -> None:
    shown = report()
    assert survivals(shown) == []
    assert doubts(shown, *ADAMW) == []
    view = report_view(shown)
    assert not view.optimizers
    assert not view.survivals
    assert "optimiser" not in str(shown)


def test_a_headline_tells_what_the_other_optimiser_takes_back() -> None:
    shown = both((0.6, 0.5), (0.505, 0.5))
    assert doubts(shown, *SGD) == [], "there is no gain to take back"
    said = "the gain under AdamW is not clear under SGD"
    assert f"But {said}." in headline(shown).lead
    assert report_view(shown).headline.endswith(f"; but {said}")
    lasting = both((0.6, 0.5), (0.6, 0.5))
    assert "But" not in headline(lasting).lead
    assert "; but" not in report_view(lasting).headline


def test_card_page_and_terminal_have_rows_of_both() -> None:
    shown = both((0.6, 0.5), (0.58, 0.51))
    view = report_view(shown)
    assert [(each.optimizer, each.cells[0][:4], each.survives) for each in view.rows] == [
        ("AdamW", "60.0", "yes"), ("SGD", "58.0", "yes"),
    ]  # fmt: skip
    assert view.recipe.endswith("; with SGD lr 0.05, weight decay 0.0005, momentum 0.9")
    lines = str(shown).splitlines()
    assert lines[0].split()[:3] == ["student", "labels", "optimiser"]
    assert [line.split()[2] for line in lines[1:5]] == ["AdamW", "AdamW", "SGD", "SGD"]
    page = render_report(shown, gallery())
    assert "Under the other optimiser" in page
    assert "The gain holds under both optimisers." in page
    for name in ("AdamW", "SGD"):
        assert f"resnet10-w16, hard labels, {name}" in page
    assert "Under the other optimiser" not in render_report(report(), gallery())


def test_sets_side_by_side_say_which_gain_survives() -> None:
    lasting, fading = both((0.6, 0.5), (0.58, 0.51)), both((0.62, 0.5), (0.51, 0.51))
    sides = SideBySide((Entry("lasting", lasting), Entry("fading", fading)))
    assert [(line.name, line.row.optimizer) for line in sides.lines()] == [
        ("fading", "AdamW"), ("lasting", "AdamW"), ("lasting", "SGD"), ("fading", "SGD"),
    ]  # fmt: skip
    assert {line.name: line.survival and line.survival.word for line in sides.lines()} == {
        "lasting": "yes",
        "fading": "not clear",
    }
    numbers = {(each["set"], each["optimizer"]): each["gain_survives"] for each in sides.numbers()}
    assert numbers["fading", "SGD"] == "not clear"
    text = str(sides)
    assert "resnet10-w16, hard labels, SGD, 2,000 steps" in text
    assert "fading, resnet10-w16, hard labels: +12.0 points under AdamW, 0.0 points" in text
    assert "Gain survives" in render_page(sides)


def test_rows_of_older_files_have_the_optimiser_of_their_recipe() -> None:
    content = report(recipe=SGD_RECIPE).model_dump(mode="json")
    for part in ("rows", "equivalents", "scores"):
        for each in content[part]:
            del each["optimizer"]
    del content["other_recipes"]
    read = Report.parse(content, Path("report.json"))
    assert {each.optimizer for each in (*read.rows, *read.equivalents, *read.scores)} == {"SGD"}
    assert read.recipes == (SGD_RECIPE,)
