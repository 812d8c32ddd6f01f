"""The coarsest coding that costs short students no accuracy."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from helpers.runs import run_wdistill
from hypothesis import given
from hypothesis import strategies as st

from wdistill.artifact.distilled_set import read_distilled
from wdistill.artifact.layout import one_set
from wdistill.artifact.manifest import read_manifest
from wdistill.data.content.coding import Coding
from wdistill.pipeline.choices import coding as stage
from wdistill.pipeline.choices.short import KINDS

TINY = (
    "--ipc", "2", "--iterations", "2", "--teacher-epochs", "1", "--feature-spaces", "none",
    "--no-evaluate", "--allow-weak-teacher", "--image-quality", "auto",
    "--label-giver", "teacher", "--label-views", "0", "--resolution", "16",
)  # fmt: skip


@given(st.integers(1, 20), st.data())
def test_bisection_finds_the_last_that_is_enough(count: int, data: st.DataObject) -> None:
    enough = data.draw(st.integers(0, count))  # so many of the first are
    asked: list[int] = []

    def is_enough(index: int) -> bool:
        asked.append(index)
        return index < enough

    assert stage.coarsest(count, is_enough) == (enough - 1 if enough else None)
    assert len(asked) <= math.floor(math.log2(count)) + 1
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize(("least", "chosen"), [(40, 40), (101, None), (0, 1)])
def test_the_coarsest_quality_within_the_deviation_is_published(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: int, chosen: int | None
) -> None:
    """Seeds deviate by one point; below ``least`` students lose one point and a half."""

    def scores(*_: object) -> object:
        def of(coding: Coding) -> np.ndarray:
            lost = 0.015 if coding.quality is not None and coding.quality < least else 0.0
            return np.array([[0.49, 0.50, 0.51], [0.39, 0.40, 0.41]]) - lost

        return of

    monkeypatch.setattr(stage, "_scores", scores)
    done = run_wdistill("run", "--dataset", source, *TINY, "--output", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    record = read_manifest(one_set(tmp_path / "run")).coding
    assert (record.format, record.quality) == ("webp", chosen)
    assert record.tried[0].quality is None
    assert len(record.tried) <= 4
    assert record.coder.startswith("libwebp ")


def test_short_students_choose_and_are_not_trained_again(source: Path, tmp_path: Path) -> None:
    short = stage.SHORT
    command = ("run", "--dataset", source, *TINY, "--output", tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "SHORT", type(short)(labels=("hard",), steps=2, seeds=2))
        first, again = run_wdistill(*command), run_wdistill(*command)
    assert first.returncode == again.returncode == 0, first.stderr
    outcomes = list((tmp_path / "run/work/coding").glob("*.json"))
    record = read_manifest(one_set(tmp_path / "run")).coding
    assert len(outcomes) == len(KINDS) * 2 * len(record.tried)
    assert {len(trial.top1) for trial in record.tried} == {len(KINDS) * 2}
    assert read_distilled(one_set(tmp_path / "run")).grey
