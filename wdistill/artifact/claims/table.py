"""A report as text."""

from __future__ import annotations

from wdistill.artifact.claims.differences import caveats, is_even
from wdistill.artifact.claims.optimizers import survivals
from wdistill.artifact.claims.worth import bound, interval, own_ipc, tone, why_untold
from wdistill.artifact.report import (
    Equivalent,
    Report,
    ResultRow,
    gain_over,
    optimizers_of,
    panel_name,
    panel_of,
    panel_rows,
    panels,
    row_of,
)
from wdistill.core.text import clean

_ORDER = ("distilled", "random", "nearest", "herding", "k-centre", "easy", "tiles", "noise")


def report_table(report: Report) -> str:
    """One line per student, labels, optimiser (where there are several) and set of images, then
    the equivalent numbers and what limits the gains, as text. Gains within the spread over seeds
    are in brackets.
    """
    width = max([7, *(len(clean(row.student)) for row in report.rows)])
    several = len(optimizers_of(report.rows)) > 1
    middle = "optimiser  " if several else ""
    lines = [
        f"{'student':{width}}  labels   {middle}images     IPC           top-1  distilled gains"
    ]
    order = {name: at for at, name in enumerate(_ORDER)}
    places = panels(report)
    rows = sorted(
        report.rows,
        key=lambda r: (places.index(panel_of(r)), order.get(r.images, 9), r.ipc),
    )
    for row in rows:
        own = row_of(panel_rows(report, *panel_of(row)), "distilled")
        deviation = f" ± {100 * row.top1_std:4.1f}" if row.n > 1 else ""
        optimizer = f"{clean(row.optimizer):9}  " if several else ""
        lines.append(
            f"{clean(row.student):{width}}  {row.labels:7}  {optimizer}{clean(row.images):9}  "
            f"{row.ipc:>4}  {f'{row.top1_mean:.1%}{deviation}':>14}  "
            f"{_gains(own, row):>15}".rstrip()
        )
    lines += _notes(report)
    lines += [_equivalent(report, each) for each in report.equivalents]
    lines += [
        f"{clean(panel_name(report, *panel))}: {caveat}"
        for panel in places
        for caveat in caveats(report, *panel)
    ]
    lines += [f"{clean(each.student)}, {each.labels} labels: {each}" for each in survivals(report)]
    return "\n".join([*lines, *([report.comparable] if report.comparable else [])])


def _gains(own: ResultRow | None, row: ResultRow) -> str:
    if own is None or row is own:
        return ""
    gain = f"{gain_over(own, row):+z.1f}"
    return f"({gain})" if is_even(own, row) else gain


def _notes(report: Report) -> list[str]:
    """How to read the gains."""
    notes = []
    pairs = [
        (own, row)
        for row in report.rows
        if (own := row_of(panel_rows(report, *panel_of(row)), "distilled")) and own is not row
    ]
    if any(is_even(own, row) for own, row in pairs):
        notes.append("gains in brackets: no clear difference, within the spread over seeds")
    if any(min(own.n, row.n) < 2 for own, row in pairs):
        notes.append("one seed: the spread is unknown, and the gains may be chance")
    return notes


def _equivalent(report: Report, equivalent: Equivalent) -> str:
    who = clean(panel_name(report, *panel_of(equivalent)))
    untold = why_untold(report, equivalent)
    if untold:
        return f"{who}: worth in random real images per class unknown: {untold}"
    ipc = own_ipc(report, equivalent)
    ends = interval(report, equivalent, lambda value: f"{value:.0f}")
    even = ends and tone(equivalent, ipc) == "even"
    alike = "" if equivalent.labels == "hard" else ", labelled alike"
    return (
        f"{who}: worth {bound(equivalent, ipc)}"
        f"{equivalent.ipc:.0f} random real images per class{alike}"
        f"{f' (95 %: {ends})' if ends else ''}{', no clear difference' if even else ''}"
    )
