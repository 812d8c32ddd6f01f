"""What labels of the teacher and of the committee are worth beside hard ones.

    wdistill run --dataset cifar10 --label-giver committee --no-evaluate --output RUN
    python -m tests.benchmarks.givers RUN --dataset cifar10 -o givers.json

The images of RUN and random real ones, coded alike, are labelled by the run's teacher and by its
committee; students see hard labels, one soft label of each image, or views of it. A row has the
accuracy on the whole test set. Rows are written as they are found; the same command goes on where
it was. `--show` prints the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm.auto import tqdm

from tests.benchmarks.distilling import known_rows
from tests.benchmarks.label_views import student_setting
from wdistill.config import EvaluateConfig, Labels, LabelViewsConfig, RuntimeConfig, StudentConfig
from wdistill.core.devices import device_name, keep_freed_memory, open_accelerator, versions
from wdistill.core.files import write_json
from wdistill.core.seeds import stream
from wdistill.evaluation.comparison import Comparison
from wdistill.evaluation.opening import open_comparison
from wdistill.evaluation.students import Images, Job, StudentSetting, run_job
from wdistill.labels.codec import fit
from wdistill.labels.rounding import rounded
from wdistill.labels.soft import soft_labels
from wdistill.labels.views import ViewRecipe, label_views

STUDENTS = ("convnet-w64", "resnet10-w16")


@dataclass(frozen=True)
class Row:
    """One way to label. views: of each image; temperature: of the student's loss."""

    images: Images
    labels: Labels
    giver: str = ""
    views: int = 0
    temperature: float = 1.0

    def __str__(self) -> str:
        if self.labels == "hard":
            return "hard"
        form = f"{self.views} views" if self.labels == "views" else "one label"
        return f"{self.giver}, {form}, T = {self.temperature:g}"


ROWS = (
    Row("distilled", "hard"),
    Row("distilled", "views", "teacher", 40),
    Row("distilled", "views", "committee", 40),
    Row("distilled", "views", "committee", 40, 4.0),
    Row("distilled", "views", "committee", 40, 20.0),
    Row("distilled", "views", "committee", 10),
    Row("distilled", "soft", "committee"),
    Row("distilled", "soft", "committee", 0, 20.0),
    Row("random", "hard"),
    Row("random", "views", "committee", 40),
)


def labelled(
    comparison: Comparison, setting: StudentSetting, row: Row
) -> tuple[StudentSetting, int]:
    """The setting of the students of ``row``, and the bytes of its views."""
    if row.labels == "hard" or comparison.teacher is None:
        return setting, 0
    giver = comparison.giver if row.giver == "committee" else comparison.teacher.network
    assert giver is not None
    recipe = setting.recipe.model_copy(update={"temperature": row.temperature})
    setting, candidate = replace(setting, giver=giver, recipe=recipe), setting.candidate()
    if row.labels == "soft":
        soft = soft_labels(giver, candidate.pixels, setting.relabel, stream(0, "labels"))
        return replace(setting, candidate=partial(replace, candidate, soft=soft)), 0
    config = LabelViewsConfig(row.views)
    every = label_views(giver, candidate.pixels, ViewRecipe(config, row.temperature))
    coarse = rounded(every, config.levels, comparison.classes, row.temperature)
    views, size = fit(coarse, comparison.classes, None)
    return replace(setting, candidate=partial(replace, candidate, views=views)), size


def measured(
    comparison: Comparison, steps: int | None, seeds: int, rows: list[Any]
) -> Iterator[None]:
    setting = replace(student_setting(comparison, steps), coding=comparison.coding)
    done = {(row["images"], row["row"], row["student"], row["seed"]) for row in rows}
    for seed in range(seeds):
        for row in ROWS:
            mine, size = labelled(comparison, setting, row)
            for student in STUDENTS:
                if (row.images, str(row), student, seed) in done:
                    continue
                job = Job(student, row.images, row.labels, comparison.candidate.ipc, seed)
                top1 = run_job(mine, job, comparison.students[student]).top1
                rows.append({"images": row.images, "row": str(row), "student": student,
                             "seed": seed, "label bytes": size, "top1": top1})  # fmt: skip
                yield


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: accuracy by labels, mean and deviation over seeds."""
    lines = [
        f"| images | labels | bytes of views | {' | '.join(STUDENTS)} |",
        "|---|---|---:|---:|---:|",
    ]
    for row in ROWS:
        mine = [r for r in rows if (r["images"], r["row"]) == (row.images, str(row))]
        cells = []
        for student in STUDENTS:
            top1 = [100 * r["top1"] for r in mine if r["student"] == student]
            cells.append(f"{np.mean(top1):.1f} ± {np.std(top1):.1f}" if top1 else "")
        size = f"{mine[0]['label bytes']:,}" if mine and mine[0]["label bytes"] else ""
        lines.append(f"| {row.images} | {row} | {size} | {' | '.join(cells)} |")
    return "\n".join(lines)


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("--dataset", help="where the real images are [default: what the run was made from]")
@click.option("--steps", type=int, help="of a student [default: those of `wdistill evaluate`]")
@click.option("--seeds", default=2, show_default=True)
@click.option("--show", is_flag=True, help="print what --output holds and stop")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(
    run: Path, dataset: str | None, steps: int | None, seeds: int, show: bool, output: Path
) -> None:
    rows = known_rows(output)
    if not show:
        keep_freed_memory()
        config = EvaluateConfig(str(run), evaluate=StudentConfig(students=STUDENTS), baselines=())
        if dataset:
            config = replace(config, against=replace(config.against, dataset=dataset))
        accelerator = open_accelerator("no", "cpu")
        comparison = open_comparison(config, RuntimeConfig("cpu", quiet=True), accelerator)
        header = {"run": run.resolve().name, "device": device_name(accelerator.device)}
        for _ in tqdm(measured(comparison, steps, seeds, rows)):
            write_json(output, {**header, "versions": versions(), "rows": rows})
    click.echo(table(rows))


if __name__ == "__main__":
    main()
