"""Prints what `files_alone.py` measured of several sets as one table.

python -m tests.benchmarks.judged classic-cifar10-1.json classic-cifar10-10.json
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

IMAGES = ("distilled", "random", "k-centre", "easy")


def lines(path: Path) -> list[str]:
    """A markdown row for each student and kind of labels: percent, mean ± deviation over seeds."""
    found = json.loads(path.read_text())
    scores: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in found["rows"]:
        scores[row["student"], row["labels"]][row["images"]].append(100 * row["top1"])
    ipc, recipe = found["rows"][0]["ipc"], found["recipe"]["name"]
    return [
        f"| {found['dataset']} | {ipc} | {recipe} | {student} | {labels} | "
        f"{' | '.join(_cell(of_images[name]) for name in IMAGES)} |"
        for (student, labels), of_images in scores.items()
    ]


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


if __name__ == "__main__":
    print(f"| dataset | IPC | recipe | student | labels | {' | '.join(IMAGES)} |")
    print("|---|---:|---|---|---|" + "---:|" * len(IMAGES))
    for argument in sys.argv[1:]:
        print(*lines(Path(argument)), sep="\n")
