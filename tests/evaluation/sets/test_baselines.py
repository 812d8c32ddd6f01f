"""Real images that are chosen by a rule, and images without content."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from wdistill.core.seeds import stream
from wdistill.evaluation.sets.baselines import easiest, k_centre, mosaics, noise_images
from wdistill.evaluation.sets.tiles import decoded


def clouds(centres: list[float], each: int = 30) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    points = [torch.randn(each, 2, generator=draw) * 0.1 + centre for centre in centres]
    return torch.cat(points)


def test_each_cloud_gives_the_point_nearest_to_its_middle() -> None:
    features = clouds([0.0, 5.0, 10.0])
    picks = k_centre(features, 3, stream(0, "k-centre"))
    wanted = set()
    for start in (0, 30, 60):
        cloud = features[start : start + 30]
        wanted.add(start + int((cloud - cloud.mean(0)).norm(dim=1).argmin()))
    assert set(picks.tolist()) == wanted


@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_other_choice_of_centres_is_nearer(count: int) -> None:
    """Against all choices of so many of twelve points: k-means with its points as centres is near
    the best of them.
    """
    features = clouds([0.0, 3.0], 6)

    def cost(rows: tuple[int, ...]) -> float:
        return float(torch.cdist(features, features[list(rows)]).square().min(1).values.sum())

    best = min(cost(rows) for rows in combinations(range(12), count))
    found = tuple(k_centre(features, count, stream(0, "k-centre")).tolist())
    assert len(set(found)) == count
    assert cost(found) <= 1.3 * best


def test_every_point_can_be_a_centre() -> None:
    features = torch.zeros(5, 2)  # all alike
    assert sorted(k_centre(features, 5, stream(0, "k-centre")).tolist()) == [0, 1, 2, 3, 4]


def test_the_easiest_of_each_class_have_the_smallest_errors() -> None:
    draw = np.random.default_rng(0)
    errors, labels = torch.from_numpy(draw.random(60)), torch.from_numpy(draw.integers(0, 3, 60))
    rows = easiest(errors, labels, [2, 5, 1])
    assert labels[rows].tolist() == [0, 0, 1, 1, 1, 1, 1, 2]
    for label, count in enumerate([2, 5, 1]):
        own = errors[labels == label].sort().values[:count]
        assert errors[rows][labels[rows] == label].tolist() == own.tolist()


@pytest.mark.parametrize("size", [28, 32, 33])
def test_four_images_are_the_quarters_of_one(size: int) -> None:
    colours = torch.tensor([[10, 20, 30], [200, 0, 90], [0, 255, 0], [77, 77, 77]])
    flat = colours[:, :, None, None].expand(4, 3, size, size).to(torch.uint8)
    (whole,) = mosaics(torch.cat([flat, flat]))[:1]
    assert whole.shape == (3, size, size)
    tile = -(-size // 2)
    quarters = [(0, 0), (0, size - 1), (size - 1, 0), (size - 1, size - 1)]
    for colour, (row, column) in zip(colours, quarters, strict=True):
        assert whole[:, row, column].tolist() == colour.tolist()
    assert whole[:, tile - 1, 0].tolist() == colours[0].tolist()
    assert whole[:, tile, 0].tolist() == colours[2].tolist()


def test_the_decoder_gives_the_four_images_back_as_far_as_half_their_size_has_them() -> None:
    ramp = torch.linspace(0, 255, 32).expand(3, 32, 32)
    images = torch.stack([ramp, ramp.transpose(1, 2), 255 - ramp, ramp * 0.5]).to(torch.uint8)
    back = decoded(mosaics(images).float() / 255, 2) * 255
    assert back.shape == (4, 3, 32, 32)
    assert float((back - images).abs().max()) < 8


def test_noise_is_drawn_anew_for_each_student_and_has_no_class() -> None:
    like = torch.zeros(200, 3, 8, 8, dtype=torch.uint8)
    first, again, other = (noise_images(like, 0, draw) for draw in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == torch.uint8
    assert float(first.float().mean()) == pytest.approx(127.5, abs=1)
    assert float(first.float().std()) == pytest.approx(256 / 12**0.5, abs=1)
