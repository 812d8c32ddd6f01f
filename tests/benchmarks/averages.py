"""Whether the mean of the last iterates of synthesis is worth more than the last one.

    python -m tests.benchmarks.averages --dataset cifar10 --teacher RUN/teacher -o averages.json

The default synthesis runs once per seed and keeps exponential moving averages of the coefficients
that Adam moves, z_bar = (1 - d) / (1 - d^T) * sum_t d^(T - t) z_t over its T steps. Students of
--student are trained on every average and on the last iterate as in the ablation. Rows are written
as they are found; the same command goes on where it was. `--show` prints the tables.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from tests.benchmarks.ablation import contests, table
from tests.benchmarks.distilling import DEFAULT, Bench, Budget, Setting, command, known_rows, opened
from wdistill.core.files import write_json
from wdistill.data.pixels import to_uint8
from wdistill.synthesis.spectrum import Spectrum

DECAYS = (0.9, 0.99)
LAST = "last iterate"


@dataclass(frozen=True)
class Averaging(Spectrum):
    """A spectrum that sees every iterate of one synthesis, the start first, and averages them."""

    sums: dict[float, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> Averaging:
        return self

    def coefficients(self, pixels: Tensor) -> Tensor:
        found = super().coefficients(pixels)
        for decay in DECAYS:
            if decay in self.sums:
                self.sums[decay] = decay * self.sums[decay] + (1 - decay) * found
            else:
                self.sums[decay] = torch.zeros_like(found)
        return found

    def average(self, decay: float, steps: int) -> Tensor:
        """(B, 3, R, R) uint8."""
        return to_uint8(self.pixels(self.sums[decay] / (1 - decay**steps)).clamp(0, 1))


def distil(bench: Bench, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Pixels by name, and weights."""
    averaging = Averaging(**vars(bench.spectrum))
    problem = bench.problem(Setting(weights="uniform"), seed)
    last, weights = bench.synthesise(problem, DEFAULT, seed, averaging), problem.weights
    means = {f"average, {d}": averaging.average(d, DEFAULT.iterations) for d in DECAYS}
    return {LAST: last, **means}, weights


def gains(rows: list[dict[str, Any]]) -> str:
    """Markdown: points above the last iterate of the same seed, mean and standard error."""
    scores: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        regime = f"{row['student']}, {'teacher' if row['teacher'] else 'hard'}"
        scores.setdefault((row["setting"], regime), {})[row["seed"]] = 100 * row["top1"]
    names = sorted({name for name, _ in scores} - {LAST})
    regimes = sorted({regime for _, regime in scores})
    lines = ["| gain | " + " | ".join(regimes) + " |", "|---|" + "---:|" * len(regimes)]
    for name in names:
        entries = []
        for regime in regimes:
            ours, last = scores.get((name, regime), {}), scores.get((LAST, regime), {})
            found = [ours[seed] - last[seed] for seed in ours if seed in last]
            error = np.std(found, ddof=1) / len(found) ** 0.5 if len(found) > 1 else None
            spread = "" if error is None else f" ± {error:.1f}"
            entries.append(f"{np.mean(found):+.1f}{spread}" if found else "")
        lines.append(f"| {name} | " + " | ".join(entries) + " |")
    return "\n".join(lines)


@command
@click.option("--seeds", default=3, show_default=True)
@click.option("--student", "students", multiple=True, default=("resnet10-w16", "convnet-w64"))
def main(
    dataset: str, teacher: str, ipc: int, seeds: int, students: tuple[str, ...], device: str,
    threads: int | None, show: bool, output: Path,
) -> None:  # fmt: skip
    rows = known_rows(output)
    if show:
        click.echo(f"{table(rows)}\n\n{gains(rows)}")
        return
    bench = opened(dataset, teacher, ipc, device, threads)
    budget = Budget(400, 1000, 1e-3, 3e-3)
    header = bench.header(budget=vars(budget))
    done = {(r["setting"], r["seed"], r["student"], r["teacher"]) for r in rows}
    for seed in tqdm(range(seeds), unit="seed"):
        names = (LAST, *(f"average, {decay}" for decay in DECAYS))
        jobs = [
            (name, student, online) for name in names for student, online in contests(students)
            if (name, seed, student, online) not in done
        ]  # fmt: skip
        if not jobs:
            continue
        sets, weights = distil(bench, seed)
        for name, student, online in jobs:
            config = budget.config(len(weights), online)
            top1 = bench.score(sets[name], weights, student, online, config, seed)
            row = {"setting": name, "seed": seed, "student": student, "teacher": online}
            rows.append({**row, "top1": top1})
            write_json(output, {**header, "rows": rows})
    click.echo(f"{table(rows)}\n\n{gains(rows)}")


if __name__ == "__main__":
    main()
