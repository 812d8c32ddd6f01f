"""Rounded logits give students nearly the same probabilities, in fewer bytes."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.labels import CLASSES, example_views, normal
from sklearn.cluster import KMeans
from torch.nn import functional as F

from wdistill.labels.codec import encode
from wdistill.labels.rounding import codebook, rounded
from wdistill.labels.views import LabelViews, all_logits


def peaked(views: LabelViews) -> LabelViews:
    """The same views with logits as far apart as those of a trained network."""
    return replace(views, logits=views.logits * 4 / views.logits.std())


@pytest.mark.parametrize("levels", [2, 4, 16])
def test_codebook_is_as_good_as_the_best_of_many_k_means(levels: int) -> None:
    values = torch.cat([normal(900), 8 + 0.5 * normal(100, key="bump")]).float()
    centres = codebook(values, levels)
    ours = ((values[:, None] - centres).abs().min(1).values ** 2).sum()
    points = values.numpy()[:, None]
    best = KMeans(levels, n_init=16, random_state=0).fit(points).inertia_
    assert len(centres) == levels
    assert float(ours) <= 1.1 * best


def test_few_values_stay_as_they_are() -> None:
    assert torch.equal(codebook(torch.tensor([2.0, -1.0, 2.0]), 8), torch.tensor([-1.0, 2.0]))


def probabilities(views: LabelViews, temperature: float) -> torch.Tensor:
    return (all_logits(views, CLASSES) / temperature).softmax(1).double()


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_rounding_is_as_near_to_the_probabilities_as_the_best_intervals(temperature: float) -> None:
    """By the KL divergence of numbers that need not sum to 1: p log(p / q) - p + q."""
    views = peaked(example_views(20))
    coarse = rounded(views, 4, CLASSES, temperature)
    floats = [value.numpy().tobytes() for value in coarse.logits.unique()]
    assert 2 <= len(floats) <= 4
    assert len({value[:2] + value[3:] for value in floats}) == 1  # they differ in one byte

    def divergence(p: np.ndarray, q: np.ndarray) -> float:
        return float((p * np.log(p / q) - p + q).sum())

    p = np.sort(probabilities(views, temperature).flatten().numpy())
    least = 2 * 4 ** math.ceil(math.log(temperature, 4))
    q = np.sort(((coarse.logits + least) / temperature).double().exp().flatten().numpy())
    cuts = np.linspace(0, len(p), 25).astype(int)[1:-1]
    best = min(
        sum(divergence(part, part.mean()) for part in np.split(p, places))
        for places in itertools.combinations(cuts, 3)
    )
    assert divergence(p, q) <= 1.15 * best
    assert q.sum() == pytest.approx(p.sum(), rel=0.02)


def test_rounding_costs_less_than_that_of_logits_in_fewer_bytes() -> None:
    """Of a network that is mostly sure; the other way: sixteen levels of the logits themselves."""
    views = peaked(example_views(60))
    levels = codebook(views.logits, 16)
    nearest = (views.logits[..., None] - levels).abs().argmin(-1)
    other = replace(views, logits=levels[nearest])
    coarse = rounded(views, 8, CLASSES, 1.0)
    was = probabilities(views, 1.0)

    def divergence(now: LabelViews) -> float:
        return float(F.kl_div(probabilities(now, 1.0).log(), was, reduction="batchmean"))

    assert divergence(coarse) < divergence(other)
    assert len(encode(coarse, CLASSES)) < len(encode(other, CLASSES))


def test_rounding_keeps_what_the_omitted_classes_have_together() -> None:
    views = example_views(20, topk=1)
    coarse = rounded(views, 16, CLASSES, 1.0)
    was, now = (1 - probabilities(v, 1.0).max(1).values for v in (views, coarse))
    torch.testing.assert_close(now, was, atol=0.05, rtol=0)
