"""What rounding costs label views: divergence and bytes by the number of values of a logit.

    python -m tests.benchmarks.label_rounding RUN --dataset cifar10 --views 40
    python -m tests.benchmarks.label_rounding RUN --dataset cifar10 --views 80 --bytes 20000 \\
        --student convnet-w64 --student resnet10-w16 -o label-rounding.json

Divergence is KL(exact || rounded) in nats, bytes are those of a view beyond the second of each
image. The logits are those of the run's committee, or of its teacher if it has none. *logits*: the
levels of least squared error of the logits themselves, for comparison; the files are not made for
them. With --bytes, students see
as many views as fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from torch.nn import functional as F

from wdistill.config import EvaluateConfig, LabelViewsConfig, RuntimeConfig, StudentConfig
from wdistill.core.devices import device_name, keep_freed_memory, open_accelerator, versions
from wdistill.core.files import write_json
from wdistill.evaluation.comparison import Comparison
from wdistill.evaluation.metrics import score_network
from wdistill.evaluation.opening import open_comparison
from wdistill.evaluation.training import Training, TrainingSet, recipe_for, train_student
from wdistill.labels.codec import encode, fit
from wdistill.labels.rounding import codebook, rounded
from wdistill.labels.views import LabelViews, ViewRecipe, all_logits, label_views
from wdistill.networks.backbones import new_network
from wdistill.networks.checkpoints.source import STUDENTS, find_backbone
from wdistill.networks.features import FeatureNetwork

LEVELS = (4, 6, 8, 16)


def of_logits(views: LabelViews, levels: int) -> LabelViews:
    centres = codebook(views.logits, levels)
    place = torch.bucketize(views.logits.contiguous(), (centres[1:] + centres[:-1]) / 2)
    return replace(views, logits=centres[place])


def divergence(views: LabelViews, coarse: LabelViews, classes: int) -> float:
    was, now = (all_logits(each, classes).double().log_softmax(1) for each in (views, coarse))
    return float(F.kl_div(now, was, reduction="batchmean", log_target=True))


def bytes_a_view(coarse: LabelViews, classes: int) -> float:
    few = coarse.first(2)
    size = len(encode(coarse, classes)) - len(encode(few, classes))
    return size / (len(coarse) - len(few))


def top1(comparison: Comparison, views: LabelViews, name: str, seed: int, steps: int) -> float:
    """Accuracy of a student that sees nothing but ``views``."""
    pixels, preprocessing = comparison.candidate.pixels, comparison.train.preprocessing
    source = find_backbone(name, resolution=preprocessing.resolution, setting=STUDENTS)
    classes = comparison.real.class_names
    student = new_network(source, classes, preprocessing.resolution, 100 + seed)
    recipe = recipe_for(StudentConfig(steps=steps, batch_size=50), len(pixels))
    data = TrainingSet(pixels, comparison.candidate.labels, torch.ones(len(pixels)), True,
                       views=views)  # fmt: skip
    device = comparison.accelerator.device
    train_student(student, data, preprocessing, Training(recipe, seed, device))
    return score_network(FeatureNetwork(student, preprocessing, device), comparison.test).top1


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option("--dataset", help="where the real images are [default: what the run was made from]")
@click.option("--views", default=40, show_default=True)
@click.option("--bytes", "budget", type=int, help="of the views of a student")
@click.option("--student", "students", multiple=True)
@click.option("--steps", default=2000, show_default=True)
@click.option("--seeds", default=1, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path))
def main(
    run: Path, dataset: str | None, views: int, budget: int | None, students: tuple[str, ...],
    steps: int, seeds: int, output: Path | None,
) -> None:  # fmt: skip
    keep_freed_memory()
    config = EvaluateConfig(str(run), evaluate=StudentConfig(students=students), baselines=())
    if dataset:
        config = replace(config, against=replace(config.against, dataset=dataset))
    comparison = open_comparison(
        config, RuntimeConfig("cpu", quiet=True), open_accelerator("no", "cpu")
    )
    giver, classes = comparison.giver or comparison.teacher.network, comparison.classes  # type: ignore[union-attr]
    every = label_views(giver, comparison.candidate.pixels, ViewRecipe(LabelViewsConfig(views), 1))
    ways: dict[str, Callable[[int], LabelViews]] = {
        "roots": lambda levels: rounded(every, levels, classes, 1.0),
        "logits": lambda levels: of_logits(every, levels),
    }
    rows: list[dict[str, Any]] = []
    for way, coarse in ways.items():
        for levels in LEVELS:
            found: dict[str, Any] = {"of": way, "levels": levels}
            found["divergence"] = divergence(every, coarse(levels), classes)
            if way == "roots":
                found["bytes a view"] = bytes_a_view(coarse(levels), classes)
            if students and way == "roots":
                kept, _ = fit(coarse(levels), classes, budget)
                found |= {"views": kept.count, "steps": steps} | {
                    name: [top1(comparison, kept, name, seed, steps) for seed in range(seeds)]
                    for name in students
                }
            rows.append(found)
            click.echo(found)
    if output:
        device = device_name(comparison.accelerator.device)
        write_json(output, {"device": device, "versions": versions(), "rows": rows})


if __name__ == "__main__":
    main()
