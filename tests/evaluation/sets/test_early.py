"""Errors of an early network: images that are like their class are easy."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
import torch
from helpers.runs import embedded_table

from wdistill.data.pixels import PixelStore, Preprocessing
from wdistill.data.splits import ImageSplit
from wdistill.evaluation.sets import early
from wdistill.evaluation.sets.early import early_errors, errors

NAMES = ("t-shirt", "trouser", "pullover")
PIXELS = Preprocessing(28, 28, (0.3, 0.3, 0.3), (0.35, 0.35, 0.35))


def test_the_error_is_the_distance_to_the_answer() -> None:
    logits = torch.tensor([[100.0, 0, 0], [0, 100.0, 0], [0, 0, 0]])
    found = errors(logits, torch.tensor([0, 0, 0]))
    assert found.tolist() == pytest.approx([0, 2**0.5, (4 / 9 + 1 / 9 + 1 / 9) ** 0.5])


@pytest.mark.slow
def test_wrong_labels_are_hard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the labels is wrong: the easiest half of each class has hardly any of them."""
    monkeypatch.setattr(early, "STEPS", 40)
    table = embedded_table("train", 100, len(NAMES))
    rows = datasets.Dataset(datasets.table.InMemoryTable(table))
    rows = rows.cast_column("image", datasets.Image(decode=False))
    true = table["label"].to_numpy().astype(np.int64)
    wrong = np.random.default_rng(0).random(len(true)) < 0.1
    labels = np.where(wrong, (true + 1) % 3, true)
    store = PixelStore(
        ImageSplit(labels, rows, np.arange(len(labels)), "train", "image"), PIXELS, quiet=True
    )
    found = early_errors(store, NAMES, 0, torch.device("cpu")).numpy()
    again = early_errors(store, NAMES, 0, torch.device("cpu")).numpy()
    assert np.array_equal(found, again)
    assert found.shape == (300,)
    half = found < np.median(found)
    assert wrong[half].mean() < 0.02 < wrong[~half].mean()
    assert found[wrong].mean() > 2 * found[~wrong].mean()
