"""Datasets by any name: the embedded subset, local forms, a copy without a network, nothing."""

from __future__ import annotations

import hashlib
import pickle
from importlib.resources import files
from pathlib import Path

import datasets
import numpy as np
import pytest
from helpers.datasets_on_disk import (
    THREE,
    counts,
    dataset_of,
    load,
    message,
    picture,
    pixels,
    png,
    rows_of,
    save,
    write_parquet,
    write_tree,
)

from wdistill.config import DataConfig
from wdistill.data.dataset import load_data

pytestmark = pytest.mark.usefixtures("own_cache")


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
    assert data.notes == ("No dataset is named: using the embedded Fashion-MNIST subset, offline.",)


def test_embedded_files_are_those_of_the_readme() -> None:
    folder = files("wdistill.data") / "embedded"
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
    two = load(save(tmp_path / "two", train=shuffled, val=dataset_of([0, 1, 2], first=20)))
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
        "is local, but `data.revision` is for the Hub; drop it"
    )
    assert (
        message(None, config_name="x")
        == "`data.config_name` 'x' needs a `data.dataset` that it belongs to"
    )


def test_config_must_be_chosen_among_several(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set" / "one" / "train.parquet", rows_of(THREE))
    write_parquet(tmp_path / "set" / "two" / "train.parquet", rows_of([0, 1] * 6))
    configs = "".join(
        f"- config_name: {name}\n  data_files: {name}/train.parquet\n" for name in ("one", "two")
    )
    (tmp_path / "set" / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    path = str(tmp_path / "set")
    assert message(path).endswith("has several configs; choose with `data.config_name`: one, two")
    assert message(path, config_name="three").endswith(
        "has no config 'three'; choose with `data.config_name`: one, two"
    )
    assert load(path, config_name="two").class_names == ("0", "1")
    assert load(path, config_name="two").source.config_name == "two"


@pytest.mark.slow
def test_unreachable_hub_is_named(connections: list[object]) -> None:
    text = message("someone/something")
    assert text.startswith("cannot reach http")
    assert text.endswith(
        "for dataset 'someone/something', and there is no such file or folder here; check the "
        "network and HF_ENDPOINT, or the path if it should be a local folder"
    )
    assert connections


# --- without a network ---------------------------------------------------------------------------


def prepare(cache: Path, name: str, revision: str, config: str = "default", **splits: list) -> None:
    """What `datasets` leaves in its cache after reading ``name`` from the Hub."""
    owner, short = name.split("/")
    source = cache.parent / revision / short
    source.mkdir(parents=True)
    for number, (split, labels) in enumerate(splits.items()):
        dataset_of(labels, first=20 * number).to_parquet(source / f"{split}.parquet")
    folder = cache / f"{owner}___{short}" / config / "0.0.0" / revision
    datasets.load_dataset_builder(str(source)).download_and_prepare(str(folder))


@pytest.mark.slow
def test_prepared_copy_serves_without_network(tmp_path: Path, connections: list[object]) -> None:
    cache = tmp_path / "cache"
    prepare(cache, "someone/clothes", "b" * 40, train=THREE, validation=[0, 1, 2, 0])
    data = load("someone/clothes")
    assert (len(data.train), len(data.eval)) == (12, 4)
    assert data.source.id == "someone/clothes"
    assert data.source.revision == "b" * 40
    assert data.source.config_name is None
    assert data.source.gated == "unknown"
    assert data.notes[0] == (
        "The Hub is out of reach: using the copy of 'someone/clothes' prepared before."
    )
    assert len(load("someone/clothes", revision="b" * 40).train) == 12
    assert connections


@pytest.mark.slow
def test_a_copy_that_does_not_serve_without_network_is_told(
    tmp_path: Path, connections: list[object]
) -> None:
    cache = tmp_path / "cache"
    prepare(cache, "someone/clothes", "b" * 40, train=THREE)
    prepare(cache, "someone/boots", "c" * 40, "default-0123456789abcdef", train=THREE)
    assert "no copy of it can be used (the prepared copy is of revision bbbb" in message(
        "someone/clothes", revision="c" * 40
    )
    assert "(prepared copies go by full names, OWNER/NAME)" in message("clothes")
    for text in (message("someone/boots"), message("someone/clothes", config_name="large")):
        assert text.startswith("cannot reach http")
        assert "(Couldn't find cache for someone/" in text
        assert text.endswith("datasets.load_dataset(ID, CONFIG) once prepares all of it")
    assert connections


def test_local_data_is_never_mistaken_for_a_copy_from_the_hub(
    tmp_path: Path, connections: list[object]
) -> None:
    load(write_tree(tmp_path / "wardrobe", {"boot": 3, "coat": 3}))
    assert message("wardrobe").startswith("cannot reach")
