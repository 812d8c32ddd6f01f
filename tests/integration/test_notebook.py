"""The Python API as a notebook uses it: one process, from the data to the Hub and back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_a_notebook_distils_shows_evaluates_pushes_and_loads(
    env: dict[str, str], tmp_path: Path
) -> None:
    script = Path(__file__).with_name("notebook_script.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path / "work", "alice/set"],
        env=env, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
