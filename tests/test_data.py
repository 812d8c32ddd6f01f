"""Any form of dataset becomes the same thing: two splits of upright RGB with named classes."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import socket
from importlib.resources import files
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from data_helpers import (
    CLOTHES,
    dataset_of,
    fashion,
    picture,
    pixels,
    png,
    rows_of,
    save,
    write_parquet,
    write_tree,
)
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from PIL import Image

from wdistill.config import DataConfig
from wdistill.data import ImageData, load_data
from wdistill.errors import DataError

THREE = [0, 1, 2] * 4  # twelve rows, four of each class


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Addresses that something tried to reach."""
    tried: list[object] = []

    def refuse(_: socket.socket, address: object) -> None:
        tried.append(address)
        raise ConnectionRefusedError("the network is off")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: refuse(None, address))
    return tried


def load(dataset: str | None, ipc: int = 1, seed: int = 0, **options: object) -> ImageData:
    return load_data(DataConfig(dataset=dataset, **options), seed, ipc)


def message(dataset: str | None, ipc: int = 1, **options: object) -> str:
    """The one line of the error."""
    with pytest.raises(DataError) as caught:
        load(dataset, ipc, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def counts(labels: np.ndarray) -> list[int]:
    return np.bincount(labels).tolist()


# --- the embedded subset -------------------------------------------------------------------------


def test_embedded_subset_is_the_default_and_needs_no_network(connections: list[object]) -> None:
    data = load_data(DataConfig(), 0, 10)
    assert connections == []
    assert data.class_names[0] == "T-shirt/top"
    assert data.class_names[9] == "Ankle boot"
    assert counts(data.train.labels) == [1000] * 10
    assert counts(data.eval.labels) == [200] * 10
    assert (data.train_split, data.eval_split, data.eval_is_holdout) == ("train", "test", False)
    assert data.native_size == 28
    assert data.source.kind == "embedded"
    assert data.source.license == "mit"
    assert data.notes == ("No --dataset given: using the embedded Fashion-MNIST subset, offline.",)


def test_embedded_files_are_those_of_the_readme() -> None:
    folder = files("wdistill") / "embedded"
    readme = (folder / "README.md").read_text()
    for split in ("train", "test"):
        name = f"fashion-mnist-{split}.parquet"
        line = next(line for line in readme.splitlines() if line.startswith(f"| `{name}`"))
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() in line
    data = load(None)
    for split in (data.train, data.eval):
        grey = b"".join(pixels(split.image(row))[..., 0].tobytes() for row in range(len(split)))
        content = hashlib.sha256(grey + split.labels.astype(np.uint8).tobytes()).hexdigest()
        assert f"| {split.name} | `{content}` |" in readme
    assert "Copyright (c) 2017 Zalando SE" in (folder / "LICENSE").read_text()


def test_images_are_the_stored_pixels_and_splits_can_travel() -> None:
    split = load(None).eval
    again = pickle.loads(pickle.dumps(split))
    for row in (0, 7, 1999):
        assert (pixels(split.image(row))[..., 0] == pixels(picture(row))).all()
        assert (pixels(again.image(row)) == pixels(split.image(row))).all()


# --- local forms ---------------------------------------------------------------------------------


def test_folder_of_images(tmp_path: Path, connections: list[object]) -> None:
    root = write_tree(
        tmp_path / "wardrobe", {"train/coat": 3, "train/boot": 2, "test/boot": 1, "test/coat": 1}
    )
    data = load(root, ipc=2)
    assert connections == []
    assert data.source.kind == "imagefolder"
    assert data.source.id == "wardrobe"
    assert data.class_names == ("boot", "coat")
    assert counts(data.train.labels) == [2, 3]
    assert counts(data.eval.labels) == [1, 1]
    shown = {pixels(data.train.image(row)).tobytes() for row in range(5)}
    assert shown == {pixels(picture(row).convert("RGB")).tobytes() for row in range(5)}


def test_folder_without_splits_is_held_out(tmp_path: Path) -> None:
    data = load(write_tree(tmp_path / "flat", {"boot": 20, "coat": 30}))
    assert data.eval_is_holdout
    assert counts(data.eval.labels) == [2, 3]
    assert data.train_split == data.eval_split == "train"


def test_parquet_file_glob_and_folder(tmp_path: Path, connections: list[object]) -> None:
    train = write_parquet(tmp_path / "set" / "my-train.parquet", rows_of(THREE))
    write_parquet(tmp_path / "set" / "my-test.parquet", rows_of([0, 1, 2], first=50))
    whole = load(train)
    assert whole.eval_is_holdout
    assert whole.source.id == "my-train"
    for name in (str(tmp_path / "set"), str(tmp_path / "set" / "*.parquet")):
        data = load(name)
        assert (len(data.train), len(data.eval)) == (12, 3)
        assert data.eval_split == "test"
        assert data.source.kind == "parquet"
        assert data.source.id == "set"
        assert (pixels(data.eval.image(0))[..., 0] == pixels(picture(50))).all()
    assert connections == []


def test_glob_over_folders_named_after_splits(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test" / "a" / "train" / "0.parquet", rows_of(THREE))
    write_parquet(tmp_path / "test" / "a" / "valid" / "0.parquet", rows_of([0, 1, 2]))
    data = load(str(tmp_path / "test" / "a" / "*" / "*.parquet"))
    assert (data.train_split, data.eval_split) == ("train", "validation")


def test_name_with_brackets_is_a_path(tmp_path: Path) -> None:
    assert len(load(write_parquet(tmp_path / "a[1]" / "b[2].parquet", rows_of(THREE))).train) == 9


@pytest.mark.parametrize("kind", ["struct", "bytes"])
def test_raw_parquet_columns_become_images(tmp_path: Path, kind: str) -> None:
    cells = [png(row) if kind == "bytes" else {"bytes": png(row)} for row in range(12)]
    path = write_parquet(tmp_path / "raw.parquet", {"img": cells, "target": THREE})
    data = load(path)
    assert (data.image_column, data.label_column) == ("img", "target")
    assert data.class_names == ("0", "1", "2")


def test_saved_dataset_and_dataset_dict(tmp_path: Path, connections: list[object]) -> None:
    shuffled = dataset_of(THREE).shuffle(seed=1)
    shuffled.save_to_disk(str(tmp_path / "one"))
    one = load(str(tmp_path / "one"))
    assert one.eval_is_holdout
    two = load(save(tmp_path / "two", train=shuffled, val=dataset_of([0, 1, 2])))
    assert connections == []
    assert two.eval_split == "val"
    assert two.source.kind == "saved"
    assert two.train.labels.tolist() == shuffled["label"][:]
    expected = pixels(shuffled[5]["image"].convert("RGB"))
    assert (pixels(two.train.image(5)) == expected).all()


def test_licence_comes_from_a_local_card(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set" / "train.parquet", rows_of(THREE))
    card = "---\nlicense: [cc-by-4.0, mit]\npretty_name: Clothes\n---\n# Clothes\n"
    (tmp_path / "set" / "README.md").write_text(card)
    source = load(str(tmp_path / "set")).source
    assert (source.license, source.pretty_name) == ("cc-by-4.0, mit", "Clothes")
    (tmp_path / "set" / "README.md").write_text("# no metadata here")
    assert load(str(tmp_path / "set")).source.license is None


# --- columns and labels --------------------------------------------------------------------------


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
        "the dataset has several label columns; choose one with --label-column: "
        "fine_label, coarse_label"
    )
    assert load(path, label_column="coarse_label").class_names == ("shoe", "cloth")


def test_image_column_must_be_chosen_when_there_are_two(tmp_path: Path) -> None:
    features = Features(image=datasets.Image(), label=Value("int64"), mask=datasets.Image())
    rows = rows_of(THREE, mask=rows_of(THREE, first=100)["image"])
    path = save(tmp_path / "two", train=Dataset.from_dict(rows, features=features))
    assert "several image columns; choose one with --image-column: image, mask" in message(path)
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
        ([-1, 5, 7] * 3, ("5", "7")),
    ],
)
def test_values_without_names_are_sorted_by_size(
    tmp_path: Path, labels: list, names: tuple[str, ...]
) -> None:
    assert load(write_parquet(tmp_path / "a.parquet", rows_of(labels))).class_names == names


def test_rows_without_label_are_left_out_and_counted(tmp_path: Path) -> None:
    train = dataset_of([-1, 0, 1, 2, None, 0, 1, 2])
    data = load(save(tmp_path / "s", train=train, test=dataset_of([0, -1, 1, 2])))
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
    with pytest.raises(DataError, match=f"--group-column '{column}'.*{said}"):
        load_data(DataConfig(dataset=path, group_column=column), seed=0, ipc=1)


def test_wrong_columns_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "s", train=dataset_of(THREE))
    assert message(path, image_column="pic") == (
        "--image-column 'pic' does not exist; choose from image, label"
    )
    assert message(path, label_column="y") == (
        "--label-column 'y' does not exist; choose from image, label"
    )
    assert "--image-column 'label' holds ClassLabel values, not images" in message(
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
        "the dataset has several label columns; choose one with --label-column: species, year"
    )
    assert load(path, label_column="species").class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    "values", [ONE_EACH, list(range(12)), [0.0, 1.0, 2.0] * 4, ["same"] * 12, [None, "a"] * 6]
)
def test_a_column_that_cannot_be_classes_is_not_taken(tmp_path: Path, values: list) -> None:
    assert message(unusual(tmp_path, species=values)) == (
        "the dataset has no label column (columns: picture, species); name one with --label-column"
    )


# --- splits --------------------------------------------------------------------------------------


def test_validation_comes_before_test(tmp_path: Path) -> None:
    path = save(
        tmp_path / "s",
        test=dataset_of([0, 1, 2]),
        validation=dataset_of([0, 1, 2, 0]),
        train=dataset_of(THREE),
    )
    data = load(path)
    assert data.eval_split == "validation"
    assert "Evaluation is on split 'validation'." in data.notes
    assert data.eval_place == "in 'validation'"
    assert load(path, eval_split="test").eval_split == "test"


def test_unlabelled_test_split_is_skipped(tmp_path: Path) -> None:
    path = save(tmp_path / "s", train=dataset_of(THREE * 5), test=dataset_of([-1] * 5))
    data = load(path)
    assert data.eval_is_holdout
    assert data.eval_split == "train"
    assert data.unlabelled == 0
    assert "Split 'test' has no labels and is not used." in data.notes
    assert message(path, eval_split="test") == (
        "split 'test' has no labels; choose another --eval-split"
    )


def test_train_split_must_be_chosen_when_it_has_no_usual_name(tmp_path: Path) -> None:
    path = save(tmp_path / "s", spring=dataset_of(THREE), autumn=dataset_of([2, 1, 0]))
    assert message(path) == (
        "the dataset has no split 'train' but spring, autumn; choose one with --train-split"
    )
    data = load(path, train_split="spring", eval_split="autumn")
    assert (len(data.train), len(data.eval)) == (12, 3)
    assert message(path, train_split="sprung") == (
        "--train-split 'sprung': no split is called 'sprung'; choose from spring, autumn"
    )


def test_slices_of_splits(tmp_path: Path) -> None:
    path = save(tmp_path / "s", train=dataset_of(THREE), extra=dataset_of([2, 1, 0]))
    data = load(path, train_split="train[:75%]+extra", eval_split="train[75%:]")
    assert data.train.labels.tolist() == [*THREE[:9], 2, 1, 0]
    assert data.eval.labels.tolist() == THREE[9:]
    assert (pixels(data.eval.image(0))[..., 0] == pixels(picture(9))).all()
    assert message(path, train_split="train[:1") == (
        "--train-split 'train[:1' is not a split; write for example 'train[:10%]'"
    )


@pytest.mark.parametrize(
    ("trained", "tested", "split"),
    [
        ("train", "train", "train"),
        ("train", "train[:50%]", "train"),
        ("train[:50%]", "train[5:]", "train"),
        ("train+test", "test", "test"),
        ("train[:3]+test[:2]", "train[3:]+test[1:]", "test"),
    ],
)
def test_no_image_is_trained_on_and_tested_on(
    tmp_path: Path, trained: str, tested: str, split: str
) -> None:
    path = save(tmp_path / "s", train=dataset_of(THREE), test=dataset_of([0, 1, 2, 0]))
    assert message(path, train_split=trained, eval_split=tested) == (
        f"--eval-split {tested!r} has images of split {split!r} that are also in the training "
        f"split {trained!r}; choose others"
    )


def test_an_evaluation_split_that_is_trained_on_is_not_taken(tmp_path: Path) -> None:
    splits = {"train": dataset_of(THREE * 5), "test": dataset_of(THREE, first=60)}
    data = load(save(tmp_path / "s", **splits), train_split="train+test")
    assert data.eval_is_holdout
    assert sorted([*data.train.rows, *data.eval.rows]) == list(range(72))
    assert len(data.eval) == 6
    more = save(tmp_path / "t", **splits, validation=dataset_of(THREE, first=80))
    assert load(more, train_split="train+validation[:50%]").eval_split == "test"


def test_holdout_is_stratified_seeded_and_disjoint(tmp_path: Path) -> None:
    path = save(tmp_path / "s", train=dataset_of([0] * 40 + [1] * 20 + [2] * 2))
    data = load(path)
    assert counts(data.eval.labels) == [4, 2, 1]
    assert data.eval_place == "held out of 'train'"
    assert counts(data.train.labels) == [36, 18, 1]
    assert sorted([*data.train.rows, *data.eval.rows]) == list(range(62))
    assert load(path).eval.rows.tolist() == data.eval.rows.tolist()
    assert load(path, seed=1).eval.rows.tolist() != data.eval.rows.tolist()
    assert (
        "No evaluation split with labels beside 'train': 7 of its 62 images are held out, "
        "a seeded tenth of each class."
    ) in data.notes


def test_classes_of_the_evaluation_split_are_matched_by_name(tmp_path: Path) -> None:
    turned = ClassLabel(names=["dress", "hat", "boot", "coat"])
    path = save(tmp_path / "s", train=dataset_of(THREE), test=dataset_of([0, 2, 3, -1], turned))
    data = load(path)
    assert [CLOTHES[label] for label in data.eval.labels] == ["dress", "boot", "coat"]
    strange = save(tmp_path / "t", train=dataset_of(THREE), test=dataset_of([0, 1], turned))
    assert message(strange) == (
        "split 'test' has class 'hat' which the training split lacks; choose another --eval-split"
    )


# --- classes and counts --------------------------------------------------------------------------


def test_class_smaller_than_ipc_is_named(tmp_path: Path) -> None:
    path = save(
        tmp_path / "s", train=dataset_of([0] * 5 + [1] * 3 + [2] * 4), test=dataset_of([0, 1, 2])
    )
    assert message(path, ipc=10) == (
        "class 'coat' has 3 images but --ipc is 10; lower --ipc to 3 or less"
    )
    assert len(load(path, ipc=3).train) == 12


def test_class_that_is_too_small_after_the_holdout(tmp_path: Path) -> None:
    path = save(tmp_path / "s", train=dataset_of([0, 0, 1, 1, 2, 2]))
    assert message(path, ipc=2) == (
        "class 'boot' has 1 image besides 1 held out for evaluation but --ipc is 2; "
        "lower --ipc to 1 or less"
    )


def test_class_without_images_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "s", train=dataset_of([0, 1] * 4), test=dataset_of([0, 1]))
    assert message(path) == "class 'dress' has no images in split 'train'; remove the class"


def test_one_class_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", rows_of(["coat"] * 5))
    assert message(path) == "the dataset has one class, 'coat'; two or more are needed"


def test_empty_and_unlabelled_training_splits_are_refused(tmp_path: Path) -> None:
    pq.write_table(fashion().slice(0, 0), tmp_path / "train.parquet")
    assert message(str(tmp_path / "train.parquet")).endswith(
        "has a split without rows; remove or fill it"
    )
    nothing = save(tmp_path / "n", train=dataset_of(THREE), test=dataset_of([0, 1, 2]))
    assert message(nothing, train_split="train[:0]") == (
        "split 'train[:0]' is empty; choose another with --train-split"
    )
    unlabelled = save(tmp_path / "u", train=dataset_of([-1, -1]), test=dataset_of([0, 1, 2]))
    assert message(unlabelled) == "split 'train' has no labels; choose another --train-split"


# --- broken images -------------------------------------------------------------------------------


def test_broken_image_stops_with_its_place(tmp_path: Path) -> None:
    root = Path(write_tree(tmp_path / "tree", {"train/boot": 3, "train/coat": 3}))
    (root / "train" / "coat" / "01.png").write_bytes(b"")
    text = message(str(root))
    assert re.fullmatch(
        r"broken image in row 4 of split 'train' \(.*train/coat/01\.png\): the file is empty; "
        r"repair it or pass --skip-broken",
        text,
    )


def test_skip_broken_counts_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    buffer = io.BytesIO()
    Image.new("L", (99, 99)).save(buffer, "PNG")
    rows = rows_of([0, 1, 2] * 4)
    damaged = [b"", b"text", png(3)[:-40], buffer.getvalue(), None]
    for row, data in enumerate(damaged):
        rows["image"][row] = {"bytes": data, "path": f"{row}.png"}
    rows["image"][5] = None
    write_parquet(tmp_path / "s" / "train.parquet", rows)
    write_parquet(tmp_path / "s" / "test.parquet", rows_of([0, 1, 2]))
    path = str(tmp_path / "s")
    assert "broken image in row" in message(path)
    data = load(path, ipc=2, skip_broken=True)
    assert data.broken == 6
    assert data.train.rows.tolist() == list(range(6, 12))
    assert "Left out 6 rows with a broken image." in data.notes
    assert message(path, ipc=4, skip_broken=True) == (
        "class '0' has 2 images but --ipc is 4; lower --ipc to 2 or less"
    )


def test_the_check_for_broken_images_shows_a_bar_unless_quiet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / "s", train=dataset_of(THREE), test=dataset_of([0, 1, 2]))
    config = DataConfig(dataset=path, skip_broken=True)
    load_data(config, 0, 1, quiet=True)
    assert capsys.readouterr().err == ""
    load_data(config, 0, 1, quiet=False)
    assert "checking train images" in capsys.readouterr().err


# --- fingerprint ---------------------------------------------------------------------------------


def test_fingerprint_follows_content_not_place(tmp_path: Path) -> None:
    def fingerprint(name: str, labels: list, first: int = 0) -> str:
        whole = DatasetDict(train=dataset_of(labels, first=first), test=dataset_of([0, 1, 2]))
        whole.save_to_disk(str(tmp_path / name))
        return load(str(tmp_path / name)).source.fingerprint

    original = fingerprint("a", THREE)
    assert re.fullmatch("[0-9a-f]{64}", original)
    assert fingerprint("b", THREE) == original
    assert fingerprint("c", THREE, first=1) != original
    assert fingerprint("d", THREE[::-1]) != original
    assert load(str(tmp_path / "a"), eval_split="test[:2]").source.fingerprint != original


# --- names that lead nowhere ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["./nope", "/nope/at/all", "~nope", "data.parquet", "a/b/c"])
def test_missing_path_is_told_without_network(name: str, connections: list[object]) -> None:
    assert message(name) == (
        f"'{name}' does not exist; give a Hub id, a folder of images, parquet files "
        "or a save_to_disk folder"
    )
    assert connections == []


def test_other_files_and_empty_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    assert "'a.txt'" not in message(str(tmp_path / "*.json"))
    assert message(str(tmp_path / "a.txt")).endswith(
        "is no parquet file; give a Hub id, a folder of images, parquet files "
        "or a save_to_disk folder"
    )
    (tmp_path / "empty").mkdir()
    assert message(str(tmp_path / "empty")).startswith("cannot read dataset")


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and then nothing")
    assert message(str(tmp_path / "a.parquet")).startswith("cannot read dataset")


def test_options_that_cannot_apply_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "s", train=dataset_of(THREE))
    assert message(path, revision="main").endswith(
        "is local, but --revision is for the Hub; drop it"
    )
    assert (
        message(None, config_name="x") == "--config-name 'x' needs a --dataset that it belongs to"
    )


def test_config_must_be_chosen_among_several(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set" / "one" / "train.parquet", rows_of(THREE))
    write_parquet(tmp_path / "set" / "two" / "train.parquet", rows_of([0, 1] * 6))
    configs = "".join(
        f"- config_name: {name}\n  data_files: {name}/train.parquet\n" for name in ("one", "two")
    )
    (tmp_path / "set" / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    path = str(tmp_path / "set")
    assert message(path).endswith("has several configs; choose with --config-name: one, two")
    assert message(path, config_name="three").endswith(
        "has no config 'three'; choose with --config-name: one, two"
    )
    assert load(path, config_name="two").class_names == ("0", "1")
    assert load(path, config_name="two").source.config_name == "two"


def test_unreachable_hub_is_named(connections: list[object]) -> None:
    text = message("someone/something")
    assert text.startswith("cannot reach http")
    assert text.endswith(
        "for dataset 'someone/something', and there is no such file or folder here; check the "
        "network and HF_ENDPOINT, or the path if it should be a local folder"
    )
    assert connections


# --- without a network ---------------------------------------------------------------------------


def prepare(cache: Path, name: str, revision: str, **splits: list) -> None:
    """What `datasets` leaves in its cache after reading ``name`` from the Hub."""
    owner, short = name.split("/")
    for split, labels in splits.items():
        source = cache.parent / f"{short}-{split}-{revision[:4]}"
        source.mkdir()
        dataset_of(labels).to_parquet(source / f"{split}.parquet")
        folder = cache / f"{owner}___{short}" / f"default-{split}" / "0.0.0" / revision
        datasets.load_dataset_builder(str(source)).download_and_prepare(str(folder))


def test_prepared_copy_serves_without_network(tmp_path: Path, connections: list[object]) -> None:
    cache = tmp_path / "cache"
    prepare(cache, "someone/clothes", "a" * 40, train=THREE * 2, validation=[0, 1, 2])
    prepare(cache, "someone/clothes", "b" * 40, train=THREE, validation=[0, 1, 2, 0])
    for name in ("someone/clothes", "clothes"):
        data = load(name)
        assert (len(data.train), len(data.eval)) == (12, 4)
        assert data.source.id == "someone/clothes"
        assert data.source.revision == "b" * 40
        assert data.notes[0] == (
            "The Hub is out of reach: using the copy of 'someone/clothes' prepared before."
        )
    assert len(load("clothes", revision="a" * 40).train) == 24
    assert message("clothes", revision="c" * 40).startswith("cannot reach")
    prepare(cache, "another/clothes", "d" * 40, train=THREE)
    assert message("clothes").startswith("cannot reach")
    assert connections


def test_local_data_is_never_mistaken_for_a_copy_from_the_hub(
    tmp_path: Path, connections: list[object]
) -> None:
    load(write_tree(tmp_path / "wardrobe", {"boot": 3, "coat": 3}))
    assert message("wardrobe").startswith("cannot reach")
