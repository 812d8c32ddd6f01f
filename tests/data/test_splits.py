"""Splits are found or held out, and no image is trained on and tested on."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import ClassLabel
from helpers.datasets_on_disk import (
    CLOTHES,
    THREE,
    counts,
    dataset_of,
    load,
    message,
    picture,
    pixels,
    save,
)

pytestmark = pytest.mark.usefixtures("own_cache")


def test_validation_comes_before_test(tmp_path: Path) -> None:
    path = save(
        tmp_path / "s",
        test=dataset_of([0, 1, 2], first=20),
        validation=dataset_of([0, 1, 2, 0], first=30),
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
    assert "Split 'test' (5 images) has no labels and is not used." in data.notes
    assert message(path, eval_split="test") == (
        "split 'test' has no labels; choose another `data.eval_split`"
    )


def test_train_split_must_be_chosen_when_it_has_no_usual_name(tmp_path: Path) -> None:
    path = save(tmp_path / "s", spring=dataset_of(THREE), autumn=dataset_of([2, 1, 0], first=20))
    assert message(path) == (
        "the dataset has no split 'train' but spring, autumn; choose one with `data.train_split`"
    )
    data = load(path, train_split="spring", eval_split="autumn")
    assert (len(data.train), len(data.eval)) == (12, 3)
    assert message(path, train_split="sprung") == (
        "`data.train_split` 'sprung': no split is called 'sprung'; choose from spring, autumn"
    )


def test_slices_of_splits(tmp_path: Path) -> None:
    path = save(tmp_path / "s", train=dataset_of(THREE), extra=dataset_of([2, 1, 0]))
    data = load(path, train_split="train[:75%]+extra", eval_split="train[75%:]")
    assert data.train.labels.tolist() == [*THREE[:9], 2, 1, 0]
    assert data.eval.labels.tolist() == THREE[9:]
    assert (pixels(data.eval.image(0))[..., 0] == pixels(picture(9))).all()
    assert message(path, train_split="train[:1") == (
        "`data.train_split` 'train[:1' is not a split; write for example 'train[:10%]'"
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
        f"`data.eval_split` {tested!r} has images of split {split!r} that are also in the training "
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
        "split 'test' has class 'hat' which the training split lacks; "
        "choose another `data.eval_split`"
    )
