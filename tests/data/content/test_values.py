"""The values of columns become classes and groups."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
from helpers.datasets_on_disk import (
    dataset_of,
    load,
    rows_of,
    save,
    write_parquet,
)

from wdistill.config import DataConfig
from wdistill.data.dataset import load_data
from wdistill.errors import DataError

pytestmark = pytest.mark.usefixtures("own_cache")


def test_strings_become_classes_in_sorted_order(tmp_path: Path) -> None:
    labels = ["pear", "Apple", "fig", None] * 4
    data = load(write_parquet(tmp_path / "a.parquet", rows_of(labels)), seed=1)
    assert data.class_names == ("Apple", "fig", "pear")
    assert data.unlabelled == 4
    first = int(data.train.rows[0])
    assert data.class_names[data.train.labels[0]] == labels[first]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([10, 9, 100] * 3, ("9", "10", "100")),
        ([True, False] * 3, ("False", "True")),
        ([-1, 5, 7] * 3, ("-1", "5", "7")),
    ],
)
def test_values_without_names_are_sorted_by_size(
    tmp_path: Path, labels: list, names: tuple[str, ...]
) -> None:
    assert load(write_parquet(tmp_path / "a.parquet", rows_of(labels))).class_names == names


def test_rows_without_label_are_left_out_and_counted(tmp_path: Path) -> None:
    train = dataset_of([-1, 0, 1, 2, None, 0, 1, 2])
    data = load(save(tmp_path / "s", train=train, test=dataset_of([0, -1, 1, 2], first=20)))
    assert data.train.rows.tolist() == [1, 2, 3, 5, 6, 7]
    assert data.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.unlabelled == 3
    assert "Left out 3 rows without a label (-1 or missing)." in data.notes


def test_groups_follow_their_rows(tmp_path: Path) -> None:
    """Through left-out rows and the hold-out; rows without a group are one of their own."""
    labels = [0, 1, -1, 0, 1, 0, 1, 0, 1, 0, 1, 0]
    sites = ["b", "a", "a", None, "a", "b", "b", "a", None, "b", "a", "b"]
    columns = rows_of(labels, site=sites)
    kind = datasets.ClassLabel(names=["boot", "coat"])
    features = datasets.Features(
        {"image": datasets.Image(), "label": kind, "site": datasets.Value("string")}
    )
    path = save(tmp_path / "d", train=datasets.Dataset.from_dict(columns, features=features))
    loaded = load_data(DataConfig(dataset=path, group_column="site"), seed=0, ipc=1)
    assert loaded.train.groups is not None
    numbers = {"a": 0, "b": 1, None: -1}
    assert loaded.train.groups.tolist() == [numbers[sites[row]] for row in loaded.train.rows]
    assert 2 not in loaded.train.rows
    assert load_data(DataConfig(dataset=path), seed=0, ipc=1).train.groups is None


@pytest.mark.parametrize(("column", "said"), [("nowhere", "does not exist"), ("image", "Image")])
def test_a_group_column_must_hold_groups(column: str, said: str, tmp_path: Path) -> None:
    path = save(tmp_path / "d", train=dataset_of([0, 1, 2] * 4))
    with pytest.raises(DataError, match=f"`data.group_column` '{column}'.*{said}"):
        load_data(DataConfig(dataset=path, group_column=column), seed=0, ipc=1)
