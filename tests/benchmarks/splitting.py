"""What it costs to take a step of synthesis in parts, and how much memory it saves.

    taskset -c 0 python -m tests.benchmarks.splitting -o splitting.json

100 images a step, two classes of 50: all at once, one class at a time (one pass), and parts of
classes (two passes). Each row has a process of its own. Prints images x iterations per second, the
peak of the memory that tensors take, and on a CPU that of the process beyond what it had before.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch

from wdistill.config import SynthesisConfig
from wdistill.core.devices import Capacity, device_name, keep_freed_memory, versions
from wdistill.core.seeds import stream
from wdistill.data.pixels import Preprocessing
from wdistill.networks.backbones import new_network
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.features import FeatureNetwork
from wdistill.synthesis.optimise import ClassTarget, Objective, synthesise
from wdistill.synthesis.spaces import FeatureSpace, SpaceTarget, Terms
from wdistill.synthesis.spectrum import measure_spectrum

CLASSES, IPC = 2, 50


def peak_of_tensors(work: Callable[[], object], device: torch.device) -> float:
    """MiB that tensors made by ``work`` take at most."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    cpu = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[cpu], profile_memory=True) as profile:
        work()
    events = profile.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(itertools.accumulate(size for _, size in changes)) / 2**20


def process_peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measure(backbone: str, resolution: int, device: str, steps: int, most: int) -> dict[str, Any]:
    keep_freed_memory()
    torch.set_num_threads(1)
    where = torch.device(device)
    pixels = Preprocessing(resolution, 0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    source = find_backbone(backbone, resolution=resolution)
    network = FeatureNetwork(new_network(source, "ab", resolution, 0), pixels, where)
    space = FeatureSpace("teacher", network, Terms(1.0, moments=10.0, entropy=1.0), "")
    start = torch.rand(CLASSES, IPC, 3, resolution, resolution, generator=stream(0, "start"))
    with torch.no_grad():
        out = network(start[0, :2].to(where))
    means, variances = (tuple(x.mean(0).cpu() for x in xs) for xs in (out.means, out.variances))
    atoms = torch.rand(IPC, out.features.shape[1])
    aim = SpaceTarget(atoms, 1.0, means, variances)
    targets = [ClassTarget(c, torch.full((IPC,), 1 / IPC), (aim,)) for c in range(CLASSES)]
    spectrum = measure_spectrum([(start.flatten(0, 1) * 255).to(torch.uint8)])
    capacity, before = Capacity(), process_peak()
    capacity.limit = most
    times: list[float] = []

    def tick(_: int) -> None:
        if where.type == "cuda":
            torch.cuda.synchronize()
        # Of the CPU, its own time, in which other work on the machine does not count.
        times.append(time.process_time() if where.type == "cpu" else time.perf_counter())

    def work(iterations: int) -> None:
        config = SynthesisConfig(iterations=iterations)
        draws = [stream(0, "benchmark", c) for c in range(CLASSES)]
        objective = Objective([space], spectrum, config)
        synthesise(objective, targets, [*start], draws, tick, capacity)

    work(steps + 1)
    fastest, process = min(b - a for a, b in itertools.pairwise(times)), process_peak() - before
    return {
        "images_at_once": most,
        "images_x_iterations_per_second": round(CLASSES * IPC / fastest, 1),
        "tensors_mib": round(peak_of_tensors(lambda: work(1), where)),
        "process_mib": round(process),
    }


@click.command()
@click.option("--backbone", default="resnet18", show_default=True)
@click.option("--resolution", default=64, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--steps", default=2, show_default=True, help="The fastest is kept.")
@click.option("--output", "-o", type=click.Path(path_type=Path))
def main(backbone: str, resolution: int, device: str, steps: int, output: Path | None) -> None:
    rows = []
    for most in (100, 50, 25, 13):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(measure, (backbone, resolution, device, steps, most)))
        click.echo(json.dumps(rows[-1]))
    result = {
        "backbone": backbone,
        "resolution": resolution,
        "ipc": IPC,
        "rows": rows,
        "device": device_name(torch.device(device)),
        "versions": versions(),
    }
    if output:
        output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
