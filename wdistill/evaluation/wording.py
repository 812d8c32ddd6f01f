"""What a report says, in words that the card, the page and the terminal share.

As plain about a loss as about a gain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from wdistill.artifact.report import Equivalent, Recipe, Report, ResultRow

Tone = Literal["gain", "even", "loss"]
_BOUNDS = {"at_least": "at least ", "at_most": "at most "}
_ROUNDING = 1e-6  # a bound is read off logarithms


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def spread(mean: float, std: float, n: int) -> str:
    """``87.3 ± 0.4 %``; one seed has no spread."""
    return percent(mean) if n < 2 else f"{100 * mean:.1f} ± {100 * std:.1f} %"


def score(row: ResultRow) -> str:
    """``87.3 ± 0.4 % (n = 3)``."""
    return f"{spread(row.top1_mean, row.top1_std, row.n)} (n = {row.n})"


def recipe_settings(recipe: Recipe) -> list[tuple[str, str]]:
    """Names and values, in words; a setting without a value is left out."""
    settings = recipe.model_dump().items()
    return [(name.replace("_", " "), _setting(v)) for name, v in settings if v is not None]


def _setting(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else number(value)


def panels(report: Report) -> list[tuple[str, str]]:
    """Student and labels, in the order of the report."""
    return list(dict.fromkeys((row.student, row.labels) for row in report.rows))


def panel_rows(report: Report, student: str, labels: str) -> list[ResultRow]:
    return [row for row in report.rows if (row.student, row.labels) == (student, labels)]


def row_of(rows: Sequence[ResultRow], images: str) -> ResultRow | None:
    """The first row of ``images``; of random ones, the row with as many as there are distilled."""
    kept = [row for row in rows if row.images == images]
    distilled = [row.ipc for row in rows if row.images == "distilled"]
    if images == "random" and distilled:
        kept = [row for row in kept if row.ipc == distilled[0]]
    return kept[0] if kept else None


def verdicts(report: Report) -> list[str]:
    """One sentence per student and labels, on the set beside as many random real images."""
    sentences = []
    for student, labels in panels(report):
        rows = panel_rows(report, student, labels)
        distilled, random = row_of(rows, "distilled"), row_of(rows, "random")
        if distilled is not None and random is not None:
            sentences.append(f"{student}, {labels} labels: {_verdict(distilled, random)}.")
    return sentences


def _verdict(distilled: ResultRow, random: ResultRow) -> str:
    gain = gain_over(distilled, random)
    several = min(distilled.n, random.n) > 1
    doubt = "" if several else " (one seed, so the spread is unknown)"
    if is_even(distilled, random):
        points = f"{gain:+.1f}".replace("-", "−")
        return f"no clear difference ({points} points, within the spread over seeds)"
    if gain > 0:
        return f"the distilled images are {gain:.1f} points better than random real images{doubt}"
    if gain < 0:
        return (
            f"the distilled images are {-gain:.1f} points worse than random real images, which are "
            f"the better choice here{doubt}"
        )
    return f"the distilled images and random real images score the same{doubt}"


def gain_over(distilled: ResultRow, other: ResultRow) -> float:
    """Of the distilled images, in percentage points of accuracy."""
    return 100 * (distilled.top1_mean - other.top1_mean)


def is_even(distilled: ResultRow, other: ResultRow) -> bool:
    """Whether the difference is within the spread over seeds, as far as that is known."""
    known = min(distilled.n, other.n) > 1
    return known and abs(gain_over(distilled, other)) <= 100 * (distilled.top1_std + other.top1_std)


def tried(report: Report, equivalent: Equivalent, images: str) -> list[int]:
    """Images per class of every row of ``images`` that the equivalent's student and labels have."""
    rows = panel_rows(report, equivalent.student, equivalent.labels)
    return [row.ipc for row in rows if row.images == images]


def own_ipc(report: Report, equivalent: Equivalent) -> float:
    """Images per class of the distilled set that ``equivalent`` belongs to."""
    distilled = tried(report, equivalent, "distilled")
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
    most = max(tried(report, equivalent, "random"), default=float("inf"))
    low, high = write(equivalent.low), write(equivalent.high)
    if equivalent.high < most * (1 - _ROUNDING):
        return f"{low} to {high}"
    return f"{high} or more" if low == high else f"{low} to {high} or more"


def report_table(report: Report) -> str:
    """One line per student, labels and set of images, then the equivalent numbers, as text."""
    width = max(7, *(len(row.student) for row in report.rows))
    lines = [f"{'student':{width}}  labels   images     IPC           top-1  distilled gains"]
    order = {name: at for at, name in enumerate(("distilled", "random", "nearest", "herding"))}
    rows = sorted(report.rows, key=lambda r: (r.student, r.labels, order.get(r.images, 9), r.ipc))
    for row in rows:
        own = row_of(panel_rows(report, row.student, row.labels), "distilled")
        gains = "" if own is None or row is own else f"{gain_over(own, row):+.1f}"
        deviation = f" ± {100 * row.top1_std:4.1f}" if row.n > 1 else ""
        lines.append(
            f"{row.student:{width}}  {row.labels:7}  {row.images:9}  {row.ipc:>4}  "
            f"{f'{row.top1_mean:.1%}{deviation}':>14}  {gains:>15}".rstrip()
        )
    return "\n".join([*lines, *(_equivalent(report, each) for each in report.equivalents)])


def _equivalent(report: Report, equivalent: Equivalent) -> str:
    ipc = own_ipc(report, equivalent)
    ends = interval(report, equivalent, lambda value: f"{value:.0f}")
    even = ends and tone(equivalent, ipc) == "even"
    return (
        f"{equivalent.student}, {equivalent.labels} labels: worth {bound(equivalent, ipc)}"
        f"{equivalent.ipc:.0f} random real images per class"
        f"{f' (95 %: {ends})' if ends else ''}{', no clear difference' if even else ''}"
    )
