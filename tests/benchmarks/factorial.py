"""What the choices of synthesis are worth together: every combination of five of them.

    python -m tests.benchmarks.factorial --dataset cifar10 --teacher RUN/teacher -o factorial.json

Start, weights, statistics, cross-entropy and steps: 72 cells, without random ConvNets, everything
else as by default. Each cell has one seed, (sum of its levels) mod 3, so that every level of every
factor sees each of the three seeds equally often. Few steps come first, in a random order. Rows are
written as they are found; the same command goes on where it was. `--show` prints the effects (least
squares of the accuracy on all factors, the interactions of `PAIRS` and the seed, each effect the
difference from the mean, with its standard error from what the model leaves unexplained) and the
means of the cells that share start, statistics and steps.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm.auto import tqdm

from tests.benchmarks.distilling import DEFAULT, Budget, Setting, command, known_rows, opened
from wdistill.core.files import write_json

FACTORS: dict[str, tuple[str, ...]] = {
    "start": ("noise", "real"),
    "weights": ("uniform", "free"),
    "statistics": ("class", "all classes", "none"),
    "cross-entropy": ("on", "off"),
    "steps": ("50", "200", "1000"),
}
PAIRS = (
    ("start", "steps"),
    ("start", "statistics"),
    ("statistics", "steps"),
    ("statistics", "cross-entropy"),
)
STUDENT = "resnet10-w16"
Cell = dict[str, str]


def cells() -> list[Cell]:
    """All of them: those of 50 and 200 steps in a random order, then those of 1,000."""
    found = [dict(zip(FACTORS, levels, strict=True)) for levels in product(*FACTORS.values())]
    random.Random(0).shuffle(found)
    return sorted(found, key=lambda cell: cell["steps"] == "1000")


def seed_of(cell: Cell) -> int:
    return sum(FACTORS[name].index(level) for name, level in cell.items()) % 3


def setting(cell: Cell) -> Setting:
    synthesis = replace(
        DEFAULT,
        init=cell["start"],  # type: ignore[arg-type]
        feature_spaces=("none",),
        bn_weight=0.0 if cell["statistics"] == "none" else DEFAULT.bn_weight,
        ce_weight=DEFAULT.ce_weight if cell["cross-entropy"] == "on" else 0.0,
        iterations=int(cell["steps"]),
    )
    return Setting(synthesis, cell["weights"], whole=cell["statistics"] == "all classes")


@dataclass(frozen=True)
class Effect:
    """Difference of the cells of a level, or of a pair of levels beyond both, from the mean."""

    name: str
    levels: tuple[str, ...]
    value: float
    error: float


def contrasts(count: int) -> np.ndarray:
    """(count, count - 1): level i by its deviation from the mean; deviations sum to zero."""
    return np.vstack([np.eye(count - 1), -np.ones(count - 1)])


def effects(rows: list[dict[str, Any]], key: str) -> tuple[float, list[Effect]]:
    """The mean and all effects on ``key``. Levels that no row has are left out."""
    seen = {n: [v for v in levels if any(r[n] == v for r in rows)] for n, levels in FACTORS.items()}
    seen["seed"] = sorted({str(row["seed"]) for row in rows})
    known = {n: contrasts(len(levels)) for n, levels in seen.items() if len(levels) > 1}
    code = {n: [c[seen[n].index(str(row[n]))] for row in rows] for n, c in known.items()}
    terms: list[tuple[str, ...]] = [(n,) for n in known]
    terms += [pair for pair in PAIRS if all(n in known for n in pair)]
    blocks, maps = [np.ones((len(rows), 1))], []
    for term in terms:
        parts = [np.array(code[n]) for n in term]
        joint = parts[0] if len(term) == 1 else np.einsum("ri,rj->rij", *parts)
        blocks.append(joint.reshape(len(rows), -1))
        every = known[term[0]] if len(term) == 1 else np.kron(*(known[n] for n in term))
        maps.append(every)
    design = np.hstack(blocks)
    scores = 100 * np.array([row[key] for row in rows])
    inverse = np.linalg.pinv(design.T @ design)
    fit = inverse @ design.T @ scores
    spare = max(1, len(rows) - np.linalg.matrix_rank(design))
    noise = ((scores - design @ fit) ** 2).sum() / spare
    found, first = [], 1
    for term, every in zip(terms, maps, strict=True):
        own = slice(first, first + every.shape[1])
        first += every.shape[1]
        values = every @ fit[own]
        errors = np.sqrt(noise * np.einsum("li,ij,lj->l", every, inverse[own, own], every))
        names = product(*(seen[n] for n in term))
        found += [Effect(" x ".join(term), *e) for e in zip(names, values, errors, strict=True)]
    return float(fit[0]), [effect for effect in found if effect.name != "seed"]


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: the effects on students of hard labels and of a teacher."""
    means, found = zip(*(effects(rows, key) for key in ("hard", "online")), strict=True)
    lines = [
        f"| | {STUDENT}, hard | {STUDENT}, teacher |",
        "|---|---:|---:|",
        f"| mean of {len(rows)} cells | " + " | ".join(f"{mean:.1f}" for mean in means) + " |",
    ]
    for pair in zip(*found, strict=True):
        values = " | ".join(f"{e.value:+.1f} ± {e.error:.1f}" for e in pair)
        lines.append(f"| {pair[0].name}: {', '.join(pair[0].levels)} | {values} |")
    return "\n".join(lines)


def means(rows: list[dict[str, Any]]) -> str:
    """Markdown: mean accuracies of the cells that share start, statistics and steps."""
    names = ("start", "statistics", "steps")
    lines = [
        "| " + " | ".join(names) + f" | {STUDENT}, hard | {STUDENT}, teacher |",
        "|---|---|---:|---:|---:|",
    ]
    for levels in product(*(FACTORS[name] for name in names)):
        found = [row for row in rows if tuple(row[name] for name in names) == levels]
        if found:
            values = [f"{100 * np.mean([row[k] for row in found]):.1f}" for k in ("hard", "online")]
            lines.append("| " + " | ".join((*levels, *values)) + " |")
    return "\n".join(lines)


@command
@click.option("--steps", default=400, show_default=True, help="of a student")
@click.option("--lr", default=1e-3, show_default=True, help="of a student with hard labels")
@click.option("--online-lr", default=3e-3, show_default=True)
def main(
    dataset: str, teacher: str, ipc: int, steps: int, lr: float, online_lr: float, device: str,
    threads: int | None, show: bool, output: Path,
) -> None:  # fmt: skip
    rows = known_rows(output)
    if show:
        click.echo(f"{table(rows)}\n\n{means(rows)}")
        return
    bench = opened(dataset, teacher, ipc, device, threads)
    budget = Budget(steps, steps, lr, online_lr)
    header = bench.header(budget=vars(budget))
    done = [{name: row[name] for name in FACTORS} for row in rows]
    for cell in tqdm([cell for cell in cells() if cell not in done], unit="cell"):
        seed, began = seed_of(cell), time.process_time()
        images, weights = bench.distil(setting(cell), seed)
        seconds = round(time.process_time() - began, 1)
        scores = {
            name: bench.score(
                images, weights, STUDENT, online, budget.config(len(images), online), seed
            )
            for name, online in (("hard", False), ("online", True))
        }
        rows.append({**cell, "seed": seed, **scores, "seconds": seconds})
        write_json(output, {**header, "rows": rows})
    click.echo(f"{table(rows)}\n\n{means(rows)}")


if __name__ == "__main__":
    main()
