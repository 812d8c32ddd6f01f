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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import click
import numpy as np
from torch import Tensor
from tqdm.auto import tqdm

from tests.benchmarks.distilling import DEFAULT, Bench, Budget, Setting, command, known_rows, opened
from wdistill.core.files import write_json

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


Distil = Callable[[Bench, int], tuple[Tensor, Tensor]]  # of a seed: pixels and weights


def distilled(setting: Setting, bench: Bench, seed: int) -> tuple[Tensor, Tensor]:
    return bench.distil(setting, seed)


def randoms(ipc: int, bench: Bench, seed: int) -> tuple[Tensor, Tensor]:
    return bench.random(ipc, seed)


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


def measured(settings: Mapping[str, Distil]) -> click.Command:
    """The command that measures random images and ``settings``."""

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
        dataset: str, teacher: str, ipc: int, seeds: int, first_seed: int,
        students: tuple[str, ...], steps: int, online_steps: int, lr: float, online_lr: float,
        only: tuple[str, ...], device: str, threads: int | None, show: bool, output: Path,
    ) -> None:  # fmt: skip
        rows = known_rows(output)
        if not show:
            bench = opened(dataset, teacher, ipc, device, threads)
            random = {f"random, IPC {k * ipc}": partial(randoms, k * ipc) for k in (1, 2, 4)}
            every: dict[str, Distil] = {**random, **settings}
            wanted = [
                n for n in every if not only or n in only or (n in random and "random" in only)
            ]
            jobs = list(product(range(first_seed, first_seed + seeds), wanted))
            budget = Budget(steps, online_steps, lr, online_lr)
            measure(bench, every, jobs, students, budget, rows, output)
        click.echo(table(rows))

    return main


def measure(
    bench: Bench, settings: Mapping[str, Distil], jobs: list[tuple[int, str]],
    students: tuple[str, ...], budget: Budget, rows: list[dict[str, Any]], output: Path,
) -> None:  # fmt: skip
    """Append what each job (seed, setting) is worth to ``rows`` and write them, known ones kept."""
    header = bench.header(budget=vars(budget))
    done = {(r["setting"], r["seed"], r["student"], r["teacher"]) for r in rows}
    for seed, name in tqdm(jobs, unit="set"):
        missing = [c for c in contests(students) if (name, seed, *c) not in done]
        if not missing:
            continue
        began = time.perf_counter()
        images, weights = settings[name](bench, seed)
        seconds = round(time.perf_counter() - began, 1)
        for student, online in missing:
            config = budget.config(len(images), online)
            top1 = bench.score(images, weights, student, online, config, seed)
            row = {"setting": name, "seed": seed, "student": student, "teacher": online}
            rows.append({**row, "top1": top1, "seconds": seconds})
            write_json(output, {**header, "rows": rows})


main = measured({name: partial(distilled, setting) for name, setting in SETTINGS.items()})

if __name__ == "__main__":
    main()
