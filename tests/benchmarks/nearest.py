"""How near distilled images are to real ones, for every start.

    python -m tests.benchmarks.nearest --dataset cifar10 --teacher RUN/teacher -o nearest.json

The default synthesis from the real image nearest to each atom, from the mean of the atom's real
images and from noise. Distances are root mean square errors of pixels in [0, 1], from every image
to the nearest real image of its class, as on the card; for real images, to the nearest other one.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click
import torch
from torch import Tensor
from tqdm.auto import tqdm

from tests.benchmarks.distilling import DEFAULT, Bench, Setting, command, known_rows, opened
from wdistill.config import Init
from wdistill.core.files import write_json
from wdistill.evaluation.metrics import nearest_real

REAL = "real images"


def distilled(bench: Bench, init: Init, seed: int) -> Tensor:
    """(C * n,) distances."""
    setting = Setting(replace(DEFAULT, init=init), "uniform")
    images = bench.distil(setting, seed)[0].split(bench.ipc)
    found = [
        nearest_real(own, bench.train.batches(bench.rows(label), 512), bench.device)[1]
        for label, own in enumerate(images)
    ]
    return torch.cat(found)


def among(images: Tensor) -> Tensor:
    """(N,) distance of each of a class's images (N, 3, R, R) to the nearest other one."""
    flat = images.flatten(1).float() / 255
    found = []
    for rows in torch.arange(len(flat)).split(512):
        # The product form is inexact near zero: it chooses, the difference measures.
        distances = torch.cdist(flat[rows], flat)
        distances[torch.arange(len(rows)), rows] = math.inf
        found.append((flat[rows] - flat[distances.argmin(1)]).norm(dim=1))
    return torch.cat(found) / math.sqrt(flat.shape[1])


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| images | median | minimum |", "|---|---:|---:|"]
    for row in rows:
        name = row["start"] if row["start"] == REAL else f"start: {row['start']}"
        lines.append(f"| {name} | {row['median']:.3f} | {row['minimum']:.3f} |")
    return "\n".join(lines)


@command
@click.option("--seed", default=0, show_default=True)
def main(
    dataset: str, teacher: str, ipc: int, seed: int, device: str, threads: int | None, show: bool,
    output: Path,
) -> None:  # fmt: skip
    rows = known_rows(output)
    if show:
        click.echo(table(rows))
        return
    bench = opened(dataset, teacher, ipc, device, threads)
    header = bench.header(seed=seed)
    done = {row["start"] for row in rows}
    for name in tqdm([n for n in (REAL, *get_args(Init)) if n not in done], unit="set"):
        if name == REAL:
            parts = [among(bench.train.get(bench.rows(c))) for c in range(bench.classes)]
            found = torch.cat(parts)
        else:
            found = distilled(bench, name, seed)
        row = {"start": name, "median": float(found.median()), "minimum": float(found.min())}
        rows.append(row)
        write_json(output, {**header, "rows": rows})
    click.echo(table(rows))


if __name__ == "__main__":
    main()
