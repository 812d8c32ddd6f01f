"""The distance to the nearest real image, on cases that a hand can compute."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor

from wdistill.evaluation.metrics import nearest_real


def each(pixels: Tensor, real: Iterable[Tensor]) -> Tensor:
    return nearest_real(pixels, real, torch.device("cpu"))[1]


def rmse(pixels: Tensor, real: Iterable[Tensor]) -> float:
    return float(each(pixels, real).mean())


def grey(*values: int, size: int = 4) -> Tensor:
    """One image of constant brightness per value."""
    return torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, size, size)


def test_constant_images() -> None:
    real = grey(0, 100, 200)
    # 90 is 10 from 100; 170 is 30 from 200; 255 is 55 from 200.
    expected = torch.tensor([10.0, 30.0, 55.0]) / 255
    torch.testing.assert_close(each(grey(90, 170, 255), [real]), expected)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_the_nearest_one_is_named(batch: int) -> None:
    real = grey(0, 200, 100, 200)
    found, _ = nearest_real(grey(90, 170, 3), real.split(batch), torch.device("cpu"))
    assert found.tolist() == [2, 1, 0]


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_batches_do_not_matter(batch: int) -> None:
    found = rmse(grey(90, 170, 255), grey(0, 100, 200).split(batch))
    assert found == pytest.approx(95 / 3 / 255)


@pytest.mark.parametrize("size", [1, 4, 16])
def test_one_pixel_of_three_channels(size: int) -> None:
    """A root of a mean: one channel that differs by 255 everywhere is sqrt(1 / 3), at any size."""
    image = torch.zeros(1, 3, size, size, dtype=torch.uint8)
    image[:, 1] = 255
    assert rmse(image, [grey(0, size=size)]) == pytest.approx((1 / 3) ** 0.5)


def test_a_copy_is_at_distance_zero_and_black_from_white_at_one() -> None:
    real = torch.arange(2 * 3 * 16).remainder(256).to(torch.uint8).view(2, 3, 4, 4)
    assert rmse(real.flip(0), [real]) == 0
    assert rmse(grey(0), [grey(255)]) == pytest.approx(1)


def test_a_difference_of_one_level_is_not_lost() -> None:
    """Far from zero, where |a|^2 + |b|^2 - 2ab would cancel."""
    assert rmse(grey(254, size=64), [grey(255, size=64)]) == pytest.approx(1 / 255, rel=1e-4)
