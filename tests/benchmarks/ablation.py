"""What each part of synthesis is worth: one change at a time from the defaults with free weights,
students on real data.

    python -m tests.benchmarks.ablation --dataset cifar10 --teacher RUN/teacher -o ablation.json

For every setting and seed a set is distilled and students are trained on it: with hard labels each
--student, with a teacher that labels every batch the first one. Random real images, drawn anew per
seed, get the same students, steps and seeds, also at two and four times the images per class: the
equivalent number of random images is read off that curve. Rows are written as they are found; the
same command goes on where it was. `--only NAME` computes a part, `--show` prints the table.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm.auto import tqdm

from tests.benchmarks.distilling import DEFAULT, Budget, Setting, command, known_rows, opened
from wdistill.artifact import write_json

NONE = ("none",)
PAPER = replace(
    DEFAULT, init="noise", feature_spaces=NONE, ce_weight=0, whole_share=0, lr=0.1, iterations=1000
)
PLAIN = replace(DEFAULT, feature_spaces=NONE, ce_weight=0)
SETTINGS = {
    "base: free weights": Setting(),
    "default: uniform weights": Setting(weights="uniform"),
    "0 steps: the medoids": Setting(replace(DEFAULT, iterations=0)),
    "start: mean": Setting(replace(DEFAULT, init="mean")),
    "start: noise": Setting(replace(DEFAULT, init="noise")),
    "no random ConvNets": Setting(replace(DEFAULT, feature_spaces=NONE)),
    "50 steps": Setting(replace(DEFAULT, iterations=50)),
    "no statistics": Setting(replace(DEFAULT, bn_weight=0)),
    "no cross-entropy": Setting(replace(DEFAULT, ce_weight=0)),
    "crops alone": Setting(replace(DEFAULT, whole_share=0)),
    "pixels, lr 0.01": Setting(replace(DEFAULT, lr=0.01), spectrum=False),
    "paper: noise, uniform, pixels, no cross-entropy, lr 0.1, 1000 steps": Setting(
        PAPER, "uniform", False
    ),
    "1000 steps": Setting(replace(DEFAULT, iterations=1000)),
    "no random ConvNets, no cross-entropy": Setting(PLAIN),
    "no random ConvNets, no cross-entropy, statistics of all classes together": Setting(
        PLAIN, whole=True
    ),
}


def contests(students: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    """(student, teacher online) of every regime."""
    yield from ((student, False) for student in students)
    yield students[0], True


def equivalent(score: float, curve: dict[int, float]) -> str:
    """The IPC at which random real images reach ``score``, by interpolation in log IPC."""
    known = sorted(curve.items())
    if score < known[0][1]:
        return f"< {known[0][0]} random"
    for (low, a), (high, b) in pairwise(known):
        if score < b:
            return f"= {low * (high / low) ** ((score - a) / (b - a)):.0f} random"
    return f"> {known[-1][0]} random"


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: mean and standard deviation per setting and regime, and equivalent numbers."""
    groups: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        regime = f"{row['student']}, {'teacher' if row['teacher'] else 'hard'}"
        groups.setdefault(row["setting"], {}).setdefault(regime, []).append(100 * row["top1"])
    regimes = sorted({regime for group in groups.values() for regime in group})
    lines = ["| images | " + " | ".join(regimes) + " |", "|---|" + "---:|" * len(regimes)]
    curves: dict[str, dict[int, float]] = {regime: {} for regime in regimes}
    for name, group in groups.items():
        if name.startswith("random, IPC "):
            for regime, values in group.items():
                curves[regime][int(name.split()[-1])] = float(np.mean(values))
    for name, group in groups.items():
        cells = []
        for regime in regimes:
            values = group.get(regime, [])
            spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
            worth = ""
            if values and not name.startswith("random") and len(curves[regime]) > 1:
                worth = f" ({equivalent(float(np.mean(values)), curves[regime])})"
            cells.append(f"{np.mean(values):.1f}{spread}{worth}" if values else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@command
@click.option("--seeds", default=3, show_default=True)
@click.option("--first-seed", default=0, show_default=True)
@click.option("--student", "students", multiple=True, default=("resnet10-w16", "convnet"))
@click.option("--steps", default=400, show_default=True, help="of a student with hard labels")
@click.option("--online-steps", default=1000, show_default=True)
@click.option("--lr", default=1e-3, show_default=True)
@click.option("--online-lr", default=3e-3, show_default=True)
@click.option("--only", multiple=True, help="names of settings, or 'random'")
def main(
    dataset: str, teacher: str, ipc: int, seeds: int, first_seed: int, students: tuple[str, ...],
    steps: int, online_steps: int, lr: float, online_lr: float, only: tuple[str, ...], device: str,
    threads: int | None, show: bool, output: Path,
) -> None:  # fmt: skip
    rows = known_rows(output)
    if show:
        click.echo(table(rows))
        return
    bench = opened(dataset, teacher, ipc, device, threads)
    budget = Budget(steps, online_steps, lr, online_lr)
    done = {(r["setting"], r["seed"], r["student"], r["teacher"]) for r in rows}
    names = [*(f"random, IPC {k * ipc}" for k in (1, 2, 4)), *SETTINGS]
    wanted = [n for n in names if not only or n in only or ("random" in only and "random, " in n)]
    jobs = [
        (name, seed)
        for seed in range(first_seed, first_seed + seeds)
        for name in wanted
        if any((name, seed, *contest) not in done for contest in contests(students))
    ]
    header = bench.header(budget=vars(budget))
    for name, seed in tqdm(jobs, unit="set"):
        began = time.perf_counter()
        if name in SETTINGS:
            images, weights = bench.distil(SETTINGS[name], seed)
        else:
            images, weights = bench.random(int(name.split()[-1]), seed)
        seconds = time.perf_counter() - began
        for student, online in contests(students):
            if (name, seed, student, online) in done:
                continue
            config = budget.config(len(images), online)
            top1 = bench.score(images, weights, student, online, config, seed)
            row = {"setting": name, "seed": seed, "student": student, "teacher": online}
            rows.append({**row, "top1": top1, "seconds": round(seconds, 1)})
            write_json(output, {**header, "rows": rows})
    click.echo(table(rows))


if __name__ == "__main__":
    main()
