"""Whether one set of images is better than another, as far as the seeds of a report show it."""

from __future__ import annotations

import math
from typing import Literal

from scipy.special import stdtrit

from wdistill.artifact.report import Report, ResultRow, gain_over, panel_rows, row_of

Verdict = Literal["gain", "even", "loss", "unknown"]
_CONFIDENCE = 0.95


def is_even(own: ResultRow, other: ResultRow) -> bool:
    """Whether the difference is within the spread over seeds; False where no spread is known.

    Within it is what is no more than the sum of both deviations, or than chance alone gives in 95
    of 100 cases (Student's t, two-sided, with the pooled deviation). Of two sets of the same kind
    the first rule alone would call one better in 21 % of cases with two seeds, 8 % with three.
    """
    if min(own.n, other.n) < 2:
        return False
    freedom = own.n + other.n - 2
    squares = (own.n - 1) * own.top1_std**2 + (other.n - 1) * other.top1_std**2
    error = math.sqrt(squares / freedom * (1 / own.n + 1 / other.n))
    chance = float(stdtrit(freedom, (1 + _CONFIDENCE) / 2)) * error
    spread = max(own.top1_std + other.top1_std, chance)
    return abs(gain_over(own, other)) <= 100 * spread


def is_better(own: ResultRow, other: ResultRow) -> bool:
    """Whether ``own`` has the higher mean, by more than the spread over seeds where it is known."""
    return gain_over(own, other) > 0 and not is_even(own, other)


def verdict_by_accuracy(report: Report, student: str, labels: str, optimizer: str) -> Verdict:
    """The distilled images against as many random real ones; unknown without these, and with one
    seed. A gain that a caveat takes back is none.
    """
    rows = panel_rows(report, student, labels, optimizer)
    own, random = row_of(rows, "distilled"), row_of(rows, "random")
    if own is None or random is None or min(own.n, random.n) < 2:
        return "unknown"
    if is_even(own, random):
        return "even"
    if not is_better(own, random):
        return "loss"
    return "even" if caveats(report, student, labels, optimizer) else "gain"


def caveats(report: Report, student: str, labels: str, optimizer: str) -> list[str]:
    """What takes a gain over random real images with the same labels back, a clause each.

    A teacher's labels can do the work of the images: then images without content do as well with
    them. Those of a weak teacher hold random real images down: then these do as well with hard
    labels, which cost nothing.
    """
    rows = panel_rows(report, student, labels, optimizer)
    own = row_of(rows, "distilled")
    if own is None or labels == "hard":
        return []
    found = []
    noise = row_of(rows, "noise")
    if noise is not None and not is_better(own, noise):
        found.append(
            f"images without content that have the same labels reach {accuracy(noise)}, so nothing "
            "shows that the distilled images teach more than their labels"
        )
    hard = [
        row
        for row in panel_rows(report, student, "hard", optimizer)
        if row.images == "random" and row.ipc == own.ipc
    ]
    if hard and not is_better(own, hard[0]):
        found.append(
            f"as many random real images with hard labels reach {accuracy(hard[0])}, which the "
            "distilled images do not clearly exceed"
        )
    return found


def accuracy(row: ResultRow) -> str:
    """``87.3 %``, the mean over seeds."""
    return f"{100 * row.top1_mean:.1f} %"
