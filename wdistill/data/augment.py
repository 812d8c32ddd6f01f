"""Batched, seeded, replayable views of images: crop, flip, CutMix.

A crop followed by a resize is linear and separable, so a view of image s is  A_y s A_x^T  with one
small matrix per image and axis. Matrix products are deterministic and differentiable on every
device, which ``grid_sample``'s backward pass on CUDA is not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wdistill.core.machine.transfer import to_device


@dataclass(frozen=True)
class Views:
    """One view per image.

    box:  (B, 4) float32, (top, left, height, width) as shares of the image side, in [0, 1]
    flip: (B,) bool, horizontal flip after the crop
    """

    box: Tensor
    flip: Tensor

    def __len__(self) -> int:
        return len(self.flip)

    def part(self, rows: slice) -> Views:
        return Views(self.box[rows], self.flip[rows])

    def to(self, device: torch.device) -> Views:
        return Views(to_device(self.box, device), to_device(self.flip, device))


def random_views(
    count: int,
    crop_min: float,
    generator: torch.Generator,
    whole: float = 0.0,
    flips: bool = True,
) -> Views:
    """Random resized crops and flips as in Szegedy et al. 2015 (torchvision's defaults).

    Area share uniform in [crop_min, 1]; aspect ratio log-uniform in [3/4, 4/3], or in the part of
    it that fits into the image; position uniform; flip with probability 1/2, or never without
    ``flips``. With probability ``whole`` a view shows the whole image instead.
    """
    u = torch.rand(count, 5, generator=generator)
    area = crop_min + (1 - crop_min) * u[:, 0]
    ratio = torch.exp((2 * u[:, 1] - 1) * (-area.log()).clamp(max=math.log(4 / 3)))
    height = (area / ratio).sqrt().clamp(max=1)
    width = (area * ratio).sqrt().clamp(max=1)
    box = torch.stack([u[:, 2] * (1 - height), u[:, 3] * (1 - width), height, width], dim=1)
    if whole > 0:
        uncut = torch.rand(count, generator=generator) < whole
        box = torch.where(uncut[:, None], torch.tensor([0.0, 0.0, 1.0, 1.0]), box)
    return Views(box, (u[:, 4] < 0.5) & flips)


def concatenate(views: list[Views]) -> Views:
    return Views(torch.cat([v.box for v in views]), torch.cat([v.flip for v in views]))


def _resampling(start: Tensor, length: Tensor, flip: Tensor, size: int) -> Tensor:
    """(B, size, size) matrices that map a line of pixels to its cropped and resized line.

    Bilinear; rows sum to 1. Crops only enlarge, so there is nothing to antialias.
    """
    centre = (torch.arange(size, device=start.device, dtype=start.dtype) + 0.5) / size
    position = torch.where(flip[:, None], 1 - centre, centre)
    source = (start[:, None] + length[:, None] * position) * size
    # Beyond the border the edge pixel repeats, as with clamped bilinear sampling.
    source = source.clamp(0.5, size - 0.5)
    pixel = torch.arange(size, device=start.device, dtype=start.dtype) + 0.5
    matrix = (1 - (source[:, :, None] - pixel).abs()).clamp(min=0)
    return matrix / matrix.sum(dim=2, keepdim=True)


def apply_views(images: Tensor, views: Views) -> Tensor:
    """Crop, resize back and flip. images: (B, C, R, R) float, square; returns the same shape."""
    size, views = images.shape[-1], views.to(images.device)
    box, flip = views.box.to(images.dtype), views.flip
    rows = _resampling(box[:, 0], box[:, 2], torch.zeros_like(flip), size)
    columns = _resampling(box[:, 1], box[:, 3], flip, size)
    return rows[:, None] @ images @ columns.transpose(1, 2)[:, None]


@dataclass(frozen=True)
class Mix:
    """CutMix of one batch (Yun et al. 2019): a box of every image comes from its partner.

    partner: (B,) int64 permutation; box: (top, left, bottom, right) in pixels; kept: share of the
    image that stays.
    """

    partner: Tensor
    box: tuple[int, int, int, int]
    kept: float


def random_mix(count: int, size: int, generator: torch.Generator) -> Mix:
    """A box of uniform area share, i.e. 1 - Beta(1, 1); one box per batch, as in the paper."""
    share, y, x = torch.rand(3, generator=generator).tolist()
    half = size * math.sqrt(share) / 2
    top, bottom = (min(max(round(y * size + sign * half), 0), size) for sign in (-1, 1))
    left, right = (min(max(round(x * size + sign * half), 0), size) for sign in (-1, 1))
    kept = 1 - (bottom - top) * (right - left) / size**2
    return Mix(torch.randperm(count, generator=generator), (top, left, bottom, right), kept)


def apply_mix(images: Tensor, mix: Mix) -> Tensor:
    """Paste the partner's box. images: (B, C, R, R); returns a new tensor."""
    top, left, bottom, right = mix.box
    mixed = images.clone()
    partner = to_device(mix.partner, images.device)
    mixed[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
    return mixed


def mix_targets(targets: Tensor, mix: Mix) -> Tensor:
    """Targets (B, ...) of a mixed batch: kept * own + (1 - kept) * partner's."""
    partner = to_device(mix.partner, targets.device)
    return mix.kept * targets + (1 - mix.kept) * targets[partner]
