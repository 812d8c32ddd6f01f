"""Print the main README's table of results from run folders or from results/.

python -m tests.benchmarks.table runs/cifar10-ipc1 runs/cifar10-ipc10 runs/cifar10-ipc50
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from wdistill.artifact.layout import one_set


def lines(folder: Path) -> list[str]:
    """One markdown row per kind of label."""
    root = one_set(folder)
    manifest = json.loads((root / "wdistill.json").read_text())
    report = json.loads((root / "report.json").read_text())
    name = f"{manifest['source']['pretty_name'] or manifest['source']['id']}"
    w2, random_w2 = (
        sum(values) / len(values)
        for values in (manifest["barycenter"]["w2"], manifest["barycenter"]["w2_random"])
    )
    rows = {
        (row["labels"], row["images"]): row
        for row in report["rows"]
        if row["images"] != "random" or row["ipc"] == manifest["ipc"]
    }
    made = []
    for labels in ("hard", "soft", "teacher"):
        if (labels, "distilled") not in rows:
            continue
        ours, random = rows[labels, "distilled"], rows[labels, "random"]
        scores = [f"{100 * r['top1_mean']:.1f} ± {100 * r['top1_std']:.1f}" for r in (ours, random)]
        gain = f"{100 * (ours['top1_mean'] - random['top1_mean']):+.1f}".replace("-", "−")
        made.append(
            f"| {name} | {manifest['ipc']} | {labels} | {scores[0]} | {scores[1]} | {gain} "
            f"| {w2:.2f} | {random_w2:.2f} |"
        )
    return made


if __name__ == "__main__":
    print("| dataset | IPC | labels | distilled | random real | gain | W2² atoms | W2² random |")
    print("|---|---:|---|---:|---:|---:|---:|---:|")
    for argument in sys.argv[1:]:
        print(*lines(Path(argument)), sep="\n")
