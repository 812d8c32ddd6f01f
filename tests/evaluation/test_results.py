"""From outcomes to rows and reports, and two reports of one set as one."""

from __future__ import annotations

import random

import numpy as np
import pytest
from helpers.reports import equivalent, report, report_row, scores

from wdistill.artifact.report import Curve, ResultRow
from wdistill.config import SGD_LR, StudentConfig
from wdistill.evaluation.results import group_by_row, merge_reports, result_row
from wdistill.evaluation.students import Job, Outcome
from wdistill.evaluation.training import recipe_for

Key = tuple[str, str, str]  # student, images, labels
SCORES: dict[Key, list[float]] = {
    ("a", "distilled", "soft"): [0.71, 0.74, 0.69],
    ("a", "random", "soft"): [0.5, 0.55, 0.61],
    ("a", "distilled", "hard"): [0.4, 0.4, 0.4],
    ("a", "random", "hard"): [0.2, 0.9, 0.1],
    ("b", "distilled", "soft"): [0.33],
}


def outcome(key: Key, seed: int, top1: float) -> Outcome:
    student, images, labels = key
    return Outcome(
        job=Job(student, images, labels, 10, seed),  # type: ignore[arg-type]
        top1=top1,
        top5=None,
        per_class=(top1, top1),
        confusion=((seed, 1), (0, 2)),
        steps=4,
        curve=Curve(step=(2, 4), loss=(1.0, 0.5)),
        seconds=1.25,
    )


def outcomes() -> list[Outcome]:
    return [
        outcome(key, seed, top1) for key, row in SCORES.items() for seed, top1 in enumerate(row)
    ]


def rows_of(every: list[Outcome]) -> dict[Key, ResultRow]:
    rows = [result_row(group, group[0].job.student, 7) for group in group_by_row(every)]
    assert len({(row.student, row.images, row.labels) for row in rows}) == len(rows)
    return {(row.student, row.images, row.labels): row for row in rows}


@pytest.mark.parametrize("key", SCORES)
def test_a_row_is_mean_and_sample_deviation(key: Key) -> None:
    row, values = rows_of(outcomes())[key], SCORES[key]
    assert (row.n, row.ipc, row.bytes) == (len(values), 10, 7)
    assert row.top1 == tuple(values)
    assert row.seeds == tuple(range(len(values)))
    assert row.top1_mean == pytest.approx(sum(values) / len(values))
    assert row.seconds == pytest.approx(1.25 * len(values))
    spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
    assert row.top1_std == pytest.approx(float(spread))
    assert row.confusion == ((sum(row.seeds), row.n), (0, 2 * row.n))


def test_the_deviation_divides_by_n_minus_one() -> None:
    pair = [outcome(("a", "random", "hard"), seed, top1) for seed, top1 in enumerate((0.5, 0.7))]
    (row,) = rows_of(pair).values()
    assert row.top1_std == pytest.approx(0.2 / 2**0.5)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_in_which_students_finish_does_not_matter(seed: int) -> None:
    shuffled = outcomes()
    random.Random(seed).shuffle(shuffled)
    assert rows_of(shuffled) == rows_of(outcomes())
    assert rows_of(outcomes()).keys() == SCORES.keys()


def test_the_recipe_is_the_one_that_was_used() -> None:
    config = StudentConfig(epochs=7, batch_size=5, lr=0.5, weight_decay=0.25, temperature=3.0)
    recipe = recipe_for(config, 10)
    assert recipe.steps == 14
    for name in ("epochs", "batch_size", "lr", "weight_decay", "temperature", "crop_min"):
        assert getattr(recipe, name) == getattr(config, name)


def test_each_optimiser_has_its_own_rates() -> None:
    adamw, sgd = (recipe_for(StudentConfig(), 10, optimizer=o) for o in ("adamw", "sgd"))  # type: ignore[arg-type]
    assert (adamw.optimizer, adamw.lr, adamw.weight_decay, adamw.momentum) == (
        "AdamW", 0.001, 0.01, None,
    )  # fmt: skip
    assert (sgd.optimizer, sgd.lr, sgd.weight_decay, sgd.momentum) == ("SGD", SGD_LR, 0.0005, 0.9)
    own = {"optimizer", "lr", "weight_decay", "momentum"}
    assert adamw.model_dump(exclude=own) == sgd.model_dump(exclude=own)


# --- two reports of one set ---------------------------------------------------------------------

HARD = [report_row("distilled"), report_row("random")]
SOFT = [report_row("distilled", "soft"), report_row("random", "soft")]
PLAIN = scores(augmentation_robust_score=31.0)


def test_what_an_earlier_report_has_beyond_it_stays() -> None:
    earlier = report(rows=[*HARD, *SOFT], equivalents=[], scores=[PLAIN])
    more = [*HARD, report_row("random", ipc=20)]
    later = report(rows=more, equivalents=[equivalent()], scores=[])
    both = merge_reports(later, earlier)
    assert both.rows == (*more, *SOFT)
    assert both.equivalents == (equivalent(),)
    (score,) = both.scores
    gain = 100 * (SOFT[0].top1_mean - SOFT[1].top1_mean)
    assert score.improvement_over_random == pytest.approx(gain), "of all rows together"
    assert score.augmentation_robust_score == 31.0, "its rows are not published"
    assert merge_reports(earlier, both).rows == both.rows, (
        "a run that is repeated takes nothing away"
    )
    assert merge_reports(earlier, both).equivalents == both.equivalents
    assert merge_reports(earlier, both).scores == both.scores
    assert merge_reports(later, merge_reports(later, earlier)) == both


def test_an_equivalent_number_without_more_rows_is_taken() -> None:
    earlier = report(rows=HARD, equivalents=[], scores=[])
    assert merge_reports(report(rows=HARD, equivalents=[equivalent()]), earlier).equivalents == (
        equivalent(),
    )


def test_fewer_seeds_do_not_replace_more() -> None:
    few = [report_row("distilled", n=2), report_row("random", n=2)]
    earlier, later = report(rows=HARD, equivalents=[]), report(rows=few, equivalents=[])
    assert merge_reports(later, earlier).rows == tuple(HARD)
    assert merge_reports(earlier, later).rows == tuple(HARD)


SGD = report().recipe.model_copy(
    update={"optimizer": "SGD", "lr": 0.05, "weight_decay": 0.0005, "momentum": 0.9}
)


def test_another_optimiser_is_added_to_an_earlier_report() -> None:
    under = [row.model_copy(update={"optimizer": "SGD"}) for row in HARD]
    earlier = report(rows=[*HARD, *SOFT], equivalents=[], scores=[])
    later = report(rows=under, equivalents=[equivalent(optimizer="SGD")], recipe=SGD, scores=[])
    both = merge_reports(later, earlier)
    assert both.recipes == (earlier.recipe, SGD)
    assert set(both.rows) == {*HARD, *SOFT, *under}
    assert both.equivalents == later.equivalents
    assert [(score.student, score.optimizer) for score in both.scores] == [
        ("resnet10-w16", "AdamW"), ("resnet10-w16", "SGD"),
    ]  # fmt: skip
    assert merge_reports(earlier, both).rows == both.rows
    assert merge_reports(later, both) == both.model_copy(update={"command": later.command})


def test_two_recipes_for_one_optimiser_are_not_mixed() -> None:
    under = [row.model_copy(update={"optimizer": "SGD"}) for row in HARD]
    later = report(rows=under, equivalents=[], recipe=SGD)
    other = SGD.model_copy(update={"lr": 0.1})
    earlier = report(rows=[*HARD, *under], equivalents=[], other_recipes=[other])
    assert merge_reports(later, earlier) == later


@pytest.mark.parametrize(
    "change",
    [
        {"teacher": None},
        {"device": "another"},
        {"versions": {"torch": "3.0"}},
        {"resolution": 32},
        {"recipe": report().recipe.model_copy(update={"steps": 1})},
        {"source": report().source.model_copy(update={"fingerprint": "other"})},
    ],
)
def test_reports_in_other_circumstances_are_not_mixed(change: dict[str, object]) -> None:
    later = report(rows=HARD, equivalents=[])
    assert merge_reports(later, report(rows=SOFT, **change)) == later
