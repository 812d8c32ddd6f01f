"""The script for the first minutes with a GPU runs to its end on any machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benchmarks.first_hour import LIMITS, MINUTES, main, run_limited
from helpers.environment import environment

SCRIPT = Path(__file__).parents[1] / "benchmarks/first_hour.sh"


def test_the_limits_fit_into_the_minutes() -> None:
    assert sum(LIMITS.values()) <= 60 * MINUTES


def test_the_last_line_of_a_check_is_its_result() -> None:
    found = run_limited([sys.executable, "-c", "print('a word'); print('{\"steps\": 3}')"], 60)
    assert found["ok"]
    assert found["steps"] == 3


def test_a_failure_is_recorded_with_what_was_said() -> None:
    found = run_limited([sys.executable, "-c", "print('so far'); raise ValueError('why')"], 60)
    assert not found["ok"]
    assert found["error"] == "ValueError: why"
    assert "so far" in found["output"]


def test_a_check_that_takes_too_long_ends_with_all_that_it_started(tmp_path: Path) -> None:
    record = tmp_path / "pid"
    found = run_limited(["sh", "-c", f"sleep 600 & echo $! > {record}; wait"], 4)
    assert not found["ok"]
    assert found["error"] == "took longer than 4 s"
    number = int(record.read_text())
    for _ in range(100):  # until whoever inherits it has collected it
        if not _is_running(number):
            return
        time.sleep(0.1)
    pytest.fail("the process that the check started is still there")


def _is_running(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_without_time_every_check_is_a_failure_and_the_file_is_complete(tmp_path: Path) -> None:
    output = tmp_path / "hour.json"
    assert main([str(output), "--tiny", "--minutes", "0"]) == 1
    found = json.loads(output.read_text())
    assert found["failed"] == list(LIMITS)
    assert all("no time was left" in check["error"] for check in found["checks"].values())


@pytest.mark.slow
def test_all_checks_pass_on_a_cpu(tmp_path: Path) -> None:
    output = tmp_path / "hour.json"
    done = subprocess.run(
        ["bash", str(SCRIPT), str(output), "--tiny", "--device", "cpu", "--minutes", "60"],
        env=environment(PYTHON=sys.executable, PYTHONPATH=os.environ.get("PYTHONPATH", "")),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    checks = json.loads(output.read_text())["checks"]
    assert list(checks) == list(LIMITS)
    assert {"python", "torch", "transformers", "wdistill"} <= checks["machine"]["versions"].keys()
    assert "colour" in checks["wrong_column"]["line"]
    assert checks["equal_runs"]["files"] >= 2
    assert checks["memory"]["at_once"] < checks["memory"]["images"]
    stages = {"pixels", "teacher", "transport", "synthesis", "relabel", "evaluate"}
    assert stages <= checks["imagenet_shaped"]["stage_seconds"].keys()
    for size in (32, 64, 224):
        for precision in ("float32", "bf16"):
            measured = checks[f"steps_{size}"][precision]
            assert {"synthesis", "survey", "student", "teacher"} <= measured.keys()
    for size in (32, 64):
        assert checks["graphs"][f"{size} px, apart"]["levels_at_most"] == 0  # a CPU has none
        for name in ("without", "with"):
            assert {"synthesis", "student"} == checks["graphs"][f"{size} px, {name}"].keys()
    assert checks["busy"]["224"]["operations"] > 100
