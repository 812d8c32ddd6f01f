"""What the coding of images costs in accuracy, and what synthesis gains that sees them decoded.

    python -m tests.benchmarks.coding --dataset cifar10 --teacher RUN/teacher -o coding.json

For each WebP quality, images of the default synthesis are coded afterwards, or those of a synthesis
whose last steps see decoded images; random real images are coded alike. Students with hard labels
are trained on what a reader gets. A row has the bytes of the files and the accuracy. Rows are
written as they are found; the same command goes on where it was. `--show` prints the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np
from torch import Tensor
from tqdm.auto import tqdm

from tests.benchmarks.distilling import DEFAULT, Bench, Setting, command, known_rows, opened
from wdistill.config import StudentConfig
from wdistill.core.files import write_json
from wdistill.data.content.coding import Coding

CODINGS = (Coding("png"), *(Coding("webp", quality) for quality in (60, 20, 10)))
UNIFORM = Setting(weights="uniform")
SEEN = (20, 10)  # qualities that synthesis is also shown
STUDENTS = ("convnet-w64", "resnet10-w16")


def sets(bench: Bench, seed: int) -> Iterator[tuple[str, Coding, Tensor]]:
    """Kind, coding, and images before they are coded."""

    @cache
    def problem() -> Any:
        return bench.problem(UNIFORM, seed)

    plain, real = cache(lambda: bench.synthesise(problem(), DEFAULT, seed)), bench.random
    for coding in CODINGS:
        yield "distilled", coding, plain()
        yield "random", coding, real(bench.ipc, seed)[0]
        if coding.quality in SEEN:
            images = bench.synthesise(problem(), DEFAULT, seed, coding=coding)
            yield "distilled, seen decoded", coding, images


def measured(bench: Bench, seeds: int, steps: int, rows: list[dict[str, Any]]) -> Iterator[None]:
    done = {(row["images"], row["coding"], row["student"], row["seed"]) for row in rows}
    for seed in range(seeds):
        for kind, coding, images in sets(bench, seed):
            size = sum(map(len, coding.files(images.permute(0, 2, 3, 1).numpy())))
            shown, ones = coding.seen(images), images.new_ones(len(images)).float()
            for student in STUDENTS:
                if (kind, str(coding), student, seed) in done:
                    continue
                config = StudentConfig(
                    epochs=max(1, steps // -(-len(images) // 50)), batch_size=50, lr=1e-3
                )
                top1 = bench.score(shown, ones, student, False, config, seed)
                rows.append(
                    {"images": kind, "coding": str(coding), "student": student, "seed": seed}
                    | {"bits per class": 8 * size // bench.classes, "top1": top1}
                )
                yield


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: accuracy by coding, mean and deviation."""
    cells: dict[tuple[str, str], dict[str, list[float]]] = {}
    bits: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        key = row["images"], row["coding"]
        cells.setdefault(key, {}).setdefault(row["student"], []).append(100 * row["top1"])
        bits.setdefault(key, []).append(row["bits per class"])
    lines = [
        f"| images | coding | bits a class | {' | '.join(STUDENTS)} |",
        "|---|---|---:|---:|---:|",
    ]
    for key, scores in sorted(cells.items(), key=lambda item: -np.mean(bits[item[0]])):
        shown = [
            f"{np.mean(scores[s]):.1f} ± {np.std(scores[s]):.1f}" if s in scores else ""
            for s in STUDENTS
        ]
        lines.append(f"| {key[0]} | {key[1]} | {np.mean(bits[key]):,.0f} | {' | '.join(shown)} |")
    return "\n".join(lines)


@command
@click.option("--seeds", default=2, show_default=True)
@click.option("--steps", default=800, show_default=True, help="of a student")
def main(
    dataset: str, teacher: str, ipc: int, device: str, threads: int | None, show: bool,
    output: Path, seeds: int, steps: int,
) -> None:  # fmt: skip
    rows = known_rows(output)
    if not show:
        bench = opened(dataset, teacher, ipc, device, threads)
        for _ in tqdm(measured(bench, seeds, steps, rows)):
            write_json(output, bench.header(steps=steps) | {"rows": rows})
    click.echo(table(rows))


if __name__ == "__main__":
    main()
