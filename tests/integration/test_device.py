"""The commands on a device that refuses what CUDA refuses; see tests/helpers/pretend.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.runs import one_thread, small_source

from wdistill.artifact.layout import one_set

TESTS = Path(__file__).parents[1]
TINY = (
    "--ipc", "2", "--iterations", "4", "--eval-epochs", "3", "--eval-seeds", "1",
    "--teacher-epochs", "1", "--allow-weak-teacher", "--feature-spaces", "convnet-w64:1",
    "--label-giver", "teacher", "--label-views", "2",
)  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_source(tmp_path_factory.mktemp("source"), 20)


def on_device(folder: Path, *arguments: str | Path, limit: int = 0) -> dict[str, object]:
    """What was seen on the device while the command ran."""
    report = folder / "seen.json"
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "helpers.pretended_command", str(limit), str(report)]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        env={**one_thread(), "PYTHONPATH": path}, capture_output=True, text=True, timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    seen: dict[str, object] = json.loads(report.read_text())
    return {**seen, "out": done.stdout}


@pytest.fixture(scope="module")
def finished(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("device")
    command = ("run", "--dataset", source, *TINY, "--backbone", "resnet10-w16")
    seen = on_device(folder, *command, "--output", folder / "run")
    assert int(str(seen["kernels"])) > 10_000
    assert "convolution" in seen["operations"]  # type: ignore[operator]
    assert "device: pretend" in str(seen["out"])
    return folder / "run"


@pytest.mark.slow
def test_a_run_and_its_evaluation(finished: Path, tmp_path: Path) -> None:
    """With stored views and with labels of the teacher."""
    manifest = json.loads((one_set(finished) / "wdistill.json").read_text())
    assert manifest["device"] == "pretend"
    on_device(
        tmp_path, "evaluate", finished, "--baselines", "random,nearest,full", "--seeds", "1",
        "--labels", "hard", "--labels", "teacher", "--output", tmp_path / "report",
        "--steps", "3", "--student", "convnet-w64",
    )  # fmt: skip
    assert json.loads((tmp_path / "report/report.json").read_text())


@pytest.mark.slow
def test_a_set_is_made_again(finished: Path, source: Path, tmp_path: Path) -> None:
    seen = on_device(
        tmp_path, "reproduce", finished, "--dataset", source, "--output", tmp_path / "again"
    )
    assert "bit-identical" in str(seen["out"])
