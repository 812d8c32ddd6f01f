"""What stored labels of views are worth against their bytes: a student of them, and of a teacher.

    python -m tests.benchmarks.label_views RUN --seeds 4 -o label-views.json

RUN is a finished run. For every setting views of its images are labelled by its teacher, rounded
and written to parquet in memory; students are trained on them, on the one stored soft label of each
image, and with the teacher labelling every batch. Full FKD labels are 300 views with all logits in
fp16. Rows are written as they are found; the same command goes on where it was.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from wdistill.config import (
    EvaluateConfig,
    Labels,
    LabelViewsConfig,
    RelabelConfig,
    RuntimeConfig,
    StudentConfig,
)
from wdistill.core.devices import device_name, keep_freed_memory, open_accelerator, versions
from wdistill.core.files import write_json
from wdistill.evaluation.comparison import Comparison
from wdistill.evaluation.opening import open_comparison
from wdistill.evaluation.students import Job, StudentSetting, run_job
from wdistill.evaluation.training import recipe_for
from wdistill.labels.codec import fit
from wdistill.labels.rounding import rounded
from wdistill.labels.views import ViewRecipe, label_views

FKD_VIEWS, FKD_BYTES = 300, 2  # epochs and bytes of a logit (fp16), arXiv 2112.01528 and SRe2L


def setting(text: str) -> LabelViewsConfig:
    """E.g. ``64``, ``64/4`` (levels), ``64/4/20`` (logits kept), ``64/4/-/15000`` (bytes)."""
    parts = [None if part == "-" else int(part) for part in text.split("/")]
    views, levels, topk, budget = parts + [None] * (4 - len(parts))
    return LabelViewsConfig(views or 0, topk, levels or LabelViewsConfig().levels, budget=budget)


def student_setting(comparison: Comparison, steps: int | None) -> StudentSetting:
    recipe = recipe_for(StudentConfig(steps=steps), len(comparison.candidate.labels))
    network = comparison.teacher.network if comparison.teacher else None
    return StudentSetting(
        lambda: comparison.candidate, comparison.real.class_names, comparison.train,
        comparison.test, network, recipe, RelabelConfig(), 0, comparison.accelerator.device,
        Path(tempfile.gettempdir()),
    )  # fmt: skip


def rows_of(
    comparison: Comparison, found: StudentSetting, labels: Labels, seeds: int, more: dict[str, Any]
) -> dict[str, Any]:
    (student, source), *_ = comparison.students.items()
    ipc = comparison.candidate.ipc
    jobs = [Job(student, "distilled", labels, ipc, seed) for seed in range(seeds)]
    scores = [run_job(found, job, source).top1 for job in jobs]
    return {"labels": labels, "student": student, "top1": scores, **more}


def table(rows: list[dict[str, Any]], images: int, classes: int) -> str:
    full = FKD_VIEWS * images * classes * FKD_BYTES
    lines = [
        "| labels | logits a view | levels | bytes | of FKD's | accuracy |",
        "|---|" + "---:|" * 5,
    ]
    for row in sorted(rows, key=lambda row: row.get("bytes", 0)):
        size = row.get("bytes")
        scores = 100 * np.array(row["top1"])
        spread = f" ± {scores.std(ddof=1):.1f}" if len(scores) > 1 else ""
        name = f"{row['views']} views" if "views" in row else row["labels"]
        share = f"1/{full / size:.0f}" if size else ""
        cells = (
            name,
            row.get("topk", ""),
            row.get("levels", ""),
            f"{size:,}" if size else "",
            share,
        )
        lines.append("| " + " | ".join(map(str, cells)) + f" | {scores.mean():.1f}{spread} |")
    return "\n".join(lines)


def draw(path: Path, rows: list[dict[str, Any]], full: int) -> None:
    """Accuracy against bytes, between one soft label per image and a teacher online."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel="bytes of the labels", ylabel="accuracy, %")
    for row in rows:
        scores = 100 * np.array(row["top1"])
        spread = scores.std(ddof=1) if len(scores) > 1 else 0.0
        if "bytes" not in row:
            words = {"teacher": "teacher online", "soft": "one soft label per image"}
            style = "-" if row["labels"] == "teacher" else ":"
            axes.axhline(scores.mean(), color="#62666e", ls=style, label=words[row["labels"]])
            continue
        axes.errorbar(row["bytes"], scores.mean(), spread, color="#e42536", marker="o", capsize=2)
        name = f"{row['views']} views" + (
            "" if row["levels"] == LabelViewsConfig().levels else f", {row['levels']} levels"
        )
        axes.annotate(name, (row["bytes"], scores.mean()), (4, 5), textcoords="offset points",
                      fontsize=7)  # fmt: skip
    axes.margins(x=0.2)
    axes.axvline(full / 40, color="#5790fc", ls="--", label="1/40 of FKD's labels")
    axes.legend(fontsize=7, loc="lower right")
    figure.savefig(path, dpi=150)


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("--dataset", help="where the real images are [default: what the run was made from]")
@click.option("--student", default="resnet10-w16", show_default=True)
@click.option("--steps", type=int, help="[default: those of `wdistill evaluate`]")
@click.option("--seeds", default=4, show_default=True)
@click.option(
    "--setting", "settings", multiple=True, show_default=True,
    default=("64", "300/16/-/15000", "300/8/-/15000", "300/4/-/15000", "150/4", "64/256"),
    help="VIEWS[/LEVELS[/TOPK[/BYTES]]], - for the default",
)  # fmt: skip
@click.option("--plot", type=click.Path(path_type=Path), help="a picture of the rows")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(
    run: Path, dataset: str | None, student: str, steps: int | None, seeds: int,
    settings: tuple[str, ...], plot: Path | None, output: Path,
) -> None:  # fmt: skip
    keep_freed_memory()
    config = EvaluateConfig(str(run), evaluate=StudentConfig(students=(student,)), baselines=())
    if dataset:
        config = replace(config, against=replace(config.against, dataset=dataset))
    comparison = open_comparison(
        config, RuntimeConfig("cpu", quiet=True), open_accelerator("no", "cpu")
    )
    found = student_setting(comparison, steps)
    network = found.network
    if network is None:
        raise click.ClickException(f"{run} has no teacher")
    images, classes = len(comparison.candidate.labels), comparison.classes
    known = json.loads(output.read_text()) if output.exists() else {"rows": []}
    done = {row["setting"] for row in known["rows"]}
    header = {
        "run": run.resolve().name, "images": images, "classes": classes,
        "steps": found.recipe.steps, "device": device_name(comparison.accelerator.device),
        "threads": torch.get_num_threads(), "versions": versions(),
    }  # fmt: skip
    for name in tqdm(["teacher", "soft", *settings], unit="row"):
        if name in done:
            continue
        if name in ("teacher", "soft"):
            row = rows_of(comparison, found, name, seeds, {})  # type: ignore[arg-type]
        else:
            wanted = setting(name)
            recipe = ViewRecipe(wanted)
            every = label_views(network, comparison.candidate.pixels, recipe)
            coarse = rounded(every, wanted.levels, classes, recipe.temperature)
            views, size = fit(coarse, classes, wanted.budget)
            more = {"views": views.count, "topk": views.logits.shape[1]}
            more |= {"levels": wanted.levels, "bytes": size}
            own = replace(found.candidate(), views=views)
            mine = replace(found, candidate=partial(replace, own))
            row = rows_of(comparison, mine, "views", seeds, more)
        known["rows"].append({"setting": name, **row})
        write_json(output, {**header, "rows": known["rows"]})
    click.echo(table(known["rows"], images, classes))
    if plot:
        draw(plot, known["rows"], FKD_VIEWS * images * classes * FKD_BYTES)


if __name__ == "__main__":
    main()
