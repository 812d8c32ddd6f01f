"""Several sets in one table: accuracies, sizes and what they cost to make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wdistill.artifact.claims.differences import is_even
from wdistill.artifact.report import Report, ResultRow, gain_over, panel_rows, row_of
from wdistill.core.text import Shown, clean, human_bytes, human_seconds
from wdistill.evaluation.wording import panels, signed, spread


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
    """A line of the table: a set with one student and one kind of labels.

    Attributes:
        random: The row of as many random real images, if they were tried.
        bits: Of images and labels, per class.
    """

    name: str
    row: ResultRow
    random: ResultRow | None
    bits: int
    seconds: float | None

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
        """A line for each set, grouped by student and labels, the best first in each group."""
        pairs = dict.fromkeys(pair for entry in self.entries for pair in panels(entry.report))
        return [line for pair in pairs for line in self._group(pair)]

    def _group(self, pair: tuple[str, str]) -> list[Line]:
        lines = []
        for entry in self.entries:
            rows = panel_rows(entry.report, *pair)
            own = row_of(rows, "distilled")
            if own is not None:
                bits = 8 * own.bytes // len(entry.report.source.classes)
                lines.append(Line(entry.name, own, row_of(rows, "random"), bits, entry.seconds))
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
        return "\n".join([*self._text(), *self.comparable()])

    def _text(self) -> Iterator[str]:
        lines = self.lines()
        width = max([3, *(len(clean(line.name)) for line in lines)])
        pair: tuple[str, str] | None = None
        head = f"{'set':{width}}  {'IPC':>4}  {'top-1':>21}  over random  {'bytes':>9}  "
        for line in lines:
            if pair != (line.row.student, line.row.labels):
                pair = (line.row.student, line.row.labels)
                yield f"{clean(pair[0])}, {pair[1]} labels, {line.row.steps:,} steps"
                yield f"{head}bits a class  made in"
            yield (
                f"{clean(line.name):{width}}  {line.row.ipc:>4}  {line.accuracy:>21}  "
                f"{line.over_random:>11}  {human_bytes(line.row.bytes):>9}  {line.bits:>12,}  "
                f"{line.cost}"
            ).rstrip()
