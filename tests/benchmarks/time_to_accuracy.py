"""Seconds until our images train a student as well as those of the published loop, in one run.

    python -m tests.benchmarks.time_to_accuracy --dataset cifar10 --teacher RUN/teacher

The loop of :mod:`tests.benchmarks.synthesis` runs to its end (noise, uniform atoms, statistics of
the class, learning rate 0.1). Then our defaults run with more and more steps until a student of
hard labels, the same for both, scores at least as well, and again without the pool of random
networks. Seconds of a row are those of the loop and of what only that loop needs: for ours the
spectrum and the targets of the pool. The survey (features, statistics) and the barycenters are
shared, and given beside: ``ratio`` leaves them out, ``ratio_with_shared`` does not.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from tests.benchmarks.distilling import DEFAULT, Bench, Budget, Setting
from tests.benchmarks.synthesis import BatchStatistics, plain_class
from wdistill.core.devices import device_name, keep_freed_memory, versions
from wdistill.core.files import write_json
from wdistill.core.seeds import stream
from wdistill.synthesis.spaces import FeatureSpace, Terms

STEPS = (0, 10, 20, 50, 100, 300)


def published(bench: Bench, steps: int) -> Tensor:
    """(C * n, 3, R, R) uint8 by the plain loop."""
    found, model = bench.transport("uniform", 0), bench.network.model
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    space = FeatureSpace("teacher", bench.network, Terms(1.0, moments=10.0), "")
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (bench.pixels.mean, bench.pixels.std))
    size, made = bench.pixels.resolution, []
    for label in range(bench.classes):
        aim = bench.target(label, found[label], [space], 0).spaces[0]
        hooks = [BatchStatistics(*k) for k in zip(layers, aim.means, aim.variances, strict=True)]
        start = torch.randn(bench.ipc, 3, size, size, generator=stream(0, "noise", label))
        made.append(plain_class(model, hooks, found[label].atoms, start, steps) * std + mean)
        for layer in layers:
            layer._forward_hooks.clear()
    return (torch.cat(made).clamp(0, 1) * 255).round().to(torch.uint8)


@click.command()
@click.option("--dataset", required=True)
@click.option("--teacher", required=True, help="checkpoint folder of a run")
@click.option("--student", default="resnet10-w16", show_default=True)
@click.option("--plain-steps", default=1000, show_default=True)
@click.option("--seeds", default=3, show_default=True, help="students per set")
@click.option("-o", "--output", type=click.Path(path_type=Path))
def main(
    dataset: str, teacher: str, student: str, plain_steps: int, seeds: int, output: Path | None
) -> None:
    keep_freed_memory()
    bench = Bench(dataset, teacher, 10, torch.device("cpu"))
    began = time.perf_counter()
    bench.transport("uniform", 0)
    shared = time.perf_counter() - began
    budget = Budget(400, 1000, 1e-3, 3e-3).config(bench.classes * bench.ipc, False)

    def score(images: Tensor, weights: Tensor) -> float:
        top1 = [bench.score(images, weights, student, False, budget, s) for s in range(seeds)]
        return sum(top1) / seeds

    began = time.perf_counter()
    plain = published(bench, plain_steps)
    rows: list[dict[str, Any]] = [{"images": "published loop", "steps": plain_steps}]
    rows[0] |= {"seconds": round(time.perf_counter() - began, 1)}
    rows[0] |= {"top1": score(plain, torch.ones(len(plain)))}
    for name, spaces in (("ours", DEFAULT.feature_spaces), ("ours, no random ConvNets", ("none",))):
        for steps in STEPS:
            config = replace(DEFAULT, iterations=steps, feature_spaces=spaces)
            began = time.perf_counter()
            images, weights = bench.distil(Setting(config, "uniform"), 0)
            seconds = time.perf_counter() - began
            row = {"images": name, "steps": steps, "seconds": round(seconds, 1)}
            row |= {"ratio": round(rows[0]["seconds"] / seconds, 1)}
            all_in = (rows[0]["seconds"] + shared) / (seconds + shared)
            row |= {"ratio_with_shared": round(all_in, 1), "top1": score(images, weights)}
            rows.append(row)
            if steps and row["top1"] >= rows[0]["top1"]:
                break
    result = {
        "dataset": Path(dataset).name, "student": student, "shared_seconds": round(shared, 1),
        "rows": rows,
        "threads": torch.get_num_threads(), "device": device_name(torch.device("cpu")),
        "versions": versions(),
    }  # fmt: skip
    click.echo(json.dumps(result, indent=2))
    if output:
        write_json(output, result)


if __name__ == "__main__":
    main()
