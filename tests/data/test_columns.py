"""Image, label and group columns are found, named, and their values become classes."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from helpers.datasets_on_disk import (
    CLOTHES,
    THREE,
    dataset_of,
    load,
    message,
    picture,
    pixels,
    rows_of,
    save,
    write_parquet,
)

from wdistill.config import DataConfig
from wdistill.data.dataset import load_data
from wdistill.errors import DataError

pytestmark = pytest.mark.usefixtures("own_cache")


def test_label_column_must_be_chosen_when_there_are_two(tmp_path: Path) -> None:
    rows = rows_of(THREE)
    features = Features(
        image=datasets.Image(),
        fine_label=ClassLabel(names=list(CLOTHES)),
        coarse_label=ClassLabel(names=["shoe", "cloth"]),
    )
    coarse = [int(label > 0) for label in THREE]
    columns = {"image": rows["image"], "fine_label": THREE, "coarse_label": coarse}
    path = save(tmp_path / "two", train=Dataset.from_dict(columns, features=features))
    assert message(path) == (
        "the dataset has several label columns; choose one with `data.label_column`: "
        "fine_label, coarse_label"
    )
    assert load(path, label_column="coarse_label").class_names == ("shoe", "cloth")


def test_image_column_must_be_chosen_when_there_are_two(tmp_path: Path) -> None:
    features = Features(image=datasets.Image(), label=Value("int64"), mask=datasets.Image())
    rows = rows_of(THREE, mask=rows_of(THREE, first=100)["image"])
    path = save(tmp_path / "two", train=Dataset.from_dict(rows, features=features))
    assert "several image columns; choose one with `data.image_column`: image, mask" in message(
        path
    )
    chosen = load(path, image_column="mask")
    assert chosen.image_column == "mask"
    assert (pixels(chosen.train.image(0))[..., 0] != pixels(picture(0))).any()


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


@pytest.mark.parametrize(
    ("labels", "kind", "what"),
    [([0.5] * 6, Value("float32"), "float32"), ([[0, 1]] * 6, List(Value("int64")), "lists")],
)
def test_labels_that_name_no_class_are_refused(
    tmp_path: Path, labels: list, kind: object, what: str
) -> None:
    path = save(tmp_path / "s", train=dataset_of(labels, kind))
    expected = f"column 'label' holds {what}"
    assert expected in message(path)
    assert expected in message(path, label_column="label")


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


def test_wrong_columns_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "s", train=dataset_of(THREE))
    assert message(path, image_column="pic") == (
        "`data.image_column` 'pic' does not exist; choose from image, label"
    )
    assert message(path, label_column="y") == (
        "`data.label_column` 'y' does not exist; choose from image, label"
    )
    assert "`data.image_column` 'label' holds ClassLabel values, not images" in message(
        path, image_column="label"
    )


def test_text_dataset_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "t.parquet", {"text": ["a", "b"], "label": [0, 1]})
    assert message(path).startswith("the dataset has no image column (columns: text, label)")
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "train.csv").write_text("text,label\na,0\nb,1\n")
    assert "no image column (columns: text, label)" in message(str(tmp_path / "csv"))


ONE_EACH = list("abcdefghijkl")


def unusual(folder: Path, **columns: list) -> str:
    """A saved dataset with an image column of a name that says nothing, and these columns."""
    folder.mkdir(exist_ok=True)
    kinds = {
        name: Dataset.from_dict({name: column}).features[name] for name, column in columns.items()
    }
    features = Features({"picture": datasets.Image(), **kinds})
    rows = {"picture": rows_of(THREE)["image"], **columns}
    return save(folder / "-".join(columns), train=Dataset.from_dict(rows, features=features))


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (list("abc") * 4, ("a", "b", "c")),
        ([7, 8, 9] * 4, ("7", "8", "9")),
        ([True, False, None] * 4, ("False", "True")),
    ],
)
def test_the_only_column_with_few_values_holds_the_labels(
    tmp_path: Path, values: list, names: tuple[str, ...]
) -> None:
    beside = {
        "id": list(range(12)),
        "caption": ONE_EACH,
        "score": [0.5, 1.0] * 6,
        "licence": ["mit"] * 12,
    }
    for columns in ({"kind": values}, {**beside, "kind": values}):
        data = load(unusual(tmp_path, **columns))
        assert (data.image_column, data.label_column) == ("picture", "kind")
        assert data.class_names == names
        assert "Images are in column 'picture', labels in column 'kind'." in data.notes


def test_a_class_label_of_any_name_and_usual_names_come_first(tmp_path: Path) -> None:
    features = Features(
        image=datasets.Image(), species=ClassLabel(names=list(CLOTHES)), year=Value("int64")
    )
    rows = {"image": rows_of(THREE)["image"], "species": THREE, "year": [1, 2] * 6}
    path = save(tmp_path / "s", train=Dataset.from_dict(rows, features=features))
    assert load(path).label_column == "species"
    assert load(unusual(tmp_path, year=[1, 2] * 6, category=THREE)).label_column == "category"


def test_several_columns_with_few_values_are_asked_for(tmp_path: Path) -> None:
    path = unusual(tmp_path, species=list("abc") * 4, year=[1, 2] * 6, id=ONE_EACH)
    assert message(path) == (
        "the dataset has several label columns; choose one with `data.label_column`: species, year"
    )
    assert load(path, label_column="species").class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    "values", [ONE_EACH, list(range(12)), [0.0, 1.0, 2.0] * 4, ["same"] * 12, [None, "a"] * 6]
)
def test_a_column_that_cannot_be_classes_is_not_taken(tmp_path: Path, values: list) -> None:
    assert message(unusual(tmp_path, species=values)) == (
        "the dataset has no label column (columns: picture, species); "
        "name one with `data.label_column`"
    )
