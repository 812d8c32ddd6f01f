"""The built wheel alone, in an environment of its own, away from the checkout."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from helpers.runs import QUICK, one_thread

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_the_wheel_runs_the_demo(tmp_path: Path) -> None:
    """Dependencies come from this environment, wdistill itself from the wheel only."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    subprocess.run([*build, str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("wdistill-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.startswith("tests")]
    for shipped in ("py.typed", "artifact/schemas/manifest.schema.json", "cards/report.html.jinja"):
        assert f"wdistill/{shipped}" in names
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "-q", "--no-deps", str(wheel)], check=True)
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = subprocess.run(
        [str(python), "-c", "import wdistill; print(wdistill.__file__)"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(where.stdout.strip()).is_relative_to(site)
    command = [str(python.with_name("wdistill")), "run", *QUICK, "--no-evaluate"]
    done = subprocess.run(
        [*command, "--teacher-epochs", "1"],
        cwd=tmp_path, env=one_thread(), capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "embedded" in done.stdout
    card = tmp_path / "runs" / "fashion-mnist-subset-ipc2" / "publish" / "README.md"
    assert card.read_text().startswith("---\n")
