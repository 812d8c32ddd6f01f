"""Classes and counts, broken images, fingerprints."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import DatasetDict
from helpers.datasets_on_disk import (
    THREE,
    dataset_of,
    fashion,
    load,
    message,
    png,
    rows_of,
    save,
    write_parquet,
    write_tree,
)
from PIL import Image

from wdistill.config import DataConfig
from wdistill.data.dataset import load_data

pytestmark = pytest.mark.usefixtures("own_cache")


# --- classes and counts --------------------------------------------------------------------------


def test_class_smaller_than_ipc_is_named(tmp_path: Path) -> None:
    path = save(
        tmp_path / "s",
        train=dataset_of([0] * 5 + [1] * 3 + [2] * 4),
        test=dataset_of([0, 1, 2], first=20),
    )
    assert message(path, ipc=10) == (
        "class 'coat' has 3 images but `barycenter.ipc` is 10; lower `barycenter.ipc` to 3 or less"
    )
    assert len(load(path, ipc=3).train) == 12


def test_class_that_is_too_small_after_the_holdout(tmp_path: Path) -> None:
    path = save(tmp_path / "s", train=dataset_of([0, 0, 1, 1, 2, 2]))
    assert message(path, ipc=2) == (
        "class 'boot' has 1 image besides 1 held out for evaluation but `barycenter.ipc` is 2; "
        "lower `barycenter.ipc` to 1 or less"
    )


def test_names_without_images_are_left_out_and_told(tmp_path: Path) -> None:
    path = save(tmp_path / "s", train=dataset_of([0, 2] * 4), test=dataset_of([0, 2], first=20))
    data = load(path)
    assert data.class_names == ("boot", "dress")
    assert data.train.labels.tolist() == [0, 1] * 4
    assert data.eval.labels.tolist() == [0, 1]
    assert (
        "Left out 1 of 3 class names: no image of split 'train' is of these classes." in data.notes
    )
    more = save(tmp_path / "t", train=dataset_of([0, 2] * 4), test=dataset_of([0, 1], first=20))
    assert message(more) == (
        "split 'test' has class 'coat' which the training split lacks; "
        "choose another `data.eval_split`"
    )


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
        "split 'train[:0]' is empty; choose another with `data.train_split`"
    )
    unlabelled = save(tmp_path / "u", train=dataset_of([-1, -1]), test=dataset_of([0, 1, 2]))
    assert message(unlabelled) == "split 'train' has no labels; choose another `data.train_split`"


# --- broken images -------------------------------------------------------------------------------


def test_broken_image_stops_with_its_place(tmp_path: Path) -> None:
    root = Path(write_tree(tmp_path / "tree", {"train/boot": 3, "train/coat": 3}))
    (root / "train" / "coat" / "01.png").write_bytes(b"")
    text = message(str(root))
    assert re.fullmatch(
        r"broken image in row 4 of split 'train' \(.*train/coat/01\.png\): the file is empty; "
        r"repair it or pass `data.skip_broken=True`",
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
        "class '0' has 2 images but `barycenter.ipc` is 4; lower `barycenter.ipc` to 2 or less"
    )


def test_the_check_for_broken_images_shows_a_bar_unless_quiet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    path = save(tmp_path / "s", train=dataset_of(THREE), test=dataset_of([0, 1, 2]))
    config = DataConfig(dataset=path, skip_broken=True)
    load_data(config, 0, 1, quiet=True)
    assert capsys.readouterr().err == ""
    load_data(config, 0, 1, quiet=False)
    assert "checking train images" in capsys.readouterr().err


def test_a_class_of_broken_images_alone_is_refused(tmp_path: Path) -> None:
    root = Path(write_tree(tmp_path / "tree", {"boot": 3, "coat": 3}))
    for file in (root / "coat").iterdir():
        file.write_bytes(b"<html>")
    assert message(str(root), skip_broken=True) == (
        "no image of class 'coat' in split 'train' can be decoded; repair one, or remove the class"
    )


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
