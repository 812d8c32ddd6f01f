"""Estimates: the counts are those of the run, a failure is a warning, and nothing stays."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import small_source

from wdistill.config import (
    BarycenterConfig,
    DataConfig,
    LabelViewsConfig,
    RelabelConfig,
    RunConfig,
    RuntimeConfig,
    StudentConfig,
    SynthesisConfig,
    TeacherConfig,
)
from wdistill.core.devices import open_accelerator
from wdistill.core.text import human_seconds
from wdistill.data.dataset import load_data
from wdistill.data.pixels import Decoding
from wdistill.data.splits import ImageSplit
from wdistill.pipeline import estimate as estimates
from wdistill.pipeline import run as pipeline
from wdistill.pipeline.estimate import PROCESSES, estimate
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.tables import estimate_table
from wdistill.pipeline.teacher import Networks, find_networks

PER_CLASS, TEST = 22, 200  # training images of a class, test images of all ten
STAGES = ["teacher", "transport", "synthesis", "relabel", "nearest", "evaluate"]


def tiny(source: Path) -> RunConfig:
    """A ragged last group (2 + 3 + 2 + 3 classes) and all kinds of labels."""
    return RunConfig(
        data=DataConfig(dataset=str(source)),
        teacher=TeacherConfig(epochs=2, batch_size=50, allow_weak=True),
        barycenter=BarycenterConfig(ipc=3),
        synthesis=SynthesisConfig(
            iterations=5, images_per_step=9, feature_spaces=("convnet-w64:2",)
        ),
        relabel=RelabelConfig(giver="committee", committee_steps=3),
        label_views=LabelViewsConfig(count=2),
        evaluate=StudentConfig(epochs=2, labels=("hard", "views"), seeds=1),
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_source(tmp_path_factory.mktemp("source"), PER_CLASS)


@pytest.fixture
def opened(source: Path, tmp_path: Path) -> tuple[Run, Networks]:
    config = tiny(source)
    data = load_data(config.data, config.seed, config.barycenter.ipc)
    run = Run(config, data, tmp_path / "run", open_accelerator("no", "cpu"), Decoding(), True)
    return run, find_networks(config, data)


def clockwork(run: Run, networks: Networks) -> dict[str, float]:
    """Where a class (or student) takes 2 s, an image 1 s, an image of a step 0.1 s, and all 5 s."""
    works = {stage: estimates._work(run, networks, stage) for stage in STAGES}
    return {
        stage: 5 * (stage != "evaluate") + 2 * units + images + steps / 10
        for stage, (units, images, steps) in works.items()
    }


def test_students_are_counted_where_their_labels_are_left_open(
    opened: tuple[Run, Networks],
) -> None:
    run, networks = opened
    open_labels = replace(run.config.evaluate, labels=())
    none = replace(run.config.relabel, giver="none")
    given = run.config.evaluate, run.config.relabel
    both = replace(open_labels, optimizers=("adamw", "sgd"))
    for (students, relabel), count in (
        (given, 4), ((open_labels, run.config.relabel), 4), ((open_labels, none), 2),
        ((both, none), 4),
    ):  # fmt: skip
        config = replace(run.config, evaluate=students, relabel=relabel)
        assert estimate(replace(run, config=config), networks, clockwork).students == count


def test_copies_tell_the_terms_apart(opened: tuple[Run, Networks]) -> None:
    run, networks = opened
    result = estimate(run, networks, clockwork)
    students = 4 * 2 * 1  # steps of each, on 30 images, of 4 students
    assert result.seconds[1] == pytest.approx(
        {
            "teacher": 5 + 10 * PER_CLASS + TEST + 2 * 200 / 10,
            "transport": 5 + 2 * 10 + 10 * PER_CLASS,
            "synthesis": 5 + 2 * 10 + 10 * PER_CLASS + 5 * 30 / 10,
            "nearest": 5 + 2 * 10 + 10 * PER_CLASS,
            "relabel": 5 + 30 * (16 + 2) + 3 * 128 / 10,
            "evaluate": 2 * 4 + 4 * TEST + students * 30 / 10,
        }
    )
    spending = estimate(run, networks, clockwork, choice=(10, 1000)).seconds
    assert spending[1]["budget"] == pytest.approx(20 + 100 * PER_CLASS + 3000, rel=1e-3)
    assert spending[4]["budget"] == pytest.approx(spending[1]["budget"] / 4)
    for fewer, more in pairwise(PROCESSES):
        assert all(result.seconds[more][s] <= result.seconds[fewer][s] for s in STAGES)
    assert result.seconds[8]["transport"] == result.seconds[4]["transport"]  # there are 4 groups
    assert result.seconds[4]["transport"] == pytest.approx(5 + 2 * 3 + 3 * PER_CLASS)  # 3 classes
    assert (result.units, result.training_steps, result.students) == (4, 8, 4)


def test_an_estimate_runs_the_stages_and_leaves_nothing_behind(
    opened: tuple[Run, Networks], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, networks = opened
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    monkeypatch.setattr(estimates, "PATIENCE", 0.01)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    result = estimate(run, networks, pipeline.stage_seconds)
    assert torch.equal(torch.get_rng_state(), state)
    assert not run.folder.exists()
    assert not list((tmp_path / "scratch").iterdir())
    assert list(result.seconds[1]) == STAGES
    assert all(seconds > 0 for seconds in result.seconds[1].values())
    assert (result.classes, result.images) == (10, 30)
    assert 30 * 500 < result.disk.published < result.disk.run
    assert result.disk.label_views > 0
    assert result.memory > 10**8
    text = estimate_table(result)
    for shown in ("8 processes", "8 steps of training", "30 of 5 steps each, in 4 groups"):
        assert shown in text


def test_a_failed_estimate_is_a_warning(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory\nis left")

    done: list[Path] = []
    monkeypatch.setattr(pipeline, "estimate", fails)
    monkeypatch.setattr(pipeline, "_run_stages", lambda run, *_: done.append(run.folder))
    with caplog.at_level("INFO", "wdistill"):
        pipeline.run(
            tiny(source), RuntimeConfig("cpu", estimate=True), tmp_path / "run", "wdistill run"
        )
    assert done == [tmp_path / "run"]
    assert "what the run costs cannot be estimated (no memory)" in caplog.text


def test_each_real_image_is_decoded_once_in_a_run(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, images = Counter[Any](), ImageSplit.images

    def counted(split: ImageSplit, rows: Sequence[int]) -> Any:
        decoded.update((split.name, position) for position in split.rows[rows].tolist())
        return images(split, rows)

    monkeypatch.setattr(ImageSplit, "images", counted)
    monkeypatch.setattr("wdistill.data.pixels.kept.MEMORY_BYTES", 0)
    runtime = RuntimeConfig("cpu", quiet=True)
    pipeline.run(tiny(source), runtime, tmp_path / "run", "wdistill run")
    assert len(decoded) == 10 * PER_CLASS + TEST
    assert set(decoded.values()) == {1}
    assert not (tmp_path / "run/work/pixels").exists()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"), (9.96, "10.0 s"), (59.4, "59 s"), (61, "1 min 01 s"),
        (3599.6, "1 h 00 min"), (7290, "2 h 02 min"),
    ],
)  # fmt: skip
def test_times_in_words(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text
