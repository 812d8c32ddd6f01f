"""The result of a report in one sentence, and how it was measured; losses are stated as plainly as
gains.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from wdistill.artifact.claims.differences import Verdict, caveats, is_even
from wdistill.artifact.claims.optimizers import doubts
from wdistill.artifact.claims.worth import interval, tone, verdict, why_untold
from wdistill.artifact.report import (
    Equivalent,
    Panel,
    Report,
    ResultRow,
    gain_over,
    optimizers_of,
    panel_equivalents,
    panel_of,
    panel_rows,
    panels,
    row_of,
)
from wdistill.core.text import NO_BREAK
from wdistill.evaluation.page.plot_style import count, labels_name
from wdistill.evaluation.wording import ONE_SEED, score, untold

TONES: dict[Verdict, str] = {
    "gain": "a gain",
    "even": "no clear difference",
    "loss": "a loss",
    "unknown": "not known",
}
_WORSE = ": random real images are the better choice here"


@dataclass(frozen=True)
class Headline:
    """lead: the result in one sentence; tone: its verdict; details: how it was measured."""

    lead: str
    tone: Verdict
    details: str


def headline(report: Report) -> Headline:
    panel = main_panel(report)
    rows = panel_rows(report, *panel) if panel else []
    distilled = row_of(rows, "distilled")
    if panel is None or distilled is None:
        lead = "No student was trained on the distilled images, so nothing is known of their worth."
        return Headline(lead, "unknown", "")
    seeds = f"{distilled.n} seed{'s' if distilled.n != 1 else ''}"
    several = len(optimizers_of(report.rows)) > 1
    under = f", {panel.optimizer}" if several else ""
    details = f"Student {panel.student}, {labels_name(panel.labels)}{under}, {seeds}."
    equivalents = report.equivalents
    if len(equivalents) > 1:
        tones = Counter(verdict(report, *panel_of(each)) for each in equivalents)
        counts = (
            f"{words} in {tones[key]} of {len(equivalents)}"
            for key, words in TONES.items()
            if tones[key]
        )
        combined = "student, labels and optimiser" if several else "student and labels"
        details += f" Over all combinations of {combined}: {', '.join(counts)}."
    details += "".join(
        f" Its worth in random real images is unknown: {why}." for why in untold(report, *panel)
    )
    lead = _lead(report, panel, distilled, row_of(rows, "random"))
    limits = [*caveats(report, *panel), *doubts(report, *panel)]
    lead += "".join(f" But {limit}." for limit in limits)
    return Headline(lead, verdict(report, *panel), details)


def _lead(report: Report, panel: Panel, distilled: ResultRow, random: ResultRow | None) -> str:
    for equivalent in panel_equivalents(report, *panel):
        if not why_untold(report, equivalent):
            return _equivalent_sentence(report, equivalent, distilled.ipc)
    return _by_accuracy(distilled, random)


def main_panel(report: Report) -> Panel | None:
    """The student, labels and optimiser of the headline: the first with an equivalent IPC,
    otherwise the first with a row for the distilled images.
    """
    candidates = [each for each in panels(report) if row_of(panel_rows(report, *each), "distilled")]
    equivalents = [panel_of(equivalent) for equivalent in report.equivalents]
    return next(
        (panel for panel in equivalents if panel in candidates),
        candidates[0] if candidates else None,
    )


def _equivalent_sentence(report: Report, equivalent: Equivalent, ipc: float) -> str:
    found, real = tone(equivalent, ipc), _images(equivalent.ipc, "random real image")
    real += "" if equivalent.labels == "hard" else ", labelled alike"
    these = f"these {_images(ipc)} train" if count(ipc) != "1" else "this 1 image per class trains"
    upper = these[0].upper() + these[1:]
    if equivalent.bound == "at_least" and found == "gain":
        return f"{upper} a student at least as well as {real}, the most that were tried."
    if equivalent.bound == "at_most" and found == "loss":
        return f"{upper} a student no better than {real}, the fewest that were tried{_WORSE}."
    ends = interval(report, equivalent, count)
    ends = ends and f" (95{NO_BREAK}% interval: {ends})"
    if found == "even":
        return f"No clear difference: {these} a student as well as about {real}{ends}."
    only, end = ("only ", _WORSE) if found == "loss" else ("", "")
    return f"{upper} a student {only}as well as about {real}{ends}{end}."


def _by_accuracy(distilled: ResultRow, random: ResultRow | None) -> str:
    """The sentence without an equivalent IPC."""
    these = f"{_images(distilled.ipc)} bring{'s' if distilled.ipc == 1 else ''} a student"
    lead = f"{these} to {score(distilled)} top-1 accuracy"
    if random is None:
        return f"{lead}; random real images were not tried beside them."
    points = gain_over(distilled, random)
    beside = f"as many random real images: {score(random)}"
    if is_even(distilled, random):
        return f"{lead}, {beside}. That is no clear difference."
    doubt = f"; {ONE_SEED}" if min(distilled.n, random.n) < 2 else ""
    if points == 0:
        return f"{lead}, {beside}{doubt}."
    word, end = ("better", "") if points > 0 else ("worse", _WORSE)
    return f"{lead}, {abs(points):.1f} points {word} than {beside}{doubt or end}."


def _images(ipc: float, kind: str = "image") -> str:
    return f"{count(ipc)} {kind}{'' if count(ipc) == '1' else 's'} per class"
