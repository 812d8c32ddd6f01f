"""Two machines, played on loopback: what one of them suffers ends both, and costs nothing done."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from helpers.environment import environment
from helpers.machines import machines
from helpers.ranks import WAITING
from helpers.runs import parquet_bytes, run_wdistill, small_source

pytestmark = pytest.mark.slow
QUICK = (  # ipc 40 makes five groups of classes
    "--ipc", "40", "--iterations", "6", "--no-evaluate",
    "--feature-spaces", "convnet-w64:2", "--image-format", "webp", "--image-quality", "40",
    "--label-giver", "teacher", "--label-views", "2", "--device", "cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def one(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    done = run_wdistill(
        "run", "--dataset", source, *QUICK, "--teacher-epochs", "2", "--output", folder
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    ("rendezvous", "what", "which", "common_disk"),
    [
        ("static", "process", 1, True),
        ("static", "launcher", 1, False),
        ("c10d", "machine", 0, True),  # with the store in which all meet
        ("c10d", "machine", 1, False),
    ],
)
def test_one_that_is_killed_ends_both_and_the_rest_is_kept(
    rendezvous: str, what: str, which: int, common_disk: bool, one: Path, source: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    folders = [tmp_path / "0", tmp_path / "1"]
    output = tmp_path / "run" if common_disk else Path("run")
    runs = [folder / output for folder in folders]
    command = ("run", "--dataset", source, *QUICK, "--backbone", one / "teacher", "-q")
    command = (*command, "--output", output)
    with machines(folders, command, rendezvous) as pair:
        while not any(list((run / "work").glob("synthesis-*")) for run in runs):
            for machine in pair:
                assert machine.launcher.poll() is None, machine.launcher.communicate()
            time.sleep(0.01)
        pair[which].kill(what)
        said = [machine.end() for machine in pair]
    name = f"process {which + 1} of 2"
    prefix = ("Error: ", "Error: process 2: ")[1 - which]
    end = "; what was finished is kept, run the same command again\n"
    words = f"{name} has failed or was killed"
    if (rendezvous, which) == ("c10d", 0):  # whichever is noticed first: it held the store
        assert said[1].startswith((f"{prefix}{words}", f"{prefix}the main machine's launcher ("))
        assert said[1].count("\n") == 1
        assert said[1].endswith(end)
    else:
        assert said[1 - which] == f"{prefix}{words}{end}"
    own = f"Error: process 2: the launcher of {name} has ended{end}" if what == "launcher" else ""
    assert said[which] == own
    kept = {p: p.stat().st_mtime_ns for run in runs for p in run.glob("work/*.safetensors")}
    assert any(path.name.startswith("synthesis-") for path in kept)
    with machines(folders, command, rendezvous) as pair:
        assert [machine.end(600) for machine in pair] == ["", ""]
        assert [machine.launcher.returncode for machine in pair] == [0, 0]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert parquet_bytes(runs[0]) == parquet_bytes(one)


@pytest.mark.parametrize("lacks", [0, 1])
def test_a_machine_without_the_data_ends_both(
    lacks: int, one: Path, source: Path, tmp_path: Path
) -> None:
    """Even where processes wait in C++ for one another; no launcher ends the other one."""
    folders = [tmp_path / "0", tmp_path / "1"]
    shutil.copytree(source, folders[1 - lacks] / "data")
    command = ("run", "--dataset", "./data", *QUICK, "--backbone", one / "teacher")
    path = f"{WAITING}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    env = environment(HF_HUB_OFFLINE="1", PYTHONPATH=path)
    with machines(folders, (*command, "--output", "run"), env=env) as pair:
        said = [machine.end() for machine in pair]
    assert all(text.count("\n") == 1 for text in said), said
    assert "data" in said[lacks]
    assert f"process {lacks + 1} of 2 has failed or was killed" in said[1 - lacks]
