"""Views mean what their numbers say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wdistill.core.seeds import stream
from wdistill.data.augment import (
    Mix,
    Views,
    apply_mix,
    apply_views,
    concatenate,
    mix_targets,
    random_mix,
    random_views,
)

FULL = (0.0, 0.0, 1.0, 1.0)


def images(count: int = 4, size: int = 8, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(count, 3, size, size, generator=stream(0, "images"), dtype=dtype)


def same_view(count: int, box: tuple[float, ...] = FULL, flip: bool = False) -> Views:
    return Views(torch.tensor([box] * count), torch.full((count,), flip))


# --- applying views -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 8, 28, 33, 224])
def test_the_full_box_is_the_identity(size: int) -> None:
    x = images(2, size)
    torch.testing.assert_close(apply_views(x, same_view(2)), x, atol=3e-5, rtol=0)


def test_the_flip_mirrors_columns() -> None:
    x = images()
    flipped = apply_views(x, same_view(4, flip=True))
    torch.testing.assert_close(flipped, x.flip(3), atol=1e-6, rtol=0)


def test_each_image_has_its_own_view() -> None:
    x = images(2)
    views = concatenate([same_view(1, flip=True), same_view(1, (0.0, 0.5, 0.5, 0.5))])
    both = apply_views(x, views)
    torch.testing.assert_close(both[0], x[0].flip(2), atol=1e-6, rtol=0)
    alone = apply_views(x[1:], same_view(1, (0.0, 0.5, 0.5, 0.5)))
    torch.testing.assert_close(both[1:], alone)
    assert len(views) == 2


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("top", "left"), [(0, 0), (8, 8), (3, 5), (1, 8)])
def test_half_crop_is_bilinear_upscaling(top: int, left: int, flip: bool) -> None:
    """Inside, where a crop that was cut out first sees the same neighbours."""
    x = images(2, 16)
    box = (top / 16, left / 16, 0.5, 0.5)
    ours = apply_views(x, same_view(2, box, flip))
    cut = x[:, :, top : top + 8, left : left + 8]
    theirs = F.interpolate(cut, scale_factor=2, mode="bilinear", align_corners=False)
    theirs = theirs.flip(3) if flip else theirs
    torch.testing.assert_close(ours[..., 1:-1, 1:-1], theirs[..., 1:-1, 1:-1], atol=1e-5, rtol=0)


def test_a_crop_at_the_corner_repeats_the_border() -> None:
    x = images(1, 16)
    ours = apply_views(x, same_view(1, (0.0, 0.0, 0.5, 0.5)))
    torch.testing.assert_close(ours[0, :, 0, 0], x[0, :, 0, 0], atol=1e-6, rtol=0)


def test_box_is_top_left_height_width() -> None:
    """The brightness of a ramp names the place that it was taken from."""
    ramp = (torch.arange(32) + 0.5) / 32
    rows, columns = ramp[:, None].expand(32, 32), ramp[None, :].expand(32, 32)
    x = torch.stack([rows, columns, torch.zeros(32, 32)])[None]
    view = apply_views(x, same_view(1, (0.25, 0.5, 0.5, 0.25)))[0]
    assert view[0].mean() == pytest.approx(0.25 + 0.5 / 2, abs=1e-4)
    assert view[1].mean() == pytest.approx(0.5 + 0.25 / 2, abs=1e-4)
    assert (view[0, -1] - view[0, 0]).mean() == pytest.approx(0.5 * 31 / 32, abs=1e-4)
    assert (view[1, :, -1] - view[1, :, 0]).mean() == pytest.approx(0.25 * 31 / 32, abs=1e-4)


def test_constant_images_stay_constant() -> None:
    x = torch.tensor([0.0, 0.3, 1.0]).view(1, 3, 1, 1).expand(200, 3, 13, 13)
    views = random_views(200, 0.08, stream(1, "views"))
    torch.testing.assert_close(apply_views(x, views), x, atol=1e-6, rtol=0)


def test_without_flips_nothing_else_changes() -> None:
    views = random_views(200, 0.08, stream(1, "views"), 0.5)
    upright = random_views(200, 0.08, stream(1, "views"), 0.5, flips=False)
    assert torch.equal(views.box, upright.box)
    assert 70 < int(views.flip.sum()) < 130
    assert not upright.flip.any()


def test_views_stay_in_the_range_of_the_pixels() -> None:
    x = images(100, 9)
    out = apply_views(x, random_views(100, 0.08, stream(1, "views")))
    assert x.min() - 1e-6 <= out.min()
    assert out.max() <= x.max() + 1e-6


def test_views_are_linear() -> None:
    x, y = images(4), images(4).flip(0)
    views = random_views(4, 0.3, stream(1, "views"))
    torch.testing.assert_close(
        apply_views(2 * x - 0.5 * y, views),
        2 * apply_views(x, views) - 0.5 * apply_views(y, views),
        atol=1e-5,
        rtol=0,
    )


def test_gradient() -> None:
    x = images(3, 5, torch.float64).requires_grad_()
    views = random_views(3, 0.2, stream(1, "views"))
    assert torch.autograd.gradcheck(lambda pixels: apply_views(pixels, views), x)


# --- drawing views ------------------------------------------------------------------------------


@pytest.mark.parametrize("crop_min", [0.08, 0.4, 0.9, 1.0])
def test_area_is_uniform_in_its_range(crop_min: float) -> None:
    box = random_views(20_000, crop_min, stream(2, "views")).box.double()
    area = box[:, 2] * box[:, 3]
    assert area.min() >= crop_min - 1e-6
    assert area.max() <= 1 + 1e-6
    assert area.mean() == pytest.approx((1 + crop_min) / 2, abs=0.01)
    shares = torch.histc(area, 4, crop_min, 1) / len(area) if crop_min < 1 else torch.ones(4) / 4
    torch.testing.assert_close(shares, torch.full_like(shares, 0.25), atol=0.02, rtol=0)


@pytest.mark.parametrize("crop_min", [0.08, 0.4, 1.0])
def test_boxes_lie_inside_with_moderate_aspect(crop_min: float) -> None:
    top, left, height, width = random_views(20_000, crop_min, stream(2, "views")).box.T.double()
    for start, length in ((top, height), (left, width)):
        assert start.min() >= 0
        assert length.min() > 0
        assert (start + length).max() <= 1 + 1e-6
    ratio = (width / height).log()
    assert ratio.abs().max() <= math.log(4 / 3) + 1e-5
    assert ratio.mean() == pytest.approx(0, abs=0.01)  # as often wide as tall
    free = (1 - height) > 0.05
    if free.any():
        place = (top / (1 - height))[free]
        assert place.mean() == pytest.approx(0.5, abs=0.02)
        assert place.std() == pytest.approx(12**-0.5, abs=0.02)


def test_a_share_of_the_views_is_whole_and_the_others_are_as_before() -> None:
    mixed = random_views(20_000, 0.2, stream(2, "views"), whole=0.3)
    crops = random_views(20_000, 0.2, stream(2, "views"))
    whole = (mixed.box == torch.tensor([0.0, 0.0, 1.0, 1.0])).all(1)
    assert whole.float().mean() == pytest.approx(0.3, abs=0.015)
    assert torch.equal(mixed.box[~whole], crops.box[~whole])
    assert torch.equal(mixed.flip, crops.flip)


def test_crop_min_one_shows_the_whole_image() -> None:
    x = images(50)
    views = random_views(50, 1.0, stream(2, "views"))
    flip = views.flip[:, None, None, None]
    torch.testing.assert_close(
        apply_views(x, views), torch.where(flip, x.flip(3), x), atol=1e-5, rtol=0
    )


def test_half_of_the_views_are_flipped() -> None:
    flip = random_views(20_000, 0.4, stream(2, "views")).flip
    assert flip.dtype == torch.bool
    assert flip.float().mean() == pytest.approx(0.5, abs=0.02)


def test_views_depend_on_their_stream_alone() -> None:
    torch.manual_seed(1)
    first = random_views(10, 0.4, stream(2, "views"))
    torch.manual_seed(2)
    second = random_views(10, 0.4, stream(2, "views"))
    other = random_views(10, 0.4, stream(3, "views"))
    assert torch.equal(first.box, second.box)
    assert torch.equal(first.flip, second.flip)
    assert not torch.equal(first.box, other.box)


# --- CutMix -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_cutmix_pastes_the_partner_and_counts_what_is_left(seed: int) -> None:
    x = images(6, 11)
    before = x.clone()
    mix = random_mix(6, 11, stream(seed, "mix"))
    mixed = apply_mix(x, mix)
    assert torch.equal(x, before)
    assert sorted(mix.partner.tolist()) == list(range(6))
    top, left, bottom, right = mix.box
    inside = torch.zeros(11, 11, dtype=torch.bool)
    inside[top:bottom, left:right] = True
    assert torch.equal(mixed, torch.where(inside, x[mix.partner], x))
    assert mix.kept == pytest.approx(1 - float(inside.double().mean()))


def test_cutmix_boxes_are_squares_cut_by_the_border_of_every_size() -> None:
    generator = stream(0, "mix")
    mixes = [random_mix(2, 32, generator) for _ in range(2000)]
    kept = torch.tensor([mix.kept for mix in mixes])
    assert kept.min() >= 0
    assert kept.max() <= 1
    assert kept.min() < 0.2
    assert kept.max() > 0.98
    for top, left, bottom, right in (mix.box for mix in mixes):
        assert 0 <= top <= bottom <= 32
        assert 0 <= left <= right <= 32
        if top > 0 and bottom < 32 and left > 0 and right < 32:
            assert abs((bottom - top) - (right - left)) <= 1


def test_targets_are_mixed_by_area() -> None:
    mix = Mix(torch.tensor([1, 2, 0]), (0, 0, 2, 2), kept=0.75)
    targets = torch.eye(3)
    expected = torch.tensor([[0.75, 0.25, 0], [0, 0.75, 0.25], [0.25, 0, 0.75]])
    torch.testing.assert_close(mix_targets(targets, mix), expected)
    other = torch.rand(3, 3, generator=stream(0, "targets")).softmax(1)
    torch.testing.assert_close(mix_targets(other, mix).sum(1), torch.ones(3))
    torch.testing.assert_close(
        mix_targets(targets + 2 * other, mix),
        mix_targets(targets, mix) + 2 * mix_targets(other, mix),
    )


def test_mixed_targets_are_the_share_of_each_class_in_the_picture() -> None:
    """An image of class c has the constant value c in channel c: its mean is the target."""
    x = torch.zeros(3, 3, 10, 10)
    for c in range(3):
        x[c, c] = 1
    for seed in range(20):
        mix = random_mix(3, 10, stream(seed, "mix"))
        shares = apply_mix(x, mix).mean((2, 3))
        torch.testing.assert_close(shares, mix_targets(torch.eye(3), mix), atol=1e-6, rtol=0)
