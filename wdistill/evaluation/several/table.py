"""Several sets in one table: accuracies, sizes and what they cost to make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wdistill.artifact.claims.differences import is_even
from wdistill.artifact.claims.optimizers import Survival, survivals
from wdistill.artifact.report import (
    Panel,
    Report,
    ResultRow,
    gain_over,
    panel_name,
    panel_of,
    panel_rows,
    panels,
    row_of,
)
from wdistill.core.text import Shown, clean, human_bytes, human_seconds
from wdistill.evaluation.wording import signed, spread


@dataclass(frozen=True, eq=False)
class Entry:
    """One set.

    Attributes:
        name: Of its folder on this page, unlike those of the others.
        seconds: That it took to make it, where that is known.
        picture: (H, W, 3), on the main process.
    """

    name: str
    report: Report
    seconds: float | None = None
    picture: NDArray[np.uint8] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Line:
    """A line of the table: a set with one student, one kind of labels and one optimiser.

    Attributes:
        random: The row of as many random real images, if they were tried.
        bits: Of images and labels, per class.
        survival: Whether its gain survives the other optimiser, if there is one.
    """

    name: str
    row: ResultRow
    random: ResultRow | None
    bits: int
    seconds: float | None
    survival: Survival | None = None

    @property
    def accuracy(self) -> str:
        return f"{spread(self.row.top1_mean, self.row.top1_std, self.row.n)} (n = {self.row.n})"

    @property
    def over_random(self) -> str:
        """The difference in percentage points; in brackets where it is within the spread."""
        if self.random is None:
            return ""
        gain = signed(gain_over(self.row, self.random))
        return f"({gain})" if is_even(self.row, self.random) else gain

    @property
    def cost(self) -> str:
        return "" if self.seconds is None else human_seconds(self.seconds)


@dataclass(frozen=True, eq=False)
class SideBySide(Shown):
    """Several sets, in the order in which they were given. As text it is their table."""

    entries: tuple[Entry, ...]

    def lines(self) -> list[Line]:
        """A line for each set, grouped by student, labels and optimiser, the best first in each
        group.
        """
        return [line for panel in self.panels() for line in self._group(panel)]

    def panels(self) -> list[Panel]:
        """Of all reports."""
        return list(
            dict.fromkeys(panel for entry in self.entries for panel in panels(entry.report))
        )

    def _group(self, panel: Panel) -> list[Line]:
        lines = []
        for entry in self.entries:
            rows = panel_rows(entry.report, *panel)
            own = row_of(rows, "distilled")
            if own is not None:
                bits = 8 * own.bytes // len(entry.report.source.classes)
                survives = next(
                    (s for s in survivals(entry.report) if (s.student, s.labels) == panel[:2]), None
                )
                random = row_of(rows, "random")
                lines.append(Line(entry.name, own, random, bits, entry.seconds, survives))
        return sorted(lines, key=lambda line: -line.row.top1_mean)

    def comparable(self) -> list[str]:
        """The lines about published numbers, each once."""
        return list(dict.fromkeys(entry.report.comparable for entry in self.entries))

    def numbers(self) -> list[dict[str, Any]]:
        """The lines as plain values, for a file."""
        return [
            {
                "set": line.name,
                "student": line.row.student,
                "labels": line.row.labels,
                "optimizer": line.row.optimizer,
                "gain_survives": line.survival.word if line.survival else None,
                "ipc": line.row.ipc,
                "top1": list(line.row.top1),
                "top1_random": None if line.random is None else list(line.random.top1),
                "bytes": line.row.bytes,
                "bits_per_class": line.bits,
                "construction_seconds": line.seconds,
                "steps": line.row.steps,
            }
            for line in self.lines()
        ]

    def __str__(self) -> str:
        return "\n".join([*self._text(), *self.survivals(), *self.comparable()])

    def survivals(self) -> list[str]:
        """Of each set, whether its gains under one optimiser survive the other."""
        return [
            f"{clean(entry.name)}, {clean(each.student)}, {each.labels} labels: {each}"
            for entry in self.entries
            for each in survivals(entry.report)
        ]

    def _text(self) -> Iterator[str]:
        lines = self.lines()
        width = max([3, *(len(clean(line.name)) for line in lines)])
        panel: Panel | None = None
        head = f"{'set':{width}}  {'IPC':>4}  {'top-1':>21}  over random  {'bytes':>9}  "
        for line in lines:
            if panel != panel_of(line.row):
                panel = panel_of(line.row)
                name = panel_name(self.entries[0].report, *panel)
                yield f"{clean(name)}, {line.row.steps:,} steps"
                yield f"{head}bits a class  made in"
            yield (
                f"{clean(line.name):{width}}  {line.row.ipc:>4}  {line.accuracy:>21}  "
                f"{line.over_random:>11}  {human_bytes(line.row.bytes):>9}  {line.bits:>12,}  "
                f"{line.cost}"
            ).rstrip()
