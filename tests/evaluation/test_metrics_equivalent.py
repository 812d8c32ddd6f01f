"""The number of random real images that a set is worth: known curves, known answers."""

from __future__ import annotations

import numpy as np
import pytest

from wdistill.evaluation.metrics import equivalent_ipc


def line(ipc: float) -> float:
    """0.2 at one image per class, 0.1 more for every factor of ten."""
    return 0.2 + 0.1 * np.log10(ipc)


CURVE = {ipc: [line(ipc)] * 2 for ipc in (1, 10, 20, 50, 100)}


@pytest.mark.parametrize("ipc", [1, 3, 10, 17, 50, 80, 100])
def test_a_set_of_so_many_random_images_is_worth_so_many(ipc: int) -> None:
    found = equivalent_ipc([line(ipc)] * 2, CURVE)
    assert found.ipc == pytest.approx(ipc)
    assert (found.low, found.high) == (pytest.approx(ipc), pytest.approx(ipc))
    assert found.bound == "interpolated"


def test_beyond_the_curve_there_is_only_a_bound() -> None:
    above, below = equivalent_ipc([0.9], CURVE), equivalent_ipc([0.1], CURVE)
    assert (above.ipc, above.bound) == (pytest.approx(100), "at_least")
    assert (below.ipc, below.bound) == (pytest.approx(1), "at_most")


def test_above_a_curve_that_no_longer_rises_all_that_was_measured_counts() -> None:
    """Too few steps for more images: 20 and 40 score no better than 10."""
    found = equivalent_ipc([0.5], {10: [0.4], 20: [0.39], 40: [0.38]})
    assert (found.ipc, found.bound) == (40, "at_least")


def test_one_seed_everywhere_gives_no_interval() -> None:
    found = equivalent_ipc([line(20)], {ipc: values[:1] for ipc, values in CURVE.items()})
    assert found.ipc == pytest.approx(20)
    assert found.low is None
    assert found.high is None


def test_a_dip_of_the_curve_is_smoothed() -> None:
    """20 images scored worse than 10: their pooled mean counts for both."""
    found = equivalent_ipc([0.31], {5: [0.2], 10: [0.32], 20: [0.30], 40: [0.5]})
    assert 9.9 < found.ipc <= 10.1
    assert found.bound == "interpolated"


def test_the_interval_covers_the_truth_nineteen_times_in_twenty() -> None:
    """A set worth 20 images, all accuracies with a deviation of 0.01, three seeds."""
    draw = np.random.default_rng(0)
    inside = 0
    for _ in range(100):
        noisy = {ipc: line(ipc) + 0.01 * draw.standard_normal(3) for ipc in CURVE}
        found = equivalent_ipc(line(20) + 0.01 * draw.standard_normal(3), noisy)
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 20 <= found.high
    assert 88 <= inside <= 100


def test_more_seeds_narrow_the_interval() -> None:
    def width(seeds: int) -> float:
        draw = np.random.default_rng(1)
        noisy = {ipc: line(ipc) + 0.01 * draw.standard_normal(seeds) for ipc in CURVE}
        found = equivalent_ipc(line(20) + 0.01 * draw.standard_normal(seeds), noisy)
        assert found.low is not None
        assert found.high is not None
        return np.log(found.high / found.low)

    assert width(50) < 0.6 * width(3)
