"""Whether bf16 costs accuracy: synthesis and students in float32 and in bf16, pair by pair.

    python -m tests.benchmarks.precision --dataset cifar10 --images 5000 -o precision.json
    python -m tests.benchmarks.precision -o precision.json --show

One teacher is trained in float32. Every seed has a pool of random networks, a set that is distilled
in each precision from the same atoms, and random real images; students of each kind are trained on
each of the three, again in each precision, in the same steps from the same weights with hard
labels. A difference is that of two students of one seed. Rows are written as they are found; the
same command goes on where it was.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm.auto import tqdm

from tests.benchmarks.distilling import CPU, DEFAULT, Bench, Setting, known_rows
from tests.benchmarks.teacher import stores
from wdistill.config import DataConfig, StudentConfig, TeacherConfig
from wdistill.core.devices import keep_freed_memory
from wdistill.core.files import write_json
from wdistill.core.seeds import stream, stream_seed
from wdistill.data.dataset import ImageData, load_data
from wdistill.evaluation.metrics import score_network
from wdistill.evaluation.training import Training, TrainingSet, recipe_for, train_student
from wdistill.networks import training
from wdistill.networks.backbones import load_backbone, new_network
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.features import FeatureNetwork
from wdistill.synthesis.optimise import Objective, synthesise

PRECISIONS = {"float32": None, "bf16": torch.bfloat16}
RANDOM = "random real"
SETTING = Setting(weights="uniform")


def smaller(data: ImageData, images: int | None) -> ImageData:
    """Of ``images`` training images, and two fifths as many of the test; drawn at random."""
    if images is None:
        return data
    draw = np.random.default_rng(0)
    train = draw.permutation(len(data.train))[:images]
    test = draw.permutation(len(data.eval))[: 2 * images // 5]
    return replace(data, train=data.train.take(np.sort(train)), eval=data.eval.take(np.sort(test)))


class Precisions(Bench):
    """A dataset with a teacher that is trained here, in float32."""

    def __init__(self, dataset: str | None, images: int | None, ipc: int, epochs: int) -> None:
        data = load_data(DataConfig(dataset=dataset), 0, ipc)
        self.name = Path(dataset).name if dataset else "embedded"
        self.data, self.ipc, self.device = smaller(data, images), ipc, CPU
        self.classes, self._transport = len(data.class_names), {}
        name = TeacherConfig().backbone
        self.train, self.test = stores(self.data, name, self.data.native_size)
        self.pixels = self.train.preprocessing
        source = find_backbone(name, resolution=self.pixels.resolution)
        draw = stream_seed(0, "teacher") % 2**31
        backbone = load_backbone(source, self.data.class_names, self.pixels, draw)
        accelerator, config = Accelerator(cpu=True), TeacherConfig(epochs=epochs)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = training.Checkpoint(Path(folder) / "epoch.safetensors", "")
            training.train_teacher(backbone, self.train, config, 0, accelerator, checkpoint)
        self.network = FeatureNetwork(backbone.model, self.pixels, CPU)
        self.accuracy = training.measure_accuracy(self.network, self.test, accelerator)

    def sets(self, seed: int) -> dict[str, Tensor]:
        """Pixels of the random images and of the set of each precision."""
        problem = self.problem(SETTING, seed)
        found = {RANDOM: self.random(self.ipc, seed)[0]}
        for name, autocast in PRECISIONS.items():
            draws = [stream(seed, "synthesis", c) for c in range(self.classes)]
            objective = Objective(problem.spaces, self.spectrum, DEFAULT, autocast)
            done = synthesise(objective, problem.targets, [*problem.start], draws)
            found[f"distilled in {name}"] = done.pixels
        return found

    def student(self, pixels: Tensor, name: str, precision: str, steps: int, seed: int) -> float:
        """Its accuracy on the test images, measured in float32."""
        draw = stream_seed(0, "student", name, seed) % 2**31
        source = find_backbone(name, resolution=self.pixels.resolution)
        model = new_network(source, self.data.class_names, self.pixels.resolution, draw)
        labels = torch.arange(self.classes).repeat_interleave(self.ipc)
        data = TrainingSet(pixels, labels, torch.ones(len(labels)), soft=False)
        recipe = recipe_for(StudentConfig(steps=steps, batch_size=32), len(labels))
        train_student(model, data, self.pixels, Training(recipe, draw, CPU, PRECISIONS[precision]))
        return score_network(FeatureNetwork(model, self.pixels, CPU), self.test).top1


def differences(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Points of bf16 above float32 with all else equal, one for each seed and student."""
    top1 = {
        (row["images"], row["student"], row["precision"], row["seed"]): 100 * row["top1"]
        for row in rows
    }
    found: dict[str, list[float]] = {}
    for (images, student, precision, seed), value in top1.items():
        if precision == "bf16":
            base = top1[images, student, "float32", seed]
            found.setdefault(f"{student} in bf16, {images}", []).append(value - base)
        if images == "distilled in bf16":
            base = top1["distilled in float32", student, precision, seed]
            found.setdefault(f"synthesis in bf16, {student} in {precision}", []).append(
                value - base
            )
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: accuracies, then differences with their standard errors over the seeds."""
    groups: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows:
        group = groups.setdefault((row["images"], row["student"]), {})
        group.setdefault(row["precision"], []).append(100 * row["top1"])
    lines = ["| images | student | float32 | bf16 |", "|---|---|---:|---:|"]
    for key, group in groups.items():
        cells = [f"{np.mean(v):.1f} ± {np.std(v, ddof=1):.1f}" for v in group.values()]
        lines.append(f"| {' | '.join([*key, *cells])} |")
    lines += ["", "| bf16 above float32 | points | standard error |", "|---|---:|---:|"]
    for name, values in differences(rows).items():
        error = np.std(values, ddof=1) / len(values) ** 0.5
        lines.append(f"| {name} | {np.mean(values):+.2f} | {error:.2f} |")
    return "\n".join(lines)


@click.command()
@click.option("--dataset", help="[default: the embedded one]")
@click.option("--images", type=int, help="Only so many training images, drawn at random.")
@click.option("--ipc", default=10, show_default=True)
@click.option("--epochs", default=10, show_default=True, help="Of the teacher.")
@click.option("--steps", default=400, show_default=True, help="Of a student.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--student", "students", multiple=True, default=("resnet10-w16", "convnet-w64"))
@click.option("--show", is_flag=True, help="print what --output holds and stop")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(
    dataset: str | None, images: int | None, ipc: int, epochs: int, steps: int, seeds: int,
    students: tuple[str, ...], show: bool, output: Path,
) -> None:  # fmt: skip
    keep_freed_memory()
    rows = known_rows(output)
    if show:
        click.echo(table(rows))
        return
    bench = Precisions(dataset, images, ipc, epochs)
    header = bench.header(
        images=len(bench.train), steps=steps, teacher=round(bench.accuracy, 4),
        iterations=DEFAULT.iterations,
    )  # fmt: skip
    done = {json.dumps([row[k] for k in row if k != "top1"]) for row in rows}
    every = len(students) * len(PRECISIONS) * (1 + len(PRECISIONS))
    unfinished = [s for s in range(seeds) if sum(row["seed"] == s for row in rows) < every]
    for seed in tqdm(unfinished, unit="seed"):
        for kind, pixels in bench.sets(seed).items():
            for student, precision in itertools.product(students, PRECISIONS):
                row = {"images": kind, "student": student, "precision": precision, "seed": seed}
                if json.dumps([*row.values()]) in done:
                    continue
                top1 = bench.student(pixels, student, precision, steps, seed)
                rows.append({**row, "top1": round(top1, 4)})
                write_json(output, {**header, "rows": rows})
    click.echo(table(rows))


if __name__ == "__main__":
    main()
