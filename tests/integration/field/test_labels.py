"""Labels as people have them: each value is a class, no label, or refused; never lost."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
from helpers.datasets_on_disk import load, message, save
from helpers.field import classes, per_class, table, tiny, write

pytestmark = pytest.mark.usefixtures("own_cache")


def named(labels: list[int], names: list[str], first: int = 0) -> Dataset:
    """A split whose label column names its classes."""
    cells = [{"bytes": tiny(first + row), "path": None} for row in range(len(labels))]
    features = Features(image=Image(), label=ClassLabel(names=names))
    return Dataset.from_dict({"image": cells, "label": labels}, features=features)


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
@pytest.mark.parametrize("missing", [None, float("nan"), -1.0])
def test_whole_floats_are_classes(tmp_path: Path, kind: pa.DataType, missing: object) -> None:
    labels = [0.0, 1.0, 2.0, 10.0] * 3 + [missing] * 2  # 10 without 3..9: -1 would be a class
    if missing == -1.0:
        labels = [0.0, 1.0, 2.0] * 4 + [missing] * 2
    data = load(table(tmp_path / "a.parquet", labels, kind))
    assert data.class_names == (("0", "1", "2") if missing == -1.0 else ("0", "1", "2", "10"))
    assert data.unlabelled == 2
    assert sum(per_class(data).values()) == 12


def test_floats_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    text = message(table(tmp_path / "a.parquet", [0.0, 1.5, 2.0] * 4))
    assert text.startswith("column 'label' holds float64, but one class per image is needed")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([-1, 1], ("-1", "1")),
        ([-1, 5, 7], ("-1", "5", "7")),
        ([-2, -1, 0], ("-2", "-1", "0")),
        ([-1, 0, 1, 2], ("0", "1", "2")),
        ([5, 300, 7], ("5", "7", "300")),
    ],
)
def test_minus_one_is_a_class_unless_the_others_count_from_zero(
    tmp_path: Path, labels: list[int], names: tuple[str, ...]
) -> None:
    data = load(table(tmp_path / "a.parquet", labels * 4))
    assert data.class_names == names
    assert data.unlabelled == 4 * (len(labels) - len(names))
    assert sum(per_class(data).values()) + data.unlabelled == 4 * len(labels)


@pytest.mark.parametrize("labels", [[-1, 0, 1], [-1, 0]])
def test_minus_one_that_could_be_both_is_asked_for(tmp_path: Path, labels: list[int]) -> None:
    text = message(table(tmp_path / "a.parquet", labels * 4))
    assert "so that -1 may be a class or no label; write the classes as text" in text


def test_minus_one_means_the_same_in_both_splits(tmp_path: Path) -> None:
    table(tmp_path / "d" / "train.parquet", [-1, 1] * 4)
    table(tmp_path / "d" / "test.parquet", [-1, 1, -1], first=50)
    assert per_class(load(str(tmp_path / "d"))) == {"-1": 6, "1": 5}
    table(tmp_path / "e" / "train.parquet", [0, 1, 2] * 4)
    table(tmp_path / "e" / "test.parquet", [-1, 0, 1], first=50)
    assert per_class(load(str(tmp_path / "e"))) == {"0": 5, "1": 5, "2": 4}


# --- names ---------------------------------------------------------------------------------------


def test_unused_names_are_left_out_in_order_and_told(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(1000)]
    train, test = named([300, 7, 999] * 4, names), named([999, 7, 300, 7], names, first=50)
    data = load(save(tmp_path / "s", train=train, test=test))
    assert data.class_names == ("class 7", "class 300", "class 999")
    assert data.train.labels.tolist() == [1, 0, 2] * 4
    assert data.eval.labels.tolist() == [2, 0, 1, 0]
    assert (
        "Left out 997 of 1,000 class names: no image of split 'train' is of these classes."
        in data.notes
    )


ODD = ["no", "on", "null", "1e3", "007", "a: b", "#x", "~", "2024-01-01", "1_000", "NaN", "a/b"]


def test_names_are_text_whatever_they_look_like(tmp_path: Path) -> None:
    data = load(table(tmp_path / "a.parquet", ODD * 2))
    assert data.class_names == tuple(sorted(ODD))
    tree = load(write(tmp_path / "d", classes([name for name in ODD if "/" not in name])))
    assert tree.class_names == tuple(sorted(name for name in ODD if "/" not in name))


@pytest.mark.parametrize("shape", ["list", "mapping"])
def test_names_in_a_card_stay_as_they_are_written(tmp_path: Path, shape: str) -> None:
    """YAML reads no as False and 007 as 7."""
    names = ["no", "yes", "007", "1e3", "null", "1.10", "plain"]
    lines = [f"{i}: {name}" if shape == "mapping" else f"- {name}" for i, name in enumerate(names)]
    card = "\n".join(f"          {line}" for line in lines)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: image\n    dtype: image\n  - name: label\n"
        f"    dtype:\n      class_label:\n        names:\n{card}\n"
        "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: t*\n---\n"
    )
    table(tmp_path / "d" / "train.parquet", list(range(7)) * 4)
    data = load(str(tmp_path / "d"))
    assert data.class_names == tuple(names)
    assert sum(per_class(data).values()) == 28


def test_line_ends_and_control_characters_go_and_are_told(tmp_path: Path) -> None:
    data = load(table(tmp_path / "a.parquet", ["cat\n", "dog\x85 big", "\tfish"] * 4))
    assert data.class_names == ("fish", "cat", "dog  big")
    assert (
        "Spaces or control characters are left out of 3 class names, such as '\\tfish', now 'fish'."
        in data.notes
    )


@pytest.mark.parametrize("pair", [("cat", "cat\n"), ("caf\u00e9", "cafe\u0301"), ("a b", "a\x85b")])
def test_names_that_are_the_same_after_that_are_refused(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    text = message(table(tmp_path / "a.parquet", [*pair, "other"] * 4))
    assert "have names that look the same, " in text
    assert all(ascii(name) in text for name in pair)
    both = named([0, 1, 2] * 4, [*pair, "other"])
    assert "have names that look the same, " in message(save(tmp_path / "s", train=both))


def test_names_that_differ_in_case_are_two_classes_and_told(tmp_path: Path) -> None:
    data = load(table(tmp_path / "a.parquet", ["Cat", "cat", "dog"] * 4))
    assert data.class_names == ("Cat", "cat", "dog")
    assert "Classes 'Cat' and 'cat' differ only in case, and are two." in data.notes


@pytest.mark.parametrize(
    ("train", "test"), [("Cat", "cat"), ("caf\u00e9", "cafe\u0301"), ("STRASSE", "stra\u00dfe")]
)
def test_classes_of_both_splits_are_matched_without_case_and_form(
    tmp_path: Path, train: str, test: str
) -> None:
    paths = classes((f"train/{train}", "train/dog", f"test/{test}", "test/dog"))
    data = load(write(tmp_path / "d", paths))
    assert per_class(data, data.train) == per_class(data, data.eval) == {train: 4, "dog": 4}
    assert (
        f"1 classes of split 'test' are matched without regard to case, such as {test!r} as "
        f"{train!r}."
    ) in data.notes


def test_empty_text_is_no_label(tmp_path: Path) -> None:
    data = load(table(tmp_path / "a.parquet", ["cat", "dog", "", " "] * 4))
    assert (data.class_names, data.unlabelled) == (("cat", "dog"), 8)


def test_an_empty_name_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "s", train=named([0, 1, 2] * 4, ["a", "", "b"]))
    assert message(path) == "class 1 has the name ''; give it a name"


# --- splits by name ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "evaluation"),
    [("train", "dev"), ("training", "eval"), ("Train", "Validation"), ("trainval", "testing")],
)
def test_saved_splits_under_any_usual_name(tmp_path: Path, train: str, evaluation: str) -> None:
    names = ["a", "b"]
    splits = {train: named([0, 1] * 4, names), evaluation: named([0, 1], names, first=50)}
    DatasetDict(splits).save_to_disk(str(tmp_path / "s"))
    data = load(str(tmp_path / "s"))
    assert (data.train_split, data.eval_split) == (train, evaluation)
    assert (len(data.train), len(data.eval)) == (8, 2)
