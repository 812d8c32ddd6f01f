"""Whole stages of two checkouts, side by side in one run.

    python -m tests.benchmarks.stages --before CHECKOUT -o stages.json

Each checkout has a process of its own that has loaded everything; they take turns, and who begins
changes from round to round, so that other work on the machine disturbs both alike. A ratio above 1
says that this checkout is faster: the median of the ratios of all pairs, and the ratio of the best
seconds of each. With one thread of PyTorch, on as many cores as the command may use (`taskset`):
survey and barycenters share them. There are three kinds of seconds:

- clock: what a user waits. Beside other work, who has more threads gets more of the machine.
- processor: of all threads (`time.process_time`).
- free cores: what the measured threads would take if each had a core until there is none left, the
  longest thread or all divided by the cores, whichever is more. A bound, not a measurement.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import IO, Any

import click
import torch

from wdistill.core.devices import device_name, versions

STAGES = ("synthesis", "survey", "student", "teacher", "transport")
UNITS = {
    "synthesis": "steps", "survey": "images", "student": "steps", "teacher": "steps",
    "transport": "classes",
}  # fmt: skip
HERE = Path(__file__).resolve()


class Worker:
    """A process with the package of ``checkout``."""

    def __init__(self, checkout: Path, settings: dict[str, Any], stack: ExitStack) -> None:
        threads = str(settings["threads"])
        environment = {
            **os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": threads,
            "HF_DATASETS_OFFLINE": "1",
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-P", str(HERE.with_name("stages_worker.py"))],
            env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._process = stack.enter_context(process)
        stack.callback(process.kill)
        self._ask(settings)

    def _ask(self, question: Any) -> str:
        into: IO[str] = self._process.stdin  # type: ignore[assignment]
        out: IO[str] = self._process.stdout  # type: ignore[assignment]
        into.write(json.dumps(question) + "\n")
        into.flush()
        answer = out.readline()
        if not answer:
            raise click.ClickException("a worker has ended; see above")
        return answer

    def run(self, stage: str, amount: int) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._ask([stage, amount]))
        return answer


def compared(workers: Sequence[Worker], stage: str, amount: int, rounds: int) -> dict[str, Any]:
    """Before and after, taken in turns."""
    pairs: list[list[dict[str, Any]]] = []
    for number in range(rounds + 1):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        pair = {index: workers[index].run(stage, amount) for index in order}
        pairs.append([pair[0], pair[1]])
    pairs = pairs[1:]  # the first time everything is cold
    result: dict[str, Any] = {"amount": amount, "unit": UNITS[stage]}
    cores = len(os.sched_getaffinity(0))
    for kind, seconds_of in (
        ("clock", lambda one: one["clock"]),
        ("processor", lambda one: one["processor"]),
        ("free cores", lambda one: max(*one["threads"], one["processor"] / cores)),
    ):
        seconds = [[seconds_of(one) for one in pair] for pair in pairs]
        best = [min(pair[index] for pair in seconds) for index in range(2)]
        result[kind] = {
            "seconds": [[round(value, 4) for value in pair] for pair in seconds],
            "per_second": [round(amount / value, 3) for value in best],
            "median_ratio": round(median(b / a for b, a in seconds), 3),
            "ratio_of_best": round(best[0] / best[1], 3),
        }
    result["same_result"] = pairs[0][0]["result"] == pairs[0][1]["result"]
    return result


@click.command()
@click.option("--before", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--after", type=click.Path(path_type=Path), default=HERE.parents[2])
@click.option("--dataset", help="As `wdistill run` takes it; a subset of Fashion-MNIST if not set.")
@click.option("--backbone", default="resnet10-w16", show_default=True)
@click.option("--resolution", default=32, show_default=True)
@click.option("--images", default=200, show_default=True, help="Of each class.")
@click.option("--steps", default=8, show_default=True)
@click.option("--classes", default=10, show_default=True, help="Of a transport stage.")
@click.option("--rounds", default=7, show_default=True)
@click.option("--threads", default=1, show_default=True, help="Of PyTorch.")
@click.option("--stages", default=",".join(STAGES), show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path))
def main(
    before: Path, after: Path, stages: str, steps: int, classes: int, rounds: int,
    output: Path | None, **settings: Any,
) -> None:  # fmt: skip
    amounts = {
        "synthesis": steps,
        "survey": 128 * steps,
        "student": 2 * steps,
        "teacher": 4 * steps,
        "transport": classes,
    }
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        workers = [Worker(checkout, settings, stack) for checkout in (before, after)]
        for stage in stages.split(","):
            found[stage] = compared(workers, stage, amounts[stage], rounds)
            click.echo(f"{stage}: {json.dumps(_short(found[stage]))}")
            if output:
                report = {
                    **settings, "rounds": rounds, "cores": len(os.sched_getaffinity(0)),
                    "load": os.getloadavg()[0], "device": device_name(torch.device("cpu")),
                    "versions": versions(), "stages": found,
                }  # fmt: skip
                output.write_text(json.dumps(report, indent=1) + "\n")


def _short(result: dict[str, Any]) -> dict[str, Any]:
    kinds = ("clock", "processor", "free cores")
    part = {c: {k: v for k, v in result[c].items() if k != "seconds"} for c in kinds}
    return {"unit": result["unit"], **part, "same_result": result["same_result"]}


if __name__ == "__main__":
    main()
