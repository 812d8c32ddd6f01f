"""What a run asks of a device beside its steps is what a CPU computes, and computed there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from helpers.environment import environment
from helpers.pretended_parts import PARTS, Parts

TESTS = Path(__file__).parents[1]
ON_THE_HOST = {"targets": 13}  # operations of one pass of the network, as it is opened


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "helpers.pretended_parts"], env=environment(PYTHONPATH=path),
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    parts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return parts


@pytest.mark.parametrize("name", PARTS)
def test_the_device_computes_what_a_cpu_computes(name: str, found: dict[str, Any]) -> None:
    """But for rounding; no network computes on the host, but to see what images it accepts."""
    expected = getattr(Parts(Accelerator(cpu=True)), name)()
    assert found[name]["values"] == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert found[name]["kernels"] > 20
    assert sum(found[name]["host"].values()) == ON_THE_HOST.get(name, 0)
