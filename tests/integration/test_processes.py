"""Several processes: same dataset, one voice, nothing lost."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.environment import environment
from helpers.ranks import WAITING
from helpers.runs import (
    one_thread,
    parquet_bytes,
    run_wdistill,
    small_source,
    wdistill_command,
    with_copies,
)

from wdistill.artifact.layout import one_set
from wdistill.cli.launch import exit_code
from wdistill.errors import ProcessError

SCRIPT = Path(__file__).with_name("rank_script.py")
QUICK = (  # ipc 40 makes five groups of classes
    "--ipc", "40", "--iterations", "6", "--eval-epochs", "1", "--eval-seeds", "1",
    "--teacher-epochs", "2", "--feature-spaces", "convnet-w64:2",
    "--image-format", "webp", "--image-quality", "40",
    "--label-giver", "teacher", "--label-views", "2",
)  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some images stand in both splits."""
    return with_copies(small_source(tmp_path_factory.mktemp("source")))


@pytest.fixture(scope="module")
def two(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by two processes, the training of the teacher included."""
    folder = tmp_path_factory.mktemp("runs") / "two"
    command = ("run", "--dataset", source, *QUICK, "--output", folder, "--num-processes", "2")
    done = run_wdistill(*command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Left out of training 3 of 600 images") == 1
    assert done.stdout.count("has accuracy") == done.stdout.count("card: ") == 1
    return folder


@pytest.mark.slow
def test_two_processes_give_the_same_dataset_as_one(
    two: Path, source: Path, tmp_path: Path
) -> None:
    """Given the same teacher."""
    manifest = json.loads((one_set(two) / "wdistill.json").read_text())
    assert manifest["processes"] == 2
    done = run_wdistill(
        "run", "--dataset", source, *QUICK, "--backbone", two / "teacher",
        "--output", tmp_path / "one",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert parquet_bytes(tmp_path / "one") == parquet_bytes(two)


def ranks(
    count: int, *arguments: str | Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    return subprocess.run(
        [sys.executable, *launch, str(SCRIPT), *map(str, arguments)],
        env=env or one_thread(), capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_processes_need_no_common_file_system(two: Path, source: Path, tmp_path: Path) -> None:
    """Each process has a folder of its own, and the first one's is complete."""
    command = ("--apart", tmp_path, "run", "--dataset", source, *QUICK, "--output", "run")
    done = ranks(2, *command)
    assert done.returncode == 0, done.stderr
    assert parquet_bytes(tmp_path / "0" / "run") == parquet_bytes(two)
    assert not (tmp_path / "1" / "run" / "publish").exists()
    units = [sorted(p.name for p in (tmp_path / r / "run/work").glob("*-0*")) for r in "01"]
    assert units[0] == units[1]
    for rank in "01":  # what one of them has lost, the other one still has
        for path in (tmp_path / rank / "run" / "work").glob(f"synthesis-*[{rank}02].safetensors"):
            path.unlink()
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/run/work/*.safetensors")}
    done = ranks(2, *command)
    assert done.returncode == 0, done.stderr
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert parquet_bytes(tmp_path / "0" / "run") == parquet_bytes(two)


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_one_that_fails_ends_all_with_one_message(
    rank: str, two: Path, source: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = ("run", "--dataset", source, *QUICK, "--backbone", two / "teacher", "--output", run)
    done = ranks(2, "--fail", rank, *command)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert said == [f"Error: {'process 2: ' if rank == '1' else ''}cannot write"]
    assert len(list((run / "work").glob("transport-*"))) == 5


def waiting_in_cpp() -> dict[str, str]:
    """The environment of processes whose barrier waits as NCCL's; see tests/helpers/waiting."""
    path = f"{WAITING}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return environment(HF_HUB_OFFLINE="1", PYTHONPATH=path)


def test_a_bad_option_is_told_once(source: Path, tmp_path: Path) -> None:
    """Without waiting for torchrun's SIGKILL, which comes after 30 seconds."""
    done = run_wdistill(
        "run", "--dataset", source, "--label-column", "colour", "--output", tmp_path / "run",
        "--num-processes", "2", env=waiting_in_cpp(),
    )  # fmt: skip
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    assert "colour" in lines[0]


def started(source: Path, two: Path, run: Path) -> subprocess.Popen[str]:
    """A run by two processes, caught during synthesis, of which one group is finished."""
    command = wdistill_command(
        "run", "--dataset", source, *QUICK, "--backbone", two / "teacher", "--output", run,
        "--num-processes", "2", "-q",
    )  # fmt: skip
    process = subprocess.Popen(command, env=one_thread(), stderr=subprocess.PIPE, text=True)
    while not list((run / "work").glob("synthesis-*")):
        assert process.poll() is None
        time.sleep(0.01)
    return process


def children(process: subprocess.Popen[str]) -> list[int]:
    """Process ids, the main one's first."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ranks = {}
    for child in found:
        for entry in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            if entry.startswith(b"RANK="):
                ranks[int(entry[5:])] = int(child)
    return [ranks[rank] for rank in sorted(ranks)]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_is_killed_ends_all_and_the_rest_is_kept(
    rank: int, two: Path, source: Path, tmp_path: Path
) -> None:
    process = started(source, two, tmp_path / "run")
    os.kill(children(process)[rank], signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    (line,) = (line for line in errors.splitlines() if line.strip())
    assert line.startswith(f"Error: process {rank + 1} of 2 was ended by SIGKILL; what was finish")
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "run/work").glob("*.safetensors")}
    assert kept
    done = run_wdistill(
        "run", "--dataset", source, *QUICK, "--backbone", two / "teacher",
        "--output", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert parquet_bytes(tmp_path / "run") == parquet_bytes(two)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
@pytest.mark.slow
def test_interrupt_says_once_how_to_go_on(
    number: signal.Signals, code: int, two: Path, source: Path, tmp_path: Path
) -> None:
    process = started(source, two, tmp_path / "run")
    workers = children(process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    lines = [line for line in errors.splitlines() if line.strip()]
    assert len(lines) == 1, errors
    assert lines[0].startswith("Interrupted. To go on: wdistill run --dataset")
    assert "--num-processes 2" in lines[0]
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_node_without_the_data_ends_both(rank: str, source: Path, tmp_path: Path) -> None:
    """Each process has a folder of its own, and one of them lacks the dataset."""
    for folder in "01":
        (tmp_path / folder).mkdir()
        if folder != rank:
            shutil.copytree(source, tmp_path / folder / "data")
    command = ("run", "--dataset", "./data", *QUICK, "--output", "run")
    done = ranks(2, "--apart", tmp_path, *command, env=waiting_in_cpp())
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(said) == 1, done.stderr
    assert "data" in said[0]


@pytest.mark.slow
def test_thirty_kills_in_a_row_lose_nothing(two: Path, source: Path, tmp_path: Path) -> None:
    """One of two processes is killed at a random moment, thirty times; what a start has finished is
    never computed again. A run that gets to its end has the bytes of an uninterrupted one, and
    another one begins.
    """
    run, draw, kills, ends = tmp_path / "run", random.Random(0), 0, 0
    command = ["run", "--dataset", source, *QUICK, "--output", run, "--num-processes", "2", "-q"]
    made: dict[Path, int] = {}
    while kills < 30 or ends == 0:
        process = subprocess.Popen(
            wdistill_command(*command), env=one_thread(), stderr=subprocess.PIPE, text=True
        )
        until = time.monotonic() + (draw.uniform(3, 20) if kills < 30 else 300)
        while time.monotonic() < until and process.poll() is None:
            time.sleep(0.05)
        workers = children(process) if process.returncode is None else []
        if workers:
            os.kill(draw.choice(workers), signal.SIGKILL)
            kills += 1
        _, errors = process.communicate(timeout=120)
        assert "Traceback" not in errors
        now = {p: p.stat().st_mtime_ns for p in (run / "work").rglob("*-0*") if p.name[0] != "."}
        assert {path: now[path] for path in made} == made
        made = now
        if process.returncode == 0:
            assert parquet_bytes(run) == parquet_bytes(two)
            shutil.rmtree(run)
            made, ends = {}, ends + 1


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ({0: 2}, 2),
        ({0: 1, 1: -15}, 1),  # the second was told to end because the first had failed
        ({0: -15, 1: 1}, 1),
        ({1: -9}, "process 2 of 2 was ended by SIGKILL"),
        ({0: 76, 1: -9}, "process 2 of 2 was ended by SIGKILL"),  # the first has lost the second
        ({0: 1, 1: -9}, 1),  # the second waited in C++ and did not hear SIGTERM
        ({0: 1, 1: -6}, 1),  # NCCL's guard has ended the second
        ({0: 143, 1: -9}, "process 2 of 2 was ended by SIGKILL"),
        ({0: 143, 1: 1}, 1),
        ({0: 76, 1: 1}, 1),
        ({0: 76, 1: -15}, "process 2 of 2 was ended by SIGTERM"),
        ({0: 76, 1: 76}, "the 2 processes have lost each other"),
        ({0: -15}, "process 1 of 2 was ended by SIGTERM"),
    ],
)
def test_the_end_of_all_is_that_of_the_one_that_failed(
    codes: dict[int, int], expected: int | str
) -> None:
    if isinstance(expected, int):
        assert exit_code(codes, 2) == expected
    else:
        with pytest.raises(ProcessError, match=expected):
            exit_code(codes, 2)
