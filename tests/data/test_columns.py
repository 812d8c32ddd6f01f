"""The columns of images and labels are found, or what is wrong is named."""

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
