"""Who labels the images: whoever short students learn most from, never less than hard labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.runs import QUICK, parquet_bytes, run_wdistill
from torch import nn

import wdistill
from wdistill.artifact.distilled_set import read_distilled
from wdistill.artifact.layout import one_set
from wdistill.artifact.manifest import Manifest, read_manifest
from wdistill.artifact.reading import read_published
from wdistill.config import WARM
from wdistill.data.pixels import Preprocessing
from wdistill.labels.committee import Committee, giver_sha256
from wdistill.networks.features import FeatureNetwork
from wdistill.pipeline.choices.short import KINDS, ShortStudents

SMALL = (*QUICK, "--resolution", "16")
# Flags that are given twice count once, the last time.
AUTO = (
    *SMALL, "--label-giver", "auto", "--label-views", "3", "--allow-weak-teacher",
    "--student", "resnet10-w16",
)  # fmt: skip
Scores = dict[str, tuple[float, float]]  # accuracies of the two kinds of students, by labels


class Linear(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.head = nn.Linear(3 * 16, 5)
        self.config = type("Config", (), {"num_labels": 5})()

    def forward(self, x: torch.Tensor) -> Any:
        return type("Output", (), {"logits": self.head(x.flatten(1))})()


def test_a_committee_answers_with_the_mean_of_its_members() -> None:
    plain = Preprocessing(4, 0, (0.0,) * 3, (1.0,) * 3)
    members = tuple(FeatureNetwork(Linear(k), plain, torch.device("cpu")) for k in range(3))
    pixels = torch.rand(7, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = sum(member.model.head(pixels.flatten(1)) for member in members) / 3
    committee = Committee(members)
    torch.testing.assert_close(committee.logits(pixels), expected)
    assert (committee.num_classes, committee.device) == (5, torch.device("cpu"))
    digests = {giver_sha256(giver) for giver in (committee, *members, Committee(members[:2]))}
    assert len(digests) == 5


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committee of few steps, which only a file sets."""
    path = tmp_path_factory.mktemp("settings") / "settings.yaml"
    path.write_text("relabel:\n  committee_steps: 3\n")
    return path


@pytest.fixture(scope="module")
def teacher(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    done = run_wdistill("run", "--dataset", source, *SMALL, "--no-evaluate", "--output", folder)
    assert done.returncode == 0, done.stderr
    return folder / "teacher"


def chosen_by(
    scores: Scores, teacher: Path, source: Path, settings: Path, folder: Path
) -> tuple[Manifest, str]:
    """The manifest of a run whose short students have these ``scores``, and what it said."""

    def of(self: ShortStudents, candidate: Any, images: int, inputs: list[Any]) -> np.ndarray:
        if inputs[-1] == "soft":
            giver = "soft"
        else:
            giver = "warm" if self.config.temperature == WARM else order.pop(0)
        return np.array(scores[giver])[:, None] + np.array([[-0.01, 0.01]])

    order = ["none", "teacher", "committee"]
    command = ("run", "--dataset", source, *AUTO, "--config", settings, "--backbone", teacher)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShortStudents, "scores", of)
        done = run_wdistill(*command, "--output", folder)
    assert done.returncode == 0, done.stderr
    return read_manifest(one_set(folder)), done.stdout


@pytest.mark.parametrize(
    ("scores", "giver", "hard_soft", "temperature"),
    [
        ({"none": (0.5, 0.5), "teacher": (0.55, 0.6), "committee": (0.7, 0.5), "warm": (0.6, 0.7),
          "soft": (0.5, 0.6)}, "committee", False, 4.0),
        ({"none": (0.5, 0.5), "teacher": (0.55, 0.6), "committee": (0.9, 0.49), "warm": (0.49, 0.9),
          "soft": (0.4, 0.9)}, "teacher", True, 1.0),  # no kind of student may be worse
        ({"none": (0.5, 0.5), "teacher": (0.49, 0.9), "committee": (0.9, 0.49)}, "none", True, 1.0),
    ],
)  # fmt: skip
def test_the_best_labels_that_harm_no_kind_of_student_are_published(
    scores: Scores, giver: str, hard_soft: bool, temperature: float,
    teacher: Path, source: Path, settings: Path, tmp_path: Path,
) -> None:  # fmt: skip
    manifest, said = chosen_by(scores, teacher, source, settings, tmp_path / "run")
    assert (manifest.labels.giver, manifest.labels.hard_soft) == (giver, hard_soft)
    tried = {
        (trial.giver, trial.labels, trial.temperature): np.mean(trial.top1, 1)
        for trial in manifest.labels.tried
    }
    assert tried["none", "hard", 1].tolist() == pytest.approx(scores["none"])
    assert tried["committee", "views", 1].tolist() == pytest.approx(scores["committee"])
    if "warm" in scores:
        assert tried[giver, "views", 4].tolist() == pytest.approx(scores["warm"])
    assert manifest.temperature == manifest.labels.temperature == temperature
    assert wdistill.load(tmp_path / "run").temperature == temperature
    assert f"labels: {giver}, chosen from" in said
    published = read_published(one_set(tmp_path / "run"))
    one_hot = np.eye(10, dtype=np.float32)[published.distilled.labels]
    assert np.array_equal(published.distilled.soft_labels, one_hot) is hard_soft
    assert (published.views is None) is (giver == "none")
    report = json.loads((one_set(tmp_path / "run") / "report.json").read_text())
    assert report["recipe"]["temperature"] == temperature
    kinds = ["hard"] if giver == "none" else ["views", "hard"]
    assert [row["labels"] for row in report["rows"] if row["images"] == "random"] == kinds
    card = (tmp_path / "run/publish/README.md").read_text()
    words = {
        "committee": "the teacher and a small ConvNet trained for 3 steps, looks",
        "teacher": "the soft label of each image is its class",
        "none": "no network labels the images",
    }  # fmt: skip
    assert words[giver] in card
    assert "hard 50.0 % and 50.0 %; teacher (views)" in card
    assert ("committee (views, T = 4) 60.0 % and 70.0 %" in card) is (temperature == 4)
    assert f'weight, T, side = data["weight"] * len(x) / 10, {temperature:g}, 16' in card


@pytest.fixture(scope="module")
def auto(
    source: Path, teacher: Path, settings: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "auto"
    done = run_wdistill(*auto_command(source, teacher, settings), "--output", folder)
    assert done.returncode == 0, done.stderr
    return folder


def auto_command(source: Path, teacher: Path, settings: Path) -> list[str | Path]:
    return ["run", "--dataset", source, *AUTO, "--config", settings, "--backbone", teacher]


def test_short_students_are_not_trained_again(
    auto: Path, source: Path, teacher: Path, settings: Path
) -> None:
    outcomes = {p: p.stat().st_mtime_ns for p in (auto / "work/labels").glob("*.json")}
    tried = read_manifest(one_set(auto)).labels.tried
    assert len(outcomes) == len(KINDS) * 2 * len(tried)
    committee = (auto / "work/committee.safetensors").stat().st_mtime_ns
    done = run_wdistill(*auto_command(source, teacher, settings), "--output", auto)
    assert done.returncode == 0, done.stderr
    assert {p: p.stat().st_mtime_ns for p in outcomes} == outcomes
    assert (auto / "work/committee.safetensors").stat().st_mtime_ns == committee


def test_another_giver_is_another_set_of_the_same_run(
    auto: Path, source: Path, teacher: Path, settings: Path, tmp_path: Path
) -> None:
    """Images stay; an evaluation labels random images as the set is, by students of the run."""
    before = read_distilled(one_set(auto)).images
    command = [*auto_command(source, teacher, settings), "--label-giver", "committee"]
    done = run_wdistill(*command, "--output", auto)
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(one_set(auto))
    assert (manifest.labels.giver, manifest.labels.tried) == ("committee", ())
    assert np.array_equal(read_distilled(one_set(auto)).images, before)
    rows = {
        (row["images"], row["labels"]): row["top1"]
        for row in json.loads((one_set(auto) / "report.json").read_text())["rows"]
    }
    trained = {p: p.stat().st_mtime_ns for p in auto.rglob("*-2-views-0-*.json")}
    assert trained
    done = run_wdistill(
        "evaluate", auto, "--labels", "views", "--seeds", "1", "--epochs", "3", cwd=tmp_path
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    again = json.loads((one_set(auto) / "report.json").read_text())["rows"]
    assert {p: p.stat().st_mtime_ns for p in auto.rglob("*-2-views-0-*.json")} == trained
    of_both = {(row["images"], row["labels"]): row["top1"] for row in again if row["ipc"] == 2}
    assert of_both == rows


@pytest.mark.slow
def test_two_processes_choose_and_label_as_one(
    auto: Path, source: Path, teacher: Path, settings: Path, tmp_path: Path
) -> None:
    command = auto_command(source, teacher, settings)
    done = run_wdistill(*command, "--output", tmp_path / "two", "--num-processes", "2")
    assert done.returncode == 0, done.stderr
    done = run_wdistill(*command, "--output", tmp_path / "one")
    assert done.returncode == 0, done.stderr
    assert parquet_bytes(tmp_path / "two") == parquet_bytes(tmp_path / "one")
    labels = [
        b"".join(p.read_bytes() for p in sorted((one_set(tmp_path / name)).glob("soft_labels/*")))
        for name in ("one", "two")
    ]
    assert labels[0] == labels[1]
