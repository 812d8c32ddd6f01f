"""Students of random real images under AdamW, and under SGD at several learning rates.

    python -m tests.benchmarks.optimisers -o optimisers.json
    python -m tests.benchmarks.optimisers -o optimisers.json --student vit --lr 0.01

Everything but the optimiser is the default recipe. Interrupted, the same command goes on.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import torch

from tests.benchmarks.teacher import stores
from wdistill.artifact.candidate import Candidate
from wdistill.artifact.report import Recipe
from wdistill.config import DataConfig, RelabelConfig, StudentConfig
from wdistill.core.files import write_json
from wdistill.data.dataset import load_data
from wdistill.evaluation.students import Job, StudentSetting, run_job
from wdistill.evaluation.training import recipe_for
from wdistill.networks.checkpoints.source import find_backbone

SIDE = 28


def recipes(images: int, rates: tuple[float, ...]) -> dict[str, Recipe]:
    """By a name for the table."""
    adamw, sgd = (recipe_for(StudentConfig(), images, optimizer=o) for o in ("adamw", "sgd"))  # type: ignore[arg-type]
    under = {f"SGD {rate:g}": sgd.model_copy(update={"lr": rate}) for rate in rates}
    return {f"AdamW {adamw.lr:g}": adamw} | under


@click.command()
@click.option("--dataset", help="[default: the embedded one]")
@click.option("--student", "students", multiple=True, default=("resnet10-w16", "convnet"))
@click.option("--lr", "rates", type=float, multiple=True, default=(0.01, 0.05, 0.1))
@click.option("--ipc", type=int, default=10, show_default=True)
@click.option("--seeds", type=int, default=2, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(
    dataset: str | None, students: tuple[str, ...], rates: tuple[float, ...], ipc: int, seeds: int,
    output: Path,
) -> None:  # fmt: skip
    torch.set_num_threads(1)
    data = load_data(DataConfig(dataset=dataset, resolution=SIDE), seed=0, ipc=1)
    train, test = stores(data, "resnet10-w16", SIDE)
    nothing = torch.zeros(0)
    empty = Candidate(
        torch.zeros(0, 3, SIDE, SIDE, dtype=torch.uint8), nothing.long(), nothing, None
    )
    rows: list[dict[str, Any]] = json.loads(output.read_text()) if output.exists() else []
    known = [(row["student"], row["recipe"], row["ipc"], row["seed"]) for row in rows]
    for seed in range(seeds):
        for student in students:
            for name, recipe in recipes(ipc * len(data.class_names), rates).items():
                if (student, name, ipc, seed) in known:
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    setting = StudentSetting(
                        lambda: empty, data.class_names, train, test, None, recipe,
                        RelabelConfig(), 0, torch.device("cpu"), Path(folder),
                    )  # fmt: skip
                    source = find_backbone(student, resolution=SIDE)
                    done = run_job(setting, Job(student, "random", "hard", ipc, seed), source)
                rows.append(
                    {"student": student, "recipe": name, "ipc": ipc, "seed": seed,
                     "steps": recipe.steps, "top1": round(100 * done.top1, 2)}
                )  # fmt: skip
                print(json.dumps(rows[-1]), flush=True)
                write_json(output, rows)


if __name__ == "__main__":
    main()
