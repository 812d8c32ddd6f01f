"""Which published numbers a report may stand beside."""

from __future__ import annotations

import pytest

from wdistill.config import StudentConfig
from wdistill.evaluation.recipes.published import PUBLISHED, RealTest, comparable, published
from wdistill.evaluation.training import recipe_for

CIFAR = RealTest("uoft-cs/cifar10", 10, 10_000)
ROW = "convnet-3 with hard labels"


def line(name: str = "classic", tested: RealTest = CIFAR, **changes: int) -> str:
    text = comparable(recipe_for(StudentConfig(**changes), 100, name), ROW, tested)  # type: ignore[arg-type]
    assert text.isprintable()
    return text


def test_the_whole_protocol_may_stand_beside_its_papers_and_not_beside_others() -> None:
    text = line()
    assert text.startswith(f"Recipe classic: {ROW} may stand beside the published numbers of DSA")
    assert "DM" in text
    assert "CIFAR-10" in text
    beside, _, never = text.partition("; not beside ")
    for method in ("MTT", "NCFM", "DataDAM"):
        assert method in never
        assert method not in beside


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (line("default"), "no published number"),
        (line(epochs=300), "changed (300 epochs in place of 1,000)"),
        (line(tested=RealTest("cifar10", 10, 2000)), "2,000 test images where papers have"),
        (line(tested=RealTest("cifar10", 3, 10_000)), "3 classes"),
        (line(tested=RealTest("photos", 5, 100)), "no published numbers under it are known"),
        (line("wmdd"), "no published numbers under it are known for 'uoft-cs/cifar10'"),
    ],
)
def test_anything_else_may_not(text: str, why: str) -> None:
    assert why in text
    assert "may stand beside" not in text


def test_the_rows_are_accuracies_with_a_source() -> None:
    for row in PUBLISHED:
        ipcs = [ipc for ipc, _ in row.values]
        assert ipcs == sorted(set(ipcs))
        assert all(0 < value < 100 for _, value in row.values)
        assert "arXiv" in row.source
    assert {row.method for row in published("idc", "CIFAR-10")} >= {"IDC-I", "DREAM"}
    assert not published("default")
