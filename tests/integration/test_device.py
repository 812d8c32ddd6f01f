"""Commands on a device that refuses what CUDA refuses; see tests/helpers/pretend.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from helpers.pretended_checks import elsewhere, finished, manifest_of, played, set_of
from helpers.pretended_command import DeviceProcess
from helpers.pretended_scenes import Command
from helpers.runs import parquet_bytes, run_wdistill

from wdistill.artifact.distilled_set import read_distilled, read_report
from wdistill.artifact.layout import one_set

pytestmark = pytest.mark.slow
SMALL = 800_000  # bytes: what networks make of some images of a step, but not of all


def pixels(run: Path) -> np.ndarray:
    return read_distilled(one_set(run)).images.astype(int)


@pytest.fixture(scope="module")
def run(device: DeviceProcess, commands: Mapping[str, Command]) -> Path:
    done = played(device, commands, "run")
    assert done["kernels"] > 10_000
    assert "convolution" in done["operations"]
    assert "device: pretend" in done["out"]
    return set_of(commands["run"])


def test_a_run_makes_what_a_cpu_makes(
    run: Path, commands: Mapping[str, Command], tmp_path: Path
) -> None:
    """But for rounding: pooling and norms are computed in other orders on a CPU."""
    assert manifest_of(commands["run"]).device == "pretend"
    done = run_wdistill(*elsewhere(commands["run"], tmp_path / "cpu", "--no-evaluate"))
    assert done.returncode == 0, done.stderr
    apart = abs(pixels(run) - pixels(tmp_path / "cpu"))
    assert np.quantile(apart, 0.99) <= 1


def test_a_run_with_graphs_is_the_same_run(
    device: DeviceProcess, run: Path, commands: Mapping[str, Command], tmp_path: Path
) -> None:
    """Its files byte by byte, and what its students reach. Each group of classes has a graph, which
    all of its four steps but the first replay; students have graphs of their own.
    """
    done = finished(device(*elsewhere(commands["run"], tmp_path / "run", "--cuda-graphs")))
    assert done["graphs"] > 4 * 3
    assert "CUDA graphs are not used" not in done["out"] + done["errors"]
    assert parquet_bytes(tmp_path / "run") == parquet_bytes(run)
    plain, graphed = (read_report(one_set(folder)) for folder in (run, tmp_path / "run"))
    assert plain is not None
    assert graphed is not None
    assert [row.top1 for row in graphed.rows] == [row.top1 for row in plain.rows]


def test_an_evaluation(device: DeviceProcess, run: Path, commands: Mapping[str, Command]) -> None:
    """With labels of the set, of its views and of the teacher."""
    played(device, commands, "evaluate")
    report = read_report(set_of(commands["evaluate"]))
    assert report is not None
    assert {row.images for row in report.rows} >= {"random", "nearest", "easy", "full"}
    assert {row.labels for row in report.rows} == {"hard", "teacher", "views"}


def test_a_recipe_of_others(
    device: DeviceProcess, run: Path, commands: Mapping[str, Command]
) -> None:
    """With augmentation that is drawn for each image: DSA's."""
    played(device, commands, "recipe")
    assert read_report(set_of(commands["recipe"])) is not None


def test_several_sets(device: DeviceProcess, run: Path, commands: Mapping[str, Command]) -> None:
    done = played(device, commands, "several")
    assert "device: pretend" in done["out"]
    compared = json.loads((set_of(commands["several"]) / "comparison.json").read_text())
    assert [row["set"] for row in compared] == ["run", "grey"]


def test_a_set_is_made_again(
    device: DeviceProcess, run: Path, commands: Mapping[str, Command]
) -> None:
    assert "bit-identical" in played(device, commands, "reproduce")["out"]


def test_what_does_not_fit_is_taken_in_parts(
    device: DeviceProcess, run: Path, commands: Mapping[str, Command], tmp_path: Path
) -> None:
    """A device that holds few images at once makes the same set but for rounding."""
    command = elsewhere(commands["run"], tmp_path / "run", "--no-evaluate")
    done = finished(device(*command, limit=SMALL, within="synthesis/gradient.py"))
    assert "the device's memory holds" in done["out"] + done["errors"]
    assert done["memory"]
    assert np.quantile(abs(pixels(run) - pixels(tmp_path / "run")), 0.99) <= 1


def test_one_image_that_does_not_fit(
    device: DeviceProcess, commands: Mapping[str, Command], tmp_path: Path
) -> None:
    done = device(*elsewhere(commands["run"], tmp_path / "run"), limit=50_000)
    assert done["code"] != 0
    assert "memory" in done["errors"].splitlines()[-1]
    assert "Traceback" not in done["errors"]


def test_an_estimate_out_of_memory_ends_no_run(
    device: DeviceProcess, run: Path, commands: Mapping[str, Command], tmp_path: Path
) -> None:
    """It warns, and the set is that of a run without an estimate."""
    command = elsewhere(commands["run"], tmp_path / "run", "--no-evaluate", "--estimate")
    done = finished(device(*command, limit=50_000, within="pipeline/estimate.py"))
    assert done["memory"]
    assert "cannot be estimated (CUDA out of memory" in done["out"] + done["errors"]
    assert parquet_bytes(tmp_path / "run") == parquet_bytes(run)
