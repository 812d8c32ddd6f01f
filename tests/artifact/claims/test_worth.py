"""Worth in random real images is said only of students that profit from more of them."""

from __future__ import annotations

import pytest
from helpers.reports import equivalent, report, report_row

from wdistill.artifact.claims.worth import step_at, why_untold
from wdistill.artifact.report import Report, ResultRow


def row(images: str, ipc: int, mean: float, n: int = 3, labels: str = "hard") -> ResultRow:
    std = 0.01 if n > 1 else 0.0
    return report_row(images, labels, ipc, n=n, top1_mean=mean, top1_std=std)


def found(curve: dict[int, float], n: int = 3, own: float = 0.5, **worth: object) -> Report:
    rows = [row("distilled", 10, own, n), *(row("random", k, v, n) for k, v in curve.items())]
    return report(rows=rows, equivalents=[equivalent(**worth)], scores=[])


FLAT = {10: 0.30, 20: 0.305, 40: 0.30, 80: 0.302, 160: 0.305}
RISING = {10: 0.30, 20: 0.35, 40: 0.40, 80: 0.45, 160: 0.49}


@pytest.mark.parametrize(
    ("ipc", "ends"),
    [(10, (10, 20)), (15, (10, 20)), (20, (20, 40)), (4, (10, 20)), (160, (80, 160))],
)
def test_the_step_surrounds_the_number(ipc: float, ends: tuple[int, int]) -> None:
    shown = found(RISING, ipc=ipc)
    step = step_at(shown, shown.equivalents[0])
    assert step is not None
    assert (step.smaller.ipc, step.larger.ipc) == ends
    assert step.error == pytest.approx(0.01 * (2 / 3) ** 0.5)
    assert step.helps


def test_a_last_step_that_is_cut_short_is_not_what_decides() -> None:
    """All 170 images of a class are hardly more than 160."""
    shown = found(RISING | {170: 0.49}, ipc=170, bound="at_least")
    step = step_at(shown, shown.equivalents[0])
    assert step is not None
    assert (step.smaller.ipc, step.larger.ipc) == (80, 170)


def test_students_of_too_few_steps_make_no_set_worth_many_images() -> None:
    worth = {"ipc": 160, "low": None, "high": None, "bound": "at_least"}
    text = str(found(FLAT, **worth))
    assert "worth at least 160" not in text
    assert (
        "in 2,000 steps 160 random real images per class (30.5 %) did not help students clearly "
        "more than 80 (30.2 %); one epoch over 160 takes 25 steps"
    ) in text
    assert "worth at least 160 random real images per class" in str(found(RISING, **worth))


def test_one_seed_and_one_number_show_no_worth() -> None:
    shown = found(RISING, n=1, low=None, high=None)
    assert "one seed" in why_untold(shown, shown.equivalents[0])
    shown = found({10: 0.3})
    assert "one number only" in why_untold(shown, shown.equivalents[0])


def test_random_images_called_distilled_are_worth_no_more_than_themselves() -> None:
    """Although the interval, by chance, excludes their own number."""
    shown = found(RISING, own=0.315, ipc=13, low=11, high=16)
    assert "worth 13" not in str(shown)
    assert "within the spread over seeds" in why_untold(shown, shown.equivalents[0])
