"""What students make of the files of a set alone, beside real images that are treated alike.

    wdistill run --dataset cifar10 --budget 122.5kB --no-evaluate --output RUN
    python -m tests.benchmarks.files_alone RUN --dataset cifar10 --steps 6000 -o files-alone.json
    python -m tests.benchmarks.files_alone RUN --recipe classic --epochs 300 -o classic.json

The students of `wdistill evaluate RUN --labels views --baselines random`, but for other numbers of
random real images, which would take hours in so many steps: these are as many as the set's, coded
alike, and the same networks label as many views of them. A recipe of a paper has its own student
and labels. Students that are finished are not trained again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from wdistill.artifact.layout import one_set
from wdistill.artifact.manifest import read_manifest
from wdistill.config import EvaluateConfig, Labels, RecipeName, RuntimeConfig, StudentConfig
from wdistill.core.devices import device_name, keep_freed_memory, open_accelerator, versions
from wdistill.core.files import write_json
from wdistill.evaluation.opening import open_comparison
from wdistill.evaluation.trial import Trial


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("--dataset", help="where the real images are [default: what the run was made from]")
@click.option("--recipe", "name", default="default", show_default=True)
@click.option("--student", "students", multiple=True, default=("convnet-w64", "resnet10-w16"))
@click.option("--labels", multiple=True, default=("views",), show_default=True)
@click.option("--images", default="distilled,random", show_default=True)
@click.option("--steps", default=6000, show_default=True)
@click.option("--epochs", help="of a paper's recipe [default: its own]", type=int)
@click.option("--batch-size", default=50, show_default=True)
@click.option("--temperature", type=float, help="of the labels [default: the set's own]")
@click.option("--seeds", default=1, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(
    run: Path, dataset: str | None, name: RecipeName, students: tuple[str, ...],
    labels: tuple[Labels, ...], images: str, steps: int, epochs: int | None, batch_size: int,
    temperature: float | None, seeds: int, output: Path,
) -> None:  # fmt: skip
    keep_freed_memory()
    recipe = StudentConfig(epochs=epochs, seeds=seeds)
    if name == "default":
        recipe = StudentConfig(
            students=students, labels=labels, steps=steps, batch_size=batch_size,
            temperature=temperature, seeds=seeds,
        )  # fmt: skip
    baselines = tuple(part for part in images.split(",") if part != "distilled")
    config = EvaluateConfig(str(run), evaluate=recipe, recipe=name, baselines=baselines)  # type: ignore[arg-type]
    if dataset:
        config = replace(config, against=replace(config.against, dataset=dataset))
    accelerator = open_accelerator("no", "cpu")
    comparison = open_comparison(config, RuntimeConfig("cpu"), accelerator)
    trial = Trial(comparison, output.with_suffix(""))
    rows = []
    for job in trial.base_jobs():
        if job.images not in images.split(","):
            continue
        (found,) = trial.run([job])
        rows.append({**vars(job), "top1": found.top1, "seconds": found.seconds})
        click.echo(rows[-1])
    header = {"device": device_name(accelerator.device), "versions": versions()}
    manifest = read_manifest(one_set(run))
    described = {
        "dataset": manifest.source.pretty_name or manifest.source.id,
        "bits per class": manifest.bits_per_class,
        "recipe": comparison.recipes[0].model_dump(),
    }
    write_json(output, {**header, **described, "rows": rows})


if __name__ == "__main__":
    main()
