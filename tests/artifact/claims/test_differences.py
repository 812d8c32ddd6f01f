"""Sets that deserve no praise get none: by chance, by their labels, or by a weak teacher."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.reports import report, report_row

from wdistill.artifact.claims.differences import caveats, is_even, verdict_by_accuracy
from wdistill.artifact.report import ResultRow
from wdistill.evaluation.page.headline import headline
from wdistill.evaluation.wording import verdicts
from wdistill.publishing.card.report import report_view


def row(images: str, labels: str, mean: float, n: int = 3) -> ResultRow:
    std = 0.005 if n > 1 else 0.0
    return report_row(images, labels, n=n, top1_mean=mean, top1_std=std)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_chance_makes_one_of_two_equal_sets_better_in_no_more_than_one_case_of_twenty(
    seeds: int,
) -> None:
    draws = np.random.default_rng(0).normal(0.5, 0.01, (1000, 2, seeds))
    bare = report_row("distilled", n=seeds)
    rows = [
        [
            bare.model_copy(update={"top1_mean": float(x.mean()), "top1_std": float(x.std(ddof=1))})
            for x in pair
        ]
        for pair in draws
    ]
    assert np.mean([not is_even(own, other) for own, other in rows]) < 0.07


def test_a_difference_far_beyond_the_spread_is_one() -> None:
    assert not is_even(row("distilled", "hard", 0.6), row("random", "hard", 0.5))


def said(*rows: ResultRow) -> tuple[str, str, str, str]:
    """Tone of the page, then the sentences of page, card and terminal."""
    shown = report(rows=rows, equivalents=[], scores=[])
    top = headline(shown)
    card = " ".join([report_view(shown).headline, *verdicts(shown)])
    return top.tone, top.lead, card, str(shown)


def test_labels_that_do_all_the_work_are_named() -> None:
    tone, *texts = said(
        row("distilled", "soft", 0.6), row("random", "soft", 0.5), row("noise", "soft", 0.6)
    )
    assert tone == "even"
    for text in texts:
        assert "images without content that have the same labels reach 60.0 %" in text
    tone, *texts = said(
        row("distilled", "soft", 0.6), row("random", "soft", 0.5), row("noise", "soft", 0.3)
    )
    assert tone == "gain"
    assert not [text for text in texts if "without content" in text]


def test_a_weak_teacher_makes_no_gain_of_images_that_it_labels() -> None:
    tone, *texts = said(
        row("distilled", "soft", 0.4), row("random", "soft", 0.3), row("random", "hard", 0.5)
    )
    assert tone == "even"
    for text in texts:
        assert "as many random real images with hard labels reach 50.0 %" in text


def test_one_seed_is_called_one_and_gains_nothing() -> None:
    tone, *texts = said(row("distilled", "hard", 0.6, n=1), row("random", "hard", 0.5, n=1))
    assert tone == "unknown"
    for text in texts:
        assert "one seed" in text
        assert "better choice" not in text


def test_random_images_called_distilled_differ_from_none() -> None:
    tone, *texts = said(row("distilled", "hard", 0.505), row("random", "hard", 0.5))
    assert tone == "even"
    assert "no clear difference" in texts[0]
    assert "no clear difference" in texts[1]
    assert "in brackets: no clear difference" in texts[2]


def test_hard_labels_need_no_caveat() -> None:
    rows = [row("distilled", "hard", 0.5), row("random", "hard", 0.6), row("noise", "hard", 0.6)]
    shown = report(rows=rows, equivalents=[], scores=[])
    panel = ("resnet10-w16", "hard", "AdamW")
    assert caveats(shown, *panel) == []
    assert verdict_by_accuracy(shown, *panel) == "loss"
