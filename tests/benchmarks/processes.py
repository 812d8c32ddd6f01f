"""Two processes of one thread on two cores against one on one core, in one run of this script.

    python -m tests.benchmarks.processes --dataset DIR --backbone TEACHER -o processes.json

Whole runs without evaluation, in turn, each into a folder of its own; the first pair is not
counted. Given are the ratios of the seconds of the stages that share out classes (survey and
barycenters: transport; synthesis; relabel). A class or group of classes is the smallest piece of
work, so the dataset should have many: that of `scale.py` with 100 classes has ten groups at ten
images per class.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

import click
import torch

from wdistill.artifact.layout import one_set
from wdistill.core.devices import device_name, versions
from wdistill.core.files import write_json

STAGES = ("transport", "synthesis", "relabel")


def seconds(command: list[str], folder: Path, processes: int) -> dict[str, float]:
    shutil.rmtree(folder, ignore_errors=True)
    call = [*command, "--num-processes", str(processes), "--output", str(folder)]
    cores = sorted(os.sched_getaffinity(0))[:processes]
    call = ["taskset", "-c", ",".join(map(str, cores)), *call]
    subprocess.run(call, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
    manifest = json.loads((one_set(folder) / "wdistill.json").read_text())
    assert manifest["processes"] == processes
    return dict(manifest["seconds"])


@click.command()
@click.option("--dataset", required=True)
@click.option("--backbone", required=True, help="a teacher that knows the classes")
@click.option("--ipc", default=10, show_default=True)
@click.option("--iterations", default=30, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(
    dataset: str, backbone: str, ipc: int, iterations: int, rounds: int, work: Path, output: Path
) -> None:
    command = [sys.executable, "-m", "wdistill", "run", "--dataset", dataset, "--no-evaluate", "-q"]
    command += ["--backbone", backbone, "--ipc", str(ipc), "--iterations", str(iterations)]
    command += ["--allow-weak-teacher", "--device", "cpu", "--feature-spaces", "convnet-w64:2"]
    pairs = []
    for turn in range(rounds + 1):
        pair = {str(n): seconds(command, work / f"run-{n}", n) for n in (1, 2)}
        if turn:
            pairs.append(pair)
    ratios = {s: [p["1"][s] / p["2"][s] for p in pairs] for s in STAGES}
    found = {
        "ipc": ipc, "iterations": iterations, "seconds": pairs,
        "ratios": {s: [round(r, 3) for r in values] for s, values in ratios.items()},
        "median": {s: round(median(values), 2) for s, values in ratios.items()},
        "cores": os.cpu_count(), "device": device_name(torch.device("cpu")), "versions": versions(),
    }  # fmt: skip
    write_json(output, found)
    click.echo(json.dumps(found["median"]))


if __name__ == "__main__":
    main()
