"""What a set is worth in random real images, and whether that may be said at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from wdistill.artifact.claims.differences import (
    Verdict,
    accuracy,
    caveats,
    is_even,
    verdict_by_accuracy,
)
from wdistill.artifact.report import (
    Equivalent,
    Panel,
    Report,
    ResultRow,
    gain_over,
    panel_equivalents,
    panel_of,
    panel_rows,
    row_of,
)

Tone = Literal["gain", "even", "loss"]
_BOUNDS = {"at_least": "at least ", "at_most": "at most "}
_ROUNDING = 1e-6  # a bound is read off logarithms
_ERRORS = 2  # standard errors that a difference must exceed [own]


def ipcs_of(report: Report, equivalent: Equivalent, images: str) -> list[int]:
    """Images per class of every row of ``images`` that the equivalent's student and labels have."""
    rows = panel_rows(report, *panel_of(equivalent))
    return [row.ipc for row in rows if row.images == images]


def own_ipc(report: Report, equivalent: Equivalent) -> float:
    """Images per class of the distilled set that ``equivalent`` belongs to."""
    distilled = ipcs_of(report, equivalent, "distilled")
    return float(distilled[0] if distilled else report.source.ipc or equivalent.ipc)


def tone(equivalent: Equivalent, ipc: float) -> Tone:
    """Whether a set of ``ipc`` images per class gains; ``even``: its interval contains ``ipc``."""
    low, high = equivalent.low, equivalent.high
    if low is not None and high is not None and low <= ipc <= high:
        return "even"
    if equivalent.bound == "at_least":
        return "gain"
    if equivalent.bound == "at_most":
        return "loss"
    if equivalent.ipc == ipc:
        return "even"
    return "gain" if equivalent.ipc > ipc else "loss"


def bound(equivalent: Equivalent, ipc: float) -> str:
    """``at least`` or ``at most`` with a space, where that much is known of the number."""
    return "" if tone(equivalent, ipc) == "even" else _BOUNDS.get(equivalent.bound, "")


def interval(report: Report, equivalent: Equivalent, write: Callable[[float], str]) -> str:
    """``2 to 32``, or ``2 to 32 or more`` where no more than 32 were tried; nothing if unknown."""
    if equivalent.low is None or equivalent.high is None:
        return ""
    most = max(ipcs_of(report, equivalent, "random"), default=float("inf"))
    low, high = write(equivalent.low), write(equivalent.high)
    if equivalent.high < most * (1 - _ROUNDING):
        return f"{low} to {high}"
    return f"{high} or more" if low == high else f"{low} to {high} or more"


@dataclass(frozen=True)
class Step:
    """From one number of random real images to a larger one, with the standard error of the
    difference of their mean accuracies; None where no seed was repeated.
    """

    smaller: ResultRow
    larger: ResultRow
    error: float | None

    @property
    def helps(self) -> bool:
        """Whether students profit from the larger number, by more than two standard errors."""
        gain = self.larger.top1_mean - self.smaller.top1_mean
        return self.error is not None and gain > _ERRORS * self.error


def step_at(report: Report, equivalent: Equivalent) -> Step | None:
    """The step between the numbers of random real images on both sides of the equivalent one; for
    the largest that was tried, the step that leads to it. None if only one number was tried.

    A larger number has at least twice as many images, if so many were tried: too small a step would
    show nothing. The deviation is pooled over the set and all numbers, as that of the interval is:
    error = s sqrt(1 / n_smaller + 1 / n_larger).
    """
    rows = panel_rows(report, *panel_of(equivalent))
    curve = sorted((row for row in rows if row.images == "random"), key=lambda row: row.ipc)
    if len(curve) < 2:
        return None
    reached = equivalent.ipc * (1 + _ROUNDING)
    below = [row for row in curve[:-1] if row.ipc <= reached]
    smaller = below[-1] if below else curve[0]
    above = [row for row in curve if row.ipc > smaller.ipc]
    larger = next((row for row in above if row.ipc >= 2 * smaller.ipc), above[-1])
    if larger.ipc < 2 * smaller.ipc:
        smaller = next((row for row in curve[::-1] if 2 * row.ipc <= larger.ipc), curve[0])
    deviation = _pooled_deviation([*curve, *(row for row in rows if row.images == "distilled")])
    error = None
    if deviation is not None:
        error = deviation * math.sqrt(1 / smaller.n + 1 / larger.n)
    return Step(smaller, larger, error)


def _pooled_deviation(rows: Sequence[ResultRow]) -> float | None:
    freedom = sum(row.n - 1 for row in rows)
    squares = sum((row.n - 1) * row.top1_std**2 for row in rows)
    return math.sqrt(squares / freedom) if freedom else None


def why_untold(report: Report, equivalent: Equivalent) -> str:
    """Why the worth in random real images is not said, as a clause; empty where it may be said.

    Where students of these steps learn no more from more real images, the set would be worth any
    number of them.
    """
    step = step_at(report, equivalent)
    if step is None:
        return "random real images were tried in one number only"
    smaller, larger = step.smaller, step.larger
    if step.error is None:
        return "one seed does not show whether more random real images help students at all"
    if not step.helps:
        epoch = math.ceil(larger.ipc * len(report.source.classes) / report.recipe.batch_size)
        return (
            f"in {larger.steps:,} steps {larger.ipc:,} random real images per class "
            f"({accuracy(larger)}) did not help students clearly more than {smaller.ipc:,} "
            f"({accuracy(smaller)}); one epoch over {larger.ipc:,} takes {epoch:,} steps"
        )
    rows = panel_rows(report, *panel_of(equivalent))
    own, random = row_of(rows, "distilled"), row_of(rows, "random")
    if own and random and is_even(own, random) and tone(equivalent, own.ipc) != "even":
        return (
            f"the difference to as many random real images ({_points(own, random)} points) is "
            "within the spread over seeds"
        )
    return ""


def _points(own: ResultRow, other: ResultRow) -> str:
    return f"{gain_over(own, other):+z.1f}".replace("-", "−")


def verdict(report: Report, student: str, labels: str, optimizer: str) -> Verdict:
    """Of a student with one kind of labels and one optimiser: by the equivalent number where it may
    be said, otherwise by the accuracy. A gain that a caveat takes back is none.
    """
    panel = Panel(student, labels, optimizer)
    for equivalent in panel_equivalents(report, *panel)[:1]:
        if not why_untold(report, equivalent):
            found = tone(equivalent, own_ipc(report, equivalent))
            return "even" if found == "gain" and caveats(report, *panel) else found
    return verdict_by_accuracy(report, *panel)
