"""DSA: the augmentation of the field's judges (Zhao and Bilen 2021, arXiv 2102.08259).

All operations act on normalised images, (B, C, H, W), so that what lies beyond the border, and what
is cut out, is the mean colour. Each image draws its own parameters, which is what the published
code does when it judges: only in distillation are they shared. Ranges are those of ``ParamDiffAug``
in github.com/VICO-UoE/DatasetCondensation.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from wdistill.core.machine.transfer import to_device

BRIGHTNESS = 1.0  # width of the interval of what is added
SATURATION = 2.0  # largest factor of the distance to grey
CONTRAST = 0.5  # smallest factor of the distance to the image's mean; the largest is 1 more
CROP = 0.125  # largest shift, as a share of the side
CUTOUT = 0.5  # side of the square, as a share of the image's
SCALE = 1.2  # largest factor of a side; the smallest is its inverse
ROTATION = 15.0  # degrees
Operation = Callable[[Tensor, Generator], Tensor]


def _uniform(images: Tensor, generator: Generator) -> Tensor:
    """(B, 1, 1, 1) in [0, 1), one for each image."""
    return to_device(torch.rand(len(images), 1, 1, 1, generator=generator), images.device)


def colour(images: Tensor, generator: Generator) -> Tensor:
    """Brightness, then saturation, then contrast.

    x + u - 1/2; g + 2 u (x - g) with g the mean over the channels of a pixel; then
    m + (u + 1/2)(x - m) with m the mean of the image; each u is uniform in [0, 1).
    """
    images = images + (_uniform(images, generator) - 0.5) * BRIGHTNESS
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * _uniform(images, generator) * SATURATION
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (_uniform(images, generator) + CONTRAST)


def crop(images: Tensor, generator: Generator) -> Tensor:
    """Shift by up to an eighth of the side, up or down and left or right, filled with zeros."""
    height, width = images.shape[-2:]
    most = [int(side * CROP + 0.5) for side in (height, width)]
    rows, columns = (
        _shifted(len(images), side, shift, generator, images)
        for side, shift in zip((height, width), most, strict=True)
    )
    return rows[:, None] @ images @ columns[:, None].transpose(2, 3)


def _shifted(count: int, side: int, most: int, generator: Generator, like: Tensor) -> Tensor:
    """(B, side, side) matrices that shift a line of pixels by a whole number."""
    shift = torch.randint(-most, most + 1, (count, 1, 1), generator=generator)
    place = torch.arange(side)
    return to_device((place[:, None] + shift == place).to(like.dtype), like.device)


def cutout(images: Tensor, generator: Generator) -> Tensor:
    """A square of half the side around any pixel becomes zero; parts beyond the border are lost."""
    masks = []
    for side in images.shape[-2:]:
        length = int(side * CUTOUT + 0.5)
        centre = torch.randint(0, side + 1 - length % 2, (len(images), 1), generator=generator)
        first = centre - length // 2
        place = torch.arange(side)
        masks.append((place >= first) & (place < first + length))
    inside = masks[0][:, :, None] & masks[1][:, None, :]
    return images * to_device((~inside)[:, None].to(images.dtype), images.device)


def flip(images: Tensor, generator: Generator) -> Tensor:
    """Left and right are exchanged with probability 1/2."""
    return torch.where(_uniform(images, generator) < 0.5, images.flip(3), images)


def scale(images: Tensor, generator: Generator) -> Tensor:
    """Both sides are stretched by factors of their own, uniform in [1/1.2, 1.2] as the sampling
    grid's, so that 1.2 makes the picture smaller; bilinear, zeros beyond the border.
    """
    u = torch.rand(len(images), 2, generator=generator)
    factors = 1 / SCALE + (SCALE - 1 / SCALE) * u
    return _transformed(images, torch.diag_embed(factors))


def rotate(images: Tensor, generator: Generator) -> Tensor:
    """By an angle uniform in [-15, 15] degrees around the middle; bilinear, zeros beyond."""
    angle = (2 * torch.rand(len(images), generator=generator) - 1) * math.radians(ROTATION)
    cosine, sine = angle.cos(), angle.sin()
    matrix = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)
    return _transformed(images, matrix)


def _transformed(images: Tensor, matrix: Tensor) -> Tensor:
    """The image at ``matrix`` times each place; (B, 2, 2), places from -1 to 1 as (x, y)."""
    theta = to_device(F.pad(matrix, (0, 1)).to(images.dtype), images.device)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


OPERATIONS: tuple[Operation, ...] = (colour, crop, cutout, flip, scale, rotate)


def dsa(images: Tensor, generator: Generator, flips: bool = True) -> Tensor:
    """One of colour, crop, cutout, flip, scale and rotate for the whole batch, drawn in each step.

    Mode 'S' of the code. Datasets of digits are not flipped (``flips``).
    """
    operations = [operation for operation in OPERATIONS if flips or operation is not flip]
    chosen = int(torch.randint(0, len(operations), (), generator=generator))
    return operations[chosen](images, generator)


def dsa_idc(images: Tensor, generator: Generator, flips: bool = True) -> Tensor:
    """Flip and colour always, then one of crop, scale and rotate; no cutout beside CutMix.

    As augment.py of github.com/snu-mllab/Efficient-Dataset-Condensation does (Kim et al. 2022).
    """
    if flips:
        images = flip(images, generator)
    images = colour(images, generator)
    operations = (crop, scale, rotate)
    return operations[int(torch.randint(0, 3, (), generator=generator))](images, generator)
