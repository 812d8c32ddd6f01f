"""The classes of a foreign set are those of the real data, however their names are written."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from helpers.datasets_on_disk import write_tree

from wdistill.config import DataConfig
from wdistill.errors import DataError
from wdistill.evaluation.sets.order import in_order_of
from wdistill.evaluation.sets.subject import open_subject


@pytest.fixture(autouse=True)
def _own_cache(own_cache: None) -> None:
    pass


def labels_of(folder: Path, names: list[str], real: tuple[str, ...]) -> dict[str, str]:
    """Folder of each image -> the real class that it is taken for."""
    write_tree(folder, dict.fromkeys(names, 2))
    plain = open_subject(str(folder), DataConfig())
    pairs = zip(plain.images.rows, plain.labels, strict=True)
    before = {int(row): plain.class_names[label] for row, label in pairs}
    subject = in_order_of(plain, real, "real")
    assert subject.class_names == real
    rows = zip(subject.images.rows, subject.labels, strict=True)
    return {before[int(row)]: real[label] for row, label in rows}


REAL = ("zebra", "apple", "coat")  # in no order of the alphabet


@pytest.mark.parametrize(
    "names",
    [
        ["new000", "new001", "new002"],  # SRe2L
        ["00000", "00001", "00002"],  # RDED
        ["0", "1", "2"],
    ],
)
def test_numbered_folders_are_positions(names: list[str], tmp_path: Path) -> None:
    assert labels_of(tmp_path / "set", names, REAL) == dict(zip(names, REAL, strict=True))


def test_many_numbered_folders_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    real = tuple(f"class {c}" for c in range(11, -1, -1))
    matched = labels_of(tmp_path / "set", [f"new{c}" for c in range(12)], real)
    assert matched == {f"new{c}": real[c] for c in range(12)}


def test_names_are_matched_but_for_case_where_only_one_is_meant(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "wdistill"):
        matched = labels_of(tmp_path / "set", ["Zebra", "COAT", "apple"], REAL)
    assert matched == {"Zebra": "zebra", "COAT": "coat", "apple": "apple"}
    line = "2 classes are matched but for case and spaces: 'COAT' as 'coat', 'Zebra' as 'zebra'"
    assert line in caplog.messages


@pytest.mark.parametrize(
    ("names", "real", "message"),
    [
        (["Blue", "red"], ("blue", "BLUE", "red"), "has class 'Blue', which 'real' lacks"),
        (["Blue", "BLUE", "red"], ("blue", "red"), "has class 'BLUE', which 'real' lacks"),
        (["new000", "blue"], ("red", "blue"), "has class 'new000', which 'real' lacks"),
        (["new000", "new005"], ("red", "blue"), "has class 'new005', which 'real' lacks"),
    ],
)
def test_where_several_are_meant_nothing_is_guessed(
    names: list[str], real: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        labels_of(tmp_path / "set", names, real)
