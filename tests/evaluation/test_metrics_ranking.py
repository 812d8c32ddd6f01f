"""DD-Ranking's scores: limits, order, and the statements of its own package."""

from __future__ import annotations

import ast
import math
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from wdistill.evaluation.metrics import augmentation_robust_score, label_robust_score

PAIRS = [(0.05, 0.4), (-0.1, 0.6), (0.3, 0.0), (0.0, 0.0), (1.0, -1.0), (-1.0, 1.0)]


def test_scores_run_from_zero_to_one() -> None:
    assert label_robust_score(1, -1) == pytest.approx(1)
    assert label_robust_score(-1, 1) == pytest.approx(0)
    assert augmentation_robust_score(1, 1) == pytest.approx(1)
    assert augmentation_robust_score(-1, -1) == pytest.approx(0)


def test_a_set_as_good_as_random_and_as_full_data() -> None:
    neutral = (1 - math.exp(-1)) / (math.e - math.exp(-1))
    assert label_robust_score(0, 0) == pytest.approx(neutral)
    assert augmentation_robust_score(0, 0) == pytest.approx(neutral)


def test_better_sets_score_higher() -> None:
    assert label_robust_score(0.1, 0.4) > label_robust_score(0.0, 0.4) > label_robust_score(0, 0.5)
    assert augmentation_robust_score(0.1, 0.1) > augmentation_robust_score(0.1, 0.0)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's wheel; its own requirements (torchvision, timm) stay away."""
    folder = tmp_path_factory.mktemp("ddranking")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "ddranking==0.2.0"]
    subprocess.run([*command, "--dest", str(folder)], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder / "ddranking" / "metrics"


def evaluated(path: Path, names: list[str], given: dict[str, float]) -> dict[str, float]:
    """The package's own assignments to ``names``, executed in order on ``given``."""
    space: dict[str, object] = {"np": np, **given}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            target = node.targets[0].id
            if target in names and target not in space:
                exec(ast.unparse(node), space)
    return {name: float(space[name]) for name in names}  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(("ior", "hlr"), PAIRS)
def test_the_label_robust_score_is_the_packages(package: Path, ior: float, hlr: float) -> None:
    given = {
        "full_data_hard_label_acc": hlr, "syn_data_hard_label_acc": 0.0, "lrs_lambda": 0.5,
        "syn_data_soft_label_acc": ior, "random_data_soft_label_acc": 0.0,
    }  # fmt: skip
    theirs = evaluated(package / "soft_label.py", ["hlr", "ior", "alpha", "lrs"], given)
    assert (theirs["ior"], theirs["hlr"]) == (ior, hlr)
    assert label_robust_score(ior, hlr) == pytest.approx(theirs["lrs"], abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("with_", "without"), PAIRS)
def test_the_augmentation_robust_score_is_the_packages(
    package: Path, with_: float, without: float
) -> None:
    given = {
        "syn_data_with_aug_acc": with_, "random_data_with_aug_acc": 0.0, "ars_lambda": 0.5,
        "syn_data_without_aug_acc": without, "random_data_without_aug_acc": 0.0,
    }  # fmt: skip
    names = ["with_aug_score", "without_aug_score", "beta", "ars"]
    theirs = evaluated(package / "aug_robust.py", names, given)
    assert augmentation_robust_score(with_, without) == pytest.approx(theirs["ars"], abs=1e-12)
