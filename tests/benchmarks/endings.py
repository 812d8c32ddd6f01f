"""How long two processes take to end: after a wrong option, and after Ctrl-C.

    PYTHONPATH=.:tests python -m tests.benchmarks.endings --work DIR -o endings.json

A wrong column is told by one process while the other waits for it, once in gloo, and once behind a
barrier that waits in C++ as NCCL's does (tests/helpers/waiting); in turns, and the ratio of each
pair counts. Ctrl-C comes at several moments of synthesis.
"""

from __future__ import annotations

import signal
import time
from itertools import count
from pathlib import Path
from statistics import median

import click
import torch
from helpers.runs import one_thread, run_wdistill, small_source, with_copies

from tests.integration.test_processes import QUICK, started, waiting_in_cpp
from wdistill.core.devices import device_name, versions
from wdistill.core.files import write_json


def wrong_column(source: Path, run: Path, environment: dict[str, str]) -> float:
    """Seconds until both have ended with one line."""
    begin = time.monotonic()
    done = run_wdistill(
        "run", "--dataset", source, "--label-column", "colour", "--output", run,
        "--num-processes", "2", env=environment,
    )  # fmt: skip
    seconds = time.monotonic() - begin
    assert done.returncode == 1
    assert sum(bool(line.strip()) for line in done.stderr.splitlines()) == 1, done.stderr
    return seconds


def interrupted(source: Path, two: Path, run: Path, wait: float) -> float:
    """Seconds from Ctrl-C, ``wait`` seconds into synthesis, to the end of all processes."""
    process = started(source, two, run)
    time.sleep(wait)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    seconds = time.monotonic() - begin
    assert process.returncode == 130
    return seconds


@click.command()
@click.option("--work", type=click.Path(path_type=Path), required=True, help="An empty folder.")
@click.option("--rounds", default=4, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(work: Path, rounds: int, output: Path) -> None:
    source, number = with_copies(small_source(work / "source")), count()
    places = {"gloo": one_thread(), "C++": waiting_in_cpp()}
    pairs = []
    for turn in range(rounds):
        order = list(places) if turn % 2 == 0 else list(places)[::-1]
        pairs.append(
            {name: wrong_column(source, work / f"{next(number)}", places[name]) for name in order}
        )
        click.echo(pairs[-1])
    two = work / "two"
    command = ("run", "--dataset", source, *QUICK, "--output", two, "--num-processes", "2")
    assert run_wdistill(*command).returncode == 0
    stops = [interrupted(source, two, work / f"{next(number)}", 0.2 * i) for i in range(rounds)]
    found = {
        "wrong column, seconds": pairs,
        "median ratio": median(pair["C++"] / pair["gloo"] for pair in pairs),
        "Ctrl-C, seconds": stops,
    }
    header = {"versions": versions(), "device": device_name(torch.device("cpu"))}
    click.echo(found)
    write_json(output, {**header, **found})


if __name__ == "__main__":
    main()
