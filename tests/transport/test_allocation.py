"""Images go to the classes in which one more lowers W2 most."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from wdistill.core.seeds import stream
from wdistill.transport.allocation import (
    atoms_tried,
    even_share,
    marginal_gains,
    quantisation_errors,
    shared_out,
)
from wdistill.transport.kmeans import Array, k_means, squared_distances

POINTS = 60


def blobs(count: int, key: int = 0) -> Tensor:
    """Points of a class around ``count`` far-away places, as many at each."""
    generator = stream(key, "blobs")
    places = 10 * torch.eye(8)[torch.arange(POINTS) % count]
    return places + 0.1 * torch.randn(POINTS, 8, generator=generator)


def errors_of(classes: Sequence[Tensor], most: int) -> list[Array]:
    return [
        quantisation_errors(features, most, most, stream(0, label))
        for label, features in enumerate(classes)
    ]


def test_a_class_of_one_blob_needs_one_image_and_one_of_five_needs_five() -> None:
    assert shared_out(errors_of([blobs(1), blobs(5)], 5), 6) == (1, 5)
    assert shared_out(errors_of([blobs(2), blobs(1), blobs(5)], 6), 8) == (2, 1, 5)


def test_the_order_of_the_classes_does_not_matter() -> None:
    needs = (3, 1, 4, 2)
    for order in itertools.permutations(range(4)):
        classes = [blobs(needs[c], key=c) for c in order]
        assert shared_out(errors_of(classes, 7), 10) == tuple(needs[c] for c in order)


def test_classes_that_are_alike_share_alike() -> None:
    classes = [torch.randn(200, 4, generator=stream(0, "cloud", c)) for c in range(5)]
    counts = shared_out(errors_of(classes, 40), 50)
    assert sum(counts) == 50
    assert max(counts) - min(counts) <= 3


def test_a_wider_class_gets_more() -> None:
    narrow, wide = (s * torch.randn(200, 4, generator=stream(0, "cloud")) for s in (1, 3))
    counts = shared_out(errors_of([narrow, wide], 19), 20)
    assert counts[1] > 2 * counts[0]


def curves(seed: int, classes: int, most: int) -> list[Array]:
    """Errors that fall by less and less."""
    draw = np.random.default_rng(seed)
    return [np.cumsum(np.sort(draw.random(most)))[::-1].copy() for _ in range(classes)]


@pytest.mark.parametrize("seed", range(5))
def test_no_other_numbers_have_a_lower_error(seed: int) -> None:
    errors = curves(seed, 3, 6)
    for total in range(3, 19):
        counts = shared_out(errors, total)
        assert sum(counts) == total
        possible = itertools.product(range(1, 7), repeat=3)
        best = min(
            sum(own[n - 1] for own, n in zip(errors, each, strict=True))
            for each in possible
            if sum(each) == total
        )
        assert sum(own[n - 1] for own, n in zip(errors, counts, strict=True)) == pytest.approx(best)


def test_a_class_gets_no_more_than_it_has_and_the_rest_goes_to_others() -> None:
    greedy, other = np.array([9.0, 5.0, 2.0]), np.array([1.0, 0.9, 0.8, 0.7, 0.6])
    assert shared_out([greedy, other], 7) == (3, 4)
    assert shared_out([greedy, other], 8) == (3, 5)
    assert shared_out([np.array([5.0]), other], 3) == (1, 2)


@pytest.mark.parametrize("present", [(4, 4, 4), (1, 9, 3), (2, 2, 8, 8, 30)])
def test_an_even_share_is_the_largest_that_all_can_have_together(present: tuple[int, ...]) -> None:
    for total in range(sum(present) + 5):
        fits = [n for n in range(max(present) + 1) if sum(min(n, c) for c in present) <= total]
        assert even_share(present, total) == max(fits)


@pytest.mark.parametrize("total", [1, 9])
def test_numbers_that_cannot_be_are_refused(total: int) -> None:
    with pytest.raises(ValueError, match="2 classes that can have 8"):
        shared_out([np.ones(3), np.ones(5)], total)


def test_images_that_gain_together_count_together() -> None:
    """The second alone gains nothing, the third beside it more than others do."""
    late, steady = np.array([10.0, 10.0, 0.0]), np.array([10.0, 7.0, 5.0])
    assert marginal_gains(late).tolist() == [5.0, 5.0]
    assert marginal_gains(steady).tolist() == [3.0, 2.0]
    assert shared_out([late, steady], 4) == (3, 1)


def test_numbers_of_atoms_that_are_tried() -> None:
    assert atoms_tried(1) == [1]
    assert atoms_tried(8) == list(range(1, 9))
    tried = atoms_tried(40)
    assert tried[:9] == [*range(1, 9), 10]
    assert tried[-1] == 40
    assert len(tried) < 18


def test_errors_between_and_beyond_those_that_are_computed() -> None:
    """They are those of k-means with that number of atoms, within a few percent, of which a share
    is added that is lost by fitting the atoms.
    """
    features = torch.randn(800, 4, generator=stream(0, "cloud"))
    errors = quantisation_errors(features, 60, 30, stream(0, "starts"))
    assert len(errors) == 60
    assert (np.diff(errors) < 0).all()
    y = features.double().numpy()
    y = y - y.mean(0)
    for n in (1, 4, 9, 22, 40, 60):
        atoms, _ = k_means(y, n, 8, 100, stream(1, "starts"))
        exact = squared_distances(y, atoms).min(1).sum() / (len(y) - n)
        assert errors[n - 1] == pytest.approx(exact, rel=0.06)


def test_a_rare_class_gets_as_much_as_a_frequent_one_that_is_like_it() -> None:
    """Its few images would soon be represented without error, but not the class."""
    frequent, rare = (
        torch.randn(count, 12, generator=stream(0, "cloud", count)) for count in (600, 20)
    )
    errors = [
        quantisation_errors(features, 19, 19, stream(0, "starts")) for features in (frequent, rare)
    ]
    counts = shared_out(errors, 20)
    assert 6 <= counts[1] <= 14


def test_equal_images_need_one() -> None:
    same = torch.ones(20, 4)
    assert shared_out(errors_of([same, blobs(3)], 5), 6) == (1, 5)
