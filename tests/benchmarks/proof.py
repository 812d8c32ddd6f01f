"""Students of several kinds on distilled and on real images, in one table.

    python -m tests.benchmarks.proof RUN... -o proof.json
    python -m tests.benchmarks.proof RUN... -o proof.json --student convnet --labels hard --labels teacher --images distilled --images random
    python -m tests.benchmarks.proof -o proof.json     # prints the table of what there is

Every student is trained and tested as `wdistill evaluate RUN` does it, whose jobs these are: the
same optimiser steps on every set of images, the last step, all test images, a new draw of the
random ones per seed. Only the rungs of random images at other IPCs are left out, which cost as much
again. Interrupted, the same command goes on.
"""  # noqa: E501

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from wdistill.config import EvaluateConfig, Labels, RuntimeConfig, StudentConfig
from wdistill.core.devices import device_name, keep_freed_memory, open_accelerator, versions
from wdistill.core.files import write_json
from wdistill.evaluation.opening import open_comparison
from wdistill.evaluation.page.plot_style import COLOURS, INK, MARKS, RULE, SETS, legend, name_axes
from wdistill.evaluation.students import Job, run_job
from wdistill.evaluation.trial import Trial

STUDENTS = ("resnet10-w16", "convnet-w64", str(Path(__file__).with_name("vit-mini")))
IMAGES = ("distilled", "random", "nearest", "herding", "full")
LABELS: tuple[Labels, ...] = ("hard", "soft", "teacher")
STEPS = {1: 200, 10: 400, 50: 640}
SEEDS = 3
ROW = ("set", "student", "labels", "images", "ipc", "seed")


def opened(run: Path, students: tuple[str, ...], images: tuple[str, ...], steps: int) -> Trial:
    """The students of one set of images, none of them trained yet."""
    config = StudentConfig(
        students=students, labels=LABELS, steps=steps, batch_size=32, seeds=SEEDS
    )
    baselines = tuple(name for name in images if name in ("random", "nearest", "herding"))
    judged = EvaluateConfig(source=str(run), evaluate=config, baselines=baselines)  # type: ignore[arg-type]
    runtime = RuntimeConfig("cpu", quiet=True)
    comparison = open_comparison(judged, runtime, open_accelerator("no", "cpu"))
    return Trial(comparison, run / "work" / "evaluate")


def wanted(
    trial: Trial, students: tuple[str, ...], images: tuple[str, ...], labels: tuple[str, ...]
) -> list[Job]:
    """Seed by seed, so that an interrupted table has whole rows. The full data have hard labels."""
    comparison = trial.comparison
    ipc, whole = comparison.candidate.ipc, len(comparison.train) // comparison.classes
    every = itertools.product(range(SEEDS), labels, students, images)
    jobs = [Job(student, kind, told, ipc, seed) for seed, told, student, kind in every]  # type: ignore[arg-type]
    jobs = [job for job in jobs if job.labels == "hard" or job.images != "full"]
    return [replace(job, ipc=whole) if job.images == "full" else job for job in jobs]


Scores = dict[tuple[str, int, str, str], dict[str, list[float]]]


def scores(rows: list[dict[str, Any]]) -> Scores:
    """Percent of each seed, by (dataset, IPC, student, labels) and then images."""
    found: Scores = {}
    for row in rows:
        dataset, _, ipc = row["set"].rpartition("-ipc")
        key = (dataset, int(ipc), row["student"], row["labels"])
        found.setdefault(key, {}).setdefault(row["images"], []).append(100 * row["top1"])
    order = {str(name): index for index, name in enumerate(LABELS)}
    return dict(sorted(found.items(), key=lambda item: (*item[0][:3], order[item[0][3]])))


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: mean and deviation over seeds, in percent."""
    lines = [
        f"| dataset | IPC | student | labels | {' | '.join(IMAGES)} |",
        "|---|---:|---|---|" + "---:|" * len(IMAGES),
    ]
    for key, found in scores(rows).items():
        cells = [_cell(found.get(name, [])) for name in IMAGES]
        lines.append(f"| {' | '.join([*map(str, key), *cells])} |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{spread}"


def draw(path: Path, rows: list[dict[str, Any]]) -> None:
    """Points above random real images, a panel for each dataset and IPC."""
    found = scores(rows)
    datasets, ipcs = sorted({key[0] for key in found}), sorted({key[1] for key in found})
    known = {key[2:] for key in found if len(found[key]) > 2}
    names = sorted(known, key=lambda name: (LABELS.index(name[1]), name[0]))
    figure = Figure(figsize=(9.5, 6.4), layout="constrained")
    grid = figure.subplots(len(datasets), len(ipcs), sharex=True, sharey=True, squeeze=False)
    for axes, (dataset, ipc) in zip(grid.flat, itertools.product(datasets, ipcs), strict=True):
        axes.set_title(f"{dataset}, {ipc} per class", loc="left", fontsize=9, color=INK)
        axes.axvline(0, color=COLOURS["random"], lw=1)
        axes.set_yticks(range(len(names)), [", ".join(name) for name in names], fontsize=7.5)
        axes.grid(color=RULE, lw=0.6)
        axes.set_axisbelow(True)
        for height, name in enumerate(names):
            values = found.get((dataset, ipc, *name), {})
            if "random" not in values:
                continue
            random, spread = np.mean(values["random"]), np.std(values["random"])
            axes.plot([-spread, spread], [height] * 2, color=COLOURS["random"], lw=4, alpha=0.35)
            for kind in (kind for kind in reversed(IMAGES) if kind in values and kind != "random"):
                axes.plot(
                    np.mean(values[kind]) - random, height, MARKS[kind], color=COLOURS[kind],
                    ms=7 if kind == "full" else 5, mew=2 if kind == "full" else 1, ls="",
                    label=SETS[kind] if axes is grid[0, 0] else None,
                )  # fmt: skip
    grid[0, 0].invert_yaxis()
    for axes in grid[-1]:
        name_axes(axes, "points above random", "")
    handles: dict[str, Any] = {}
    for axes in grid.flat:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    legend(figure, 4, handles=list(handles.values()), labels=list(handles))
    figure.savefig(path, dpi=130)


@click.command()
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@click.option("--student", "students", multiple=True, default=STUDENTS)
@click.option("--images", multiple=True, type=click.Choice(IMAGES), default=IMAGES)
@click.option("--labels", multiple=True, type=click.Choice(LABELS), default=LABELS)
@click.option("--plot", type=click.Path(path_type=Path), help="a picture of the rows")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(
    runs: tuple[Path, ...], students: tuple[str, ...], images: tuple[str, ...],
    labels: tuple[str, ...], plot: Path | None, output: Path,
) -> None:  # fmt: skip
    keep_freed_memory()
    record = json.loads(output.read_text()) if output.exists() else {"rows": []}
    done = {tuple(row[name] for name in ROW) for row in record["rows"]}
    for run in runs:
        ipc = int(json.loads((run / "run.json").read_text())["barycenter.ipc"])
        trial = opened(run, students, images, STEPS[ipc])
        for job in tqdm(wanted(trial, students, images, labels), desc=run.name):
            row = {"set": run.name, **vars(job), "student": Path(job.student).name}
            if tuple(row[name] for name in ROW) in done:
                continue
            outcome = run_job(trial.setting, job, trial.comparison.students[job.student])
            kept = ("top1", "top5", "steps", "seconds")
            record["rows"].append({**row, **{name: getattr(outcome, name) for name in kept}})
            record |= {"device": device_name(trial.comparison.accelerator.device)}
            write_json(output, record | {"versions": versions()})
    click.echo(table(record["rows"]))
    if plot:
        draw(plot, record["rows"])


if __name__ == "__main__":
    main()
