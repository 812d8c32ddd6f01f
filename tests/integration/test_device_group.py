"""What processes send each other goes by their devices, and comes back to the host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from helpers.environment import environment
from helpers.pretended_group import EXPECTED

TESTS = Path(__file__).parents[1]


def test_processes_exchange_tensors_of_their_devices() -> None:
    """And files and barycenters of such tensors are those of the host's."""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "helpers.pretended_group"], env=environment(PYTHONPATH=path),
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == EXPECTED
