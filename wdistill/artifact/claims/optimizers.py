"""Whether a gain over random real images survives another optimiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wdistill.artifact.claims.differences import Verdict, verdict_by_accuracy
from wdistill.artifact.report import Report, gain_over, optimizers_of, panel_rows, panels, row_of

Survives = Literal["yes", "not clear", "no", "unknown", "no gain"]


@dataclass(frozen=True)
class Gain:
    """Of the distilled over as many random real images under one optimiser.

    Attributes:
        points: Of accuracy, in percent; None where one of the two was not tried.
        found: What may be said of it.
    """

    optimizer: str
    points: float | None
    found: Verdict

    def __str__(self) -> str:
        """``+1.2 points under SGD``, or what is missing."""
        if self.points is None:
            return f"not tried under {self.optimizer}"
        points = f"{self.points:+z.1f}".replace("-", "−")
        signed = points if points.strip("+0.") else points[1:]  # zero has no sign
        return f"{signed} points under {self.optimizer}"


@dataclass(frozen=True)
class Survival:
    """The gains of one kind of students with one kind of labels, one for each optimiser."""

    student: str
    labels: str
    gains: tuple[Gain, ...]

    def _under(self, *found: Verdict) -> list[str]:
        return [gain.optimizer for gain in self.gains if gain.found in found]

    @property
    def word(self) -> Survives:
        """Whether a gain under one optimiser is one under the other, too."""
        if self._under("unknown"):
            return "unknown"
        if not self._under("gain"):
            return "no gain"
        if self._under("loss"):
            return "no"
        return "not clear" if self._under("even") else "yes"

    @property
    def clause(self) -> str:
        """The same as a clause, by the rule by which a gain is told from chance."""
        clear, even, loss = (" and ".join(self._under(v)) for v in ("gain", "even", "loss"))
        if self.word == "unknown":
            return f"whether a gain holds under both optimisers is not known: {self._why()}"
        if self.word == "yes":
            return "the gain holds under both optimisers"
        if self.word == "no gain":
            if not even:
                return "a loss under both optimisers"
            clear_loss = f", and under {loss} it is a loss" if loss else ""
            return f"no gain is clear under either optimiser{clear_loss}"
        other = f"is a loss under {loss}" if loss else f"is not clear under {even}"
        return f"the gain under {clear} {other}"

    def _why(self) -> str:
        missing = [gain.optimizer for gain in self.gains if gain.points is None]
        if missing:
            return f"it was not measured under {' and '.join(missing)}"
        return "one seed does not show what is chance"

    def __str__(self) -> str:
        """``+3.1 points under AdamW, +0.4 points under SGD: the gain ...``."""
        return f"{', '.join(map(str, self.gains))}: {self.clause}"


def survivals(report: Report) -> list[Survival]:
    """One for each student and kind of labels; none of a report with one optimiser, or without
    random real images.
    """
    optimizers = optimizers_of(report.rows)
    if len(optimizers) < 2:
        return []
    pairs = dict.fromkeys((panel.student, panel.labels) for panel in panels(report))
    found = [
        Survival(*pair, tuple(_gain(report, *pair, optimizer) for optimizer in optimizers))
        for pair in pairs
    ]
    return [each for each in found if any(gain.points is not None for gain in each.gains)]


def _gain(report: Report, student: str, labels: str, optimizer: str) -> Gain:
    rows = panel_rows(report, student, labels, optimizer)
    own, random = row_of(rows, "distilled"), row_of(rows, "random")
    points = gain_over(own, random) if own and random else None
    return Gain(optimizer, points, verdict_by_accuracy(report, student, labels, optimizer))


def doubts(report: Report, student: str, labels: str, optimizer: str) -> list[str]:
    """What another optimiser leaves of a gain under this one, a clause; nothing where there is no
    gain, no other optimiser, or where the gain holds under both.
    """
    for each in survivals(report):
        own = [gain for gain in each.gains if gain.optimizer == optimizer and gain.found == "gain"]
        if (each.student, each.labels) == (student, labels) and own and each.word != "yes":
            return [each.clause]
    return []
