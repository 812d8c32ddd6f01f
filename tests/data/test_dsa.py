"""DSA's operations beside what each of them says, pixel by pixel."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor

from wdistill.core.seeds import stream
from wdistill.data import dsa as module
from wdistill.data.dsa import (
    colour,
    crop,
    cutout,
    dsa,
    dsa_idc,
    flip,
    rotate,
    scale,
    shared_operation,
)

MANY, SIDE = 400, 16
OPERATIONS = [colour, crop, cutout, flip, scale, rotate]


def images(count: int = MANY, side: int = SIDE) -> Tensor:
    return torch.randn(count, 3, side, side, generator=stream(0, "images")) + 3  # no zeros


@pytest.mark.parametrize("operation", [*OPERATIONS, dsa, dsa_idc])
def test_the_same_seed_gives_the_same_images(operation: module.Operation) -> None:
    first, again = (operation(images(8), stream(1, "draw")) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (8, 3, SIDE, SIDE)
    others = (operation(images(8), stream(seed, "draw")) for seed in range(2, 8))
    assert not all(torch.equal(first, other) for other in others)


def test_a_crop_shifts_by_an_eighth_at_most_and_fills_with_zeros() -> None:
    before = images()
    after = crop(before, stream(0, "crop"))
    shifts = set()
    for own, shifted in zip(before, after, strict=True):
        matches = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if torch.equal(shifted, _shift(own, down, right))
        ]
        assert len(matches) == 1
        shifts.add(matches[0])
    assert shifts == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


def _shift(image: Tensor, down: int, right: int) -> Tensor:
    wide = torch.nn.functional.pad(image, (2, 2, 2, 2))
    return wide[:, 2 + down : 2 + down + SIDE, 2 + right : 2 + right + SIDE]


def test_cutout_removes_a_square_of_half_the_side_or_what_the_image_has_of_it() -> None:
    after = cutout(images(), stream(0, "cutout"))
    removed = (after == 0).all(1)
    assert torch.equal((after == 0).any(1), removed)
    heights = removed.any(2).sum(1)
    widths = removed.any(1).sum(1)
    assert torch.equal(removed.sum((1, 2)), heights * widths), "a rectangle"
    assert int(heights.max()) == int(widths.max()) == SIDE // 2
    assert int(heights.min()) == int(widths.min()) == SIDE // 4  # its middle is in the image
    middle = removed.float().mean(0)
    # Offsets 0 to 16 with the middle of the image cut out by 8 of 17 of them along each side.
    assert float(middle[8, 8]) == pytest.approx((8 / 17) ** 2, abs=0.08)


def test_half_of_the_images_are_flipped() -> None:
    before = images()
    after = flip(before, stream(0, "flip"))
    flipped = [torch.equal(a, b.flip(2)) for a, b in zip(after, before, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(after, before, strict=True)]
    assert all(one != other for one, other in zip(flipped, kept, strict=True))
    assert np.mean(flipped) == pytest.approx(0.5, abs=0.1)


def test_colours_are_affine_in_the_ranges_of_the_code() -> None:
    """On grey images saturation does nothing, and the other two leave a u + b of each pixel."""
    grey = images()[:, :1].repeat(1, 3, 1, 1)
    after = colour(grey, stream(0, "colour"))
    factors, shifts = [], []
    for own, result in zip(grey, after, strict=True):
        factor, _ = np.polyfit(own.flatten().numpy(), result.flatten().numpy(), 1)
        factors.append(factor)
        shifts.append(float(result.mean() - own.mean()))  # contrast keeps the mean
    assert 0.5 <= min(factors) < 0.55
    assert 1.45 < max(factors) <= 1.5
    assert -0.5 <= min(shifts) < -0.45
    assert 0.45 < max(shifts) <= 0.5
    spread = [float((x - x.mean(0)).std()) for x in colour(images(), stream(0, "colour"))]
    plain = [float((x - x.mean(0)).std()) for x in images()]
    ratios = np.array(spread) / np.array(plain) / np.array(factors)
    assert ratios.min() < 0.1
    assert 1.9 < ratios.max() <= 2.001


def test_rotation_is_that_of_scipy_by_at_most_fifteen_degrees() -> None:
    smooth = scipy.ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(33, 33)), 3)
    before = torch.tensor(smooth, dtype=torch.float32).expand(60, 1, 33, 33)
    after = rotate(before, stream(0, "rotate"))
    u = torch.rand(60, generator=stream(0, "rotate"))
    angles = 30 * (u - 0.5)
    for angle, result in zip(angles.tolist(), after, strict=True):
        wanted = scipy.ndimage.rotate(smooth, angle, reshape=False, order=1)
        middle = slice(8, 25)
        error = np.abs(result[0, middle, middle].numpy() - wanted[middle, middle]).max()
        assert error < 0.02 * np.abs(smooth).max()
    assert float(angles.abs().max()) <= 15


def test_scale_stretches_both_sides_on_their_own() -> None:
    """A ramp from -1 to 1 becomes one from -s to s with s from 1/1.2 to 1.2."""
    side = 64
    ramp = torch.linspace(-1 + 1 / side, 1 - 1 / side, side)
    across = ramp.expand(200, 1, side, side)
    slopes = []
    for picture in (across, across.transpose(2, 3)):
        middle = scale(picture, stream(0, "scale"))[:, 0, 24:40, 24:40]
        step = middle.diff(dim=2) if picture is across else middle.diff(dim=1)
        slopes.append(step.mean((1, 2)) / float(ramp.diff()[0]))
    for found in slopes:
        assert 1 / 1.2 - 1e-3 <= float(found.min()) < 0.86
        assert 1.17 < float(found.max()) <= 1.2 + 1e-3
    assert abs(float(torch.corrcoef(torch.stack(slopes))[0, 1])) < 0.2


def test_scale_is_the_affine_sampling_of_the_published_code() -> None:
    before, generator = images(50), stream(0, "scale")
    factors = 1 / 1.2 + (1.2 - 1 / 1.2) * torch.rand(50, 2, generator=generator)
    theta = torch.nn.functional.pad(torch.diag_embed(factors), (0, 1))
    grid = torch.nn.functional.affine_grid(theta, [*before.shape], align_corners=False)
    wanted = torch.nn.functional.grid_sample(before, grid, align_corners=False)
    torch.testing.assert_close(scale(before, stream(0, "scale")), wanted, atol=1e-4, rtol=1e-4)


def test_a_shared_operation_is_one_function_of_each_image() -> None:
    before, found = images(6), []
    for seed in range(40):
        after = shared_operation(before, seed)
        alone = torch.cat([shared_operation(image[None], seed) for image in before])
        torch.testing.assert_close(after, alone)
        assert torch.equal(after, shared_operation(before, seed))
        found.append(after)
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(found[:6], 2))


def test_one_operation_is_drawn_in_each_step() -> None:
    before = images(4)
    drawn = dict.fromkeys(("colour", "crop", "cutout", "flip", "scale", "rotate"), 0)
    for seed in range(300):
        after = dsa(before, stream(seed, "step"))
        generator = stream(seed, "step")
        chosen = OPERATIONS[int(torch.randint(0, 6, (), generator=generator))]
        assert torch.equal(after, chosen(before, generator))
        drawn[chosen.__name__] += 1
    assert min(drawn.values()) > 300 / 6 - 4 * math.sqrt(300 * 5 / 36)


def test_digits_are_not_flipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "flip", None)
    monkeypatch.setattr(module, "OPERATIONS", (colour, crop, cutout, None, scale, rotate))
    for seed in range(30):
        dsa(images(2), stream(seed, "step"), flips=False)
        dsa_idc(images(2), stream(seed, "step"), flips=False)


def test_idc_always_changes_colours_and_never_cuts_out() -> None:
    before = images(64)
    for seed in range(12):
        after = dsa_idc(before, stream(seed, "step"))
        assert not any(torch.equal(a, b) for a, b in zip(after, before, strict=True))
        inner = after[:, :, 4:12, 4:12]  # no shift, stretch or turn brings the border here
        assert bool((inner != 0).all())
