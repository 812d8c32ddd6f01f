"""For what the host waits in a step of each stage: nothing, but at looks; see GPU in the guide."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.environment import environment
from helpers.pretended_steps import BUDGET

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def steps() -> dict[str, Any]:
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "helpers.pretended_steps"], env=environment(PYTHONPATH=path),
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("stage", BUDGET)
def test_the_host_runs_ahead_of_the_device(stage: str, steps: dict[str, Any]) -> None:
    assert steps[stage]["kernels"] > 20
    assert sum(steps[stage]["waits"].values()) <= BUDGET[stage], steps[stage]["waits"]
