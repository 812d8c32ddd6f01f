"""Evaluate several sets against the same real images, and put them on one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wdistill.artifact.report import Report
from wdistill.config import EvaluateConfig, RuntimeConfig
from wdistill.core.files import atomic_write, write_json
from wdistill.errors import DataError, OptionError
from wdistill.evaluation.comparison import Comparison
from wdistill.evaluation.evaluate import Output, judge
from wdistill.evaluation.several.page import render_page
from wdistill.evaluation.several.table import Entry, SideBySide

PAGE_FILE = "comparison.html"
NUMBERS_FILE = "comparison.json"
WORK = "work"  # students that several sets share, such as those of random real images
MOSAIC = 10  # classes in a set's picture, one image of each


@dataclass
class _Seen:
    """What a report does not have: a picture of the set, and what it cost to make."""

    picture: NDArray[np.uint8] | None = None
    seconds: float | None = None

    def __call__(self, comparison: Comparison) -> None:
        self.picture = mosaic(comparison)
        self.seconds = comparison.construction


def default_output(sources: Sequence[str]) -> Path:
    """``reports/<names of the sets>``."""
    return Path("reports") / "-".join(folder_names(sources))[:100]


def folder_names(sources: Sequence[str]) -> list[str]:
    """The last part of each source; those that would be the same are numbered."""
    names = [Path(source.rstrip("/")).name or "set" for source in sources]
    return [
        name if names.count(name) == 1 else f"{name}-{names[: place + 1].count(name)}"
        for place, name in enumerate(names)
    ]


def compare_sets(
    sources: Sequence[str],
    config: EvaluateConfig,
    runtime: RuntimeConfig,
    folder: Path,
    command: str,
) -> SideBySide:
    """Evaluate each of ``sources`` as :func:`judge` does, with the settings of ``config``.

    Random real images in equal numbers are trained on once for all sets. Each set has its own
    report in a folder of its name; ``comparison.html`` and ``comparison.json`` have all of them.

    Args:
        sources: Two or more sets.
        config: Settings for all of them; its source is not used.
        runtime: Device, workers, progress bars.
        folder: Of the page.
        command: For the reports.

    Raises:
        OptionError: A set is named twice.
        DataError: The real images of two sets differ.
        WdistillError: As for one set.
    """
    twice = next((source for source in sources if list(sources).count(source) > 1), None)
    if twice is not None:
        raise OptionError(f"SOURCE {twice!r} is given twice; name each set once")
    entries = []
    for source, name in zip(sources, folder_names(sources), strict=True):
        seen = _Seen()
        report = judge(
            replace(config, source=source),
            runtime,
            Output(folder / name, folder / WORK, seen),
            command,
        )
        entries.append(Entry(name, report, seen.seconds, seen.picture))
        _check_same(entries[0].report, report)
    result = SideBySide(tuple(entries))
    if entries[0].picture is not None:  # on the main process alone
        write_json(folder / NUMBERS_FILE, result.numbers())
        atomic_write(folder / PAGE_FILE, render_page(result).encode())
    return result


def _check_same(first: Report, other: Report) -> None:
    """Raise DataError unless both were compared with the same real images."""
    for name in ("fingerprint", "eval_images", "train_images"):
        if getattr(first.against, name) != getattr(other.against, name):
            raise DataError(
                f"{first.source.id!r} was evaluated against {first.against.id!r} and "
                f"{other.source.id!r} against {other.against.id!r}, which are not the same images; "
                "name one for all with `against.dataset`"
            )


def mosaic(comparison: Comparison) -> NDArray[np.uint8]:
    """(H, W, 3): the first image of each of the first classes in a line, on white."""
    labels, pixels = comparison.candidate.labels, comparison.candidate.pixels
    tiles = []
    for label in range(min(MOSAIC, comparison.classes)):
        rows = (labels == label).nonzero()[:, 0]
        if len(rows):
            tiles.append(pixels[rows[0]].permute(1, 2, 0).numpy())
    gap = np.full((tiles[0].shape[0], 2, 3), 255, np.uint8)
    parts = [part for tile in tiles for part in (tile, gap)]
    return np.concatenate(parts[:-1], axis=1)
