"""Images shared out over classes by their gain in W2, against the same number for each class.

    python -m tests.benchmarks.allocation --dataset cifar10 --work FOLDER -o allocation.json
    python -m tests.benchmarks.allocation --dataset cifar10 --tail 0.6 --work FOLDER2 -o ...

`--dataset` is a folder with train.parquet and test.parquet. `--most` images of the largest class
are taken, of each next one `--tail` times as many. The teacher is trained once, and each allocation
makes 10 images per class on average. Students of hard labels are trained on these, and on random
real images in the same numbers. "Plain" students count each image the same, others each class. Rows
are written as they are found; the same command goes on where it was. `--show` prints the table.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

import wdistill
from wdistill.artifact.candidate import candidate
from wdistill.artifact.distilled_set import read_distilled
from wdistill.config import (
    Allocation,
    BarycenterConfig,
    DataConfig,
    RelabelConfig,
    RunConfig,
    RuntimeConfig,
    StudentConfig,
    SynthesisConfig,
    TeacherConfig,
)
from wdistill.core.devices import device_name, versions
from wdistill.core.files import write_json
from wdistill.data.dataset import load_data
from wdistill.data.pixels import PixelStore
from wdistill.evaluation.students import Job, StudentSetting, run_job
from wdistill.evaluation.training import recipe_for
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.preprocessing import preprocessing_for
from wdistill.networks.teacher import NO_NORMALISATION, pixel_statistics

ALLOCATIONS: tuple[Allocation, ...] = ("uniform", "w2")
STUDENTS = ("convnet-w64", "resnet10-w16")
IPC = 10
HARD = RelabelConfig(giver="none")


def write_part(source: Path, folder: Path, most: int, tail: float, tested: int) -> Path:
    """The first images of each class: ``most`` of class 0, ``tail`` times as many of each next;
    and the first ``tested`` test images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(source / "train.parquet")
    labels = table["label"]
    classes = int(pc.max(labels).as_py()) + 1
    rows = [
        np.flatnonzero(pc.equal(labels, c).to_numpy())[: round(most * tail**c)]
        for c in range(classes)
    ]
    pq.write_table(table.take(pa.array(np.sort(np.concatenate(rows)))), folder / "train.parquet")
    pq.write_table(pq.read_table(source / "test.parquet").slice(0, tested), folder / "test.parquet")
    return folder


def distilled(
    data: Path, work: Path, allocation: Allocation, seed: int, iterations: int, epochs: int
) -> wdistill.DistilledRun:
    """A run without students; the teacher is that of the first."""
    config = RunConfig(
        data=DataConfig(dataset=str(data)),
        barycenter=BarycenterConfig(ipc=IPC, allocation=allocation),
        teacher=TeacherConfig(epochs=epochs),
        synthesis=SynthesisConfig(iterations=iterations),
        relabel=HARD,
        evaluate=StudentConfig(enabled=False),
        seed=seed,
    )
    quiet, first = RuntimeConfig(quiet=True), work / "teacher-run"
    start = replace(
        config,
        seed=0,
        barycenter=BarycenterConfig(ipc=IPC),
        synthesis=SynthesisConfig(iterations=0),
    )
    wdistill.distill(config=start, output=first, runtime=quiet)
    return wdistill.distill(
        config=config,
        backbone=first / "teacher",
        output=work / f"{allocation}-{seed}",
        runtime=quiet,
    )


def setting_of(run: wdistill.DistilledRun, data: Path, steps: int) -> StudentSetting:
    real, images = load_data(DataConfig(dataset=str(data)), 0, 1), read_distilled(run.set_folder)
    source = find_backbone(STUDENTS[1], resolution=real.native_size)
    plain = preprocessing_for(source, real.native_size, NO_NORMALISATION)
    train, test = PixelStore(real.train, plain), PixelStore(real.eval, plain)
    pixels = preprocessing_for(source, real.native_size, pixel_statistics(train, 0))
    config = StudentConfig(steps=steps, batch_size=50, labels=("hard",))
    return StudentSetting(
        candidate=partial(candidate, images),
        class_names=real.class_names,
        train=train.normalised(pixels),
        test=test.normalised(pixels),
        network=None,
        recipe=recipe_for(config, len(images)),
        relabel=HARD,
        seed=0,
        device=torch.device("cpu"),
        scratch=run.folder / "work",
        counts=run.manifest.counts,
    )


def measured(
    make: Callable[[Allocation], wdistill.DistilledRun],
    data: Path,
    seed: int,
    steps: int,
    plain_too: bool,
    students: tuple[str, ...],
    rows: list[Any],
) -> Iterator[None]:
    done = {(r["images"], r["allocation"], r["plain"], r["student"], r["seed"]) for r in rows}
    for images, allocation in itertools.product(("distilled", "random"), ALLOCATIONS):
        run = make(allocation)
        setting = setting_of(run, data, steps)
        for plain in (False, True) if plain_too and run.manifest.counts else (False,):
            for student in students:
                if (images, allocation, plain, student, seed) in done:
                    continue
                source = find_backbone(student, resolution=setting.train.preprocessing.resolution)
                job = Job(student, images, "hard", IPC, seed)  # type: ignore[arg-type]
                outcome = run_job(replace(setting, weighted=not plain), job, source)
                rows.append(
                    {
                        "images": images, "allocation": allocation, "plain": plain,
                        "student": student, "seed": seed, "top1": outcome.top1,
                        "per_class": outcome.per_class, "counts": run.manifest.per_class,
                        "teacher": run.manifest.teacher.accuracy,
                        "w2": float(np.mean(run.manifest.barycenter.w2)),
                        "seconds": outcome.seconds,
                    }
                )  # fmt: skip
                yield


def table(rows: list[Any]) -> Iterator[str]:
    """Mean over seeds of the accuracy, and of that of the class which does worst."""
    yield "| images | shared out | student | top-1 | worst class | seeds |"
    yield "|---|---|---|---|---|---|"
    kinds = dict.fromkeys((r["images"], r["allocation"], r["plain"], r["student"]) for r in rows)
    for images, allocation, plain, student in kinds:
        own = [
            r
            for r in rows
            if (r["images"], r["allocation"], r["plain"], r["student"])
            == (images, allocation, plain, student)
        ]
        top1 = [100 * r["top1"] for r in own]
        worst = [100 * min(r["per_class"]) for r in own]
        named = allocation + (", plain" if plain else "")
        cells = [" ".join(f"{value:.1f}" for value in values) for values in (top1, worst)]
        yield f"| {images} | {named} | {student} | {cells[0]} | {cells[1]} | {len(own)} |"


@click.command()
@click.option("--dataset", type=click.Path(path_type=Path), required=True)
@click.option("--most", default=1000, show_default=True)
@click.option("--tail", default=1.0, show_default=True)
@click.option("--seed", "seeds", type=int, multiple=True, default=(0, 1), show_default=True)
@click.option("--steps", default=600, show_default=True)
@click.option("--iterations", default=300, show_default=True, help="of synthesis")
@click.option("--epochs", default=10, show_default=True, help="of the teacher")
@click.option("--tested", default=10_000, show_default=True, help="test images")
@click.option("--plain", is_flag=True, help="students that count each image the same, too")
@click.option("--student", "students", multiple=True, default=STUDENTS, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.option("--show", is_flag=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(
    dataset: Path, most: int, tail: float, seeds: tuple[int, ...], steps: int, iterations: int,
    epochs: int, tested: int, plain: bool, students: tuple[str, ...], work: Path, show: bool,
    output: Path,
) -> None:  # fmt: skip
    rows = json.loads(output.read_text())["rows"] if output.exists() else []
    if not show:
        data = write_part(dataset, work / "data", most, tail, tested)
        for seed in seeds:
            make = partial(distilled, data, work, seed=seed, iterations=iterations, epochs=epochs)
            for _ in measured(make, data, seed, steps, plain, students, rows):
                header = {
                    "dataset": dataset.name, "most": most, "tail": tail, "steps": steps,
                    "iterations": iterations, "epochs": epochs, "tested": tested,
                    "device": device_name(torch.device("cpu")),
                    "threads": torch.get_num_threads(), "versions": versions(),
                }  # fmt: skip
                write_json(output, {**header, "rows": rows})
    click.echo("\n".join(table(rows)))


if __name__ == "__main__":
    main()
