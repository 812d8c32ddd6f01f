"""`wdistill evaluate A B`: one page, and the students of random images are trained once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from helpers.foreign import classic_file, real_images
from helpers.runs import run_wdistill, small_source

from wdistill.artifact.report import Report
from wdistill.cli.main import cli
from wdistill.evaluation.several.compare import default_output, folder_names


def test_names_of_folders_are_told_apart() -> None:
    assert folder_names(["runs/a", "b.pt", "other/a/"]) == ["a-1", "b.pt", "a-2"]
    assert default_output(["runs/a", "b.pt"]) == Path("reports/a-b.pt")


def test_a_set_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["evaluate", "a.pt", "a.pt", "-q", "--output", str(tmp_path)])
    assert "'a.pt' is given twice" in str(done.exception)


@pytest.mark.slow
def test_several_sets_on_one_page(tmp_path: Path) -> None:
    real = small_source(tmp_path / "fashion_mnist", per_class=12)
    theirs = classic_file(tmp_path / "dm.pt")
    images, labels = real_images(2)
    torch.save([images, labels], tmp_path / "two.pt")
    done = run_wdistill(
        "evaluate", theirs, tmp_path / "two.pt", "--against", real, "--recipe", "classic",
        "--steps", "2", "--seeds", "1", "--output", tmp_path / "both",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "convnet-3, hard labels, 2 steps" in done.stdout
    reports = [
        Report.read(tmp_path / "both" / name / "report.json") for name in ("dm.pt", "two.pt")
    ]
    assert [found.source.ipc for found in reports] == [2, 2]
    numbers = json.loads((tmp_path / "both" / "comparison.json").read_text())
    assert {row["set"] for row in numbers} == {"dm.pt", "two.pt"}
    names = [path.name for path in (tmp_path / "both" / "work").glob("*-random-2-*.json")]
    assert len(names) == 1, "random images in the same number are trained on once"
    assert "2 sets side by side" in (tmp_path / "both" / "comparison.html").read_text()
