"""The commands on a device that refuses what CUDA refuses; see tests/helpers/pretend.py."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.pretended_command import DeviceProcess
from helpers.pretended_scenes import Command, scenes
from helpers.runs import one_thread, parquet_bytes, run_wdistill

from wdistill.artifact.distilled_set import read_distilled, read_report
from wdistill.artifact.layout import one_set
from wdistill.artifact.manifest import Manifest, read_manifest

pytestmark = pytest.mark.slow
ON_THE_HOST = {  # operations of networks, as these are opened, to see what images they accept
    "run": 34, "evaluate": 17, "recipe": 17, "several": 21, "reproduce": 34, "vit": 56,
    "choices": 34, "convnets": 13, "estimate": 102,
}  # fmt: skip
BY_DESIGN = ("kmeans.py", "annealing.py")  # k-means and barycenters are computed on the host
SMALL = 800_000  # bytes: what networks make of some images of a step, but not of all


@pytest.fixture(scope="module")
def device() -> Iterator[DeviceProcess]:
    process = DeviceProcess(one_thread())
    yield process
    process.close()


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Command]:
    return scenes(tmp_path_factory.mktemp("device"))


def finished(done: dict[str, Any]) -> dict[str, Any]:
    assert done["code"] == 0, done["out"][-1000:] + done["errors"][-3000:]
    return done


def played(device: DeviceProcess, commands: Mapping[str, Command], name: str) -> dict[str, Any]:
    """The command has ended well, and networks and distances of images were on the device."""
    done = finished(device(*commands[name]))
    places = {place: place.split(" at ")[1].split(":")[0] for place in done["host"]}
    others = {place: n for place, n in done["host"].items() if places[place] not in BY_DESIGN}
    assert sum(others.values()) == ON_THE_HOST[name], others
    return done


def elsewhere(command: Command, folder: Path, *options: str) -> list[str | Path]:
    """The same command with further options and another output folder, its last argument."""
    return [*command[:-2], *options, command[-2], folder]


def set_of(command: Command) -> Path:
    return Path(command[-1])


def manifest_of(command: Command) -> Manifest:
    return read_manifest(one_set(set_of(command)))


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


def test_a_vision_transformer_in_bf16(
    device: DeviceProcess, commands: Mapping[str, Command]
) -> None:
    """Whose synthesis sees images as they will be decoded, and whose labels a committee gives."""
    done = played(device, commands, "vit")
    assert {"_scaled_dot_product_attention_math", "native_layer_norm"} & {*done["operations"]}
    assert manifest_of(commands["vit"]).config.mixed_precision == "bf16"


def test_labels_are_chosen(device: DeviceProcess, commands: Mapping[str, Command]) -> None:
    """By short students, of images that start from a mean and whose weights are free."""
    played(device, commands, "choices")


def test_images_for_convnets(device: DeviceProcess, commands: Mapping[str, Command]) -> None:
    """In the states of ConvNets that are trained for it."""
    played(device, commands, "convnets")
    assert manifest_of(commands["convnets"]).config.synthesis.aim == "convnet"


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


def test_an_estimate(device: DeviceProcess, commands: Mapping[str, Command]) -> None:
    """Of all stages but the students, which other commands train."""
    said = played(device, commands, "estimate")["out"]
    assert re.search(r"\n  synthesis +\d", said)
    assert re.search(r"\n  measured in .* on pretend", said)


def test_an_estimate_out_of_memory_ends_no_run(
    device: DeviceProcess, run: Path, commands: Mapping[str, Command], tmp_path: Path
) -> None:
    """It warns, and the set is that of a run without an estimate."""
    command = elsewhere(commands["run"], tmp_path / "run", "--no-evaluate", "--estimate")
    done = finished(device(*command, limit=50_000, within="pipeline/estimate.py"))
    assert done["memory"]
    assert "cannot be estimated (CUDA out of memory" in done["out"] + done["errors"]
    assert parquet_bytes(tmp_path / "run") == parquet_bytes(run)
