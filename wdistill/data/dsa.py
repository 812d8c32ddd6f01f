"""DSA: the augmentation of the field's judges (Zhao and Bilen 2021, arXiv 2102.08259).

All operations act on normalised images, (B, C, H, W), so that what lies beyond the border, and what
is cut out, is the mean colour. Each image draws its own parameters, which is what the published
code does when it judges; in distillation they are shared by all images (section 3.2 of the paper).
Ranges are those of ``ParamDiffAug`` in github.com/VICO-UoE/DatasetCondensation.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from wdistill.core.machine.transfer import to_device
from wdistill.core.seeds import stream

BRIGHTNESS = 1.0  # width of the interval of what is added
SATURATION = 2.0  # largest factor of the distance to grey
CONTRAST = 0.5  # smallest factor of the distance to the image's mean; the largest is 1 more
CROP = 0.125  # largest shift, as a share of the side
CUTOUT = 0.5  # side of the square, as a share of the image's
SCALE = 1.2  # largest factor of a side; the smallest is its inverse
ROTATION = 15.0  # degrees


class Operation(Protocol):
    """Images (B, C, H, W) in, the same shape out. Each image has its own parameters, or all share
    one draw.
    """

    def __call__(self, images: Tensor, generator: Generator, shared: bool = False) -> Tensor: ...


def _draws(images: Tensor, shared: bool) -> int:
    return 1 if shared else len(images)


def _uniform(images: Tensor, generator: Generator, shared: bool) -> Tensor:
    """(B, 1, 1, 1) in [0, 1), one for each image, or (1, 1, 1, 1)."""
    draws = torch.rand(_draws(images, shared), 1, 1, 1, generator=generator)
    return to_device(draws, images.device)


def colour(images: Tensor, generator: Generator, shared: bool = False) -> Tensor:
    """Brightness, then saturation, then contrast.

    x + u - 1/2; g + 2 u (x - g) with g the mean over the channels of a pixel; then
    m + (u + 1/2)(x - m) with m the mean of the image; each u is uniform in [0, 1).
    """
    images = images + (_uniform(images, generator, shared) - 0.5) * BRIGHTNESS
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * _uniform(images, generator, shared) * SATURATION
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (_uniform(images, generator, shared) + CONTRAST)


def crop(images: Tensor, generator: Generator, shared: bool = False) -> Tensor:
    """Shift by up to an eighth of the side, up or down and left or right, filled with zeros."""
    height, width = images.shape[-2:]
    most = [int(side * CROP + 0.5) for side in (height, width)]
    rows, columns = (
        _shifted(_draws(images, shared), side, shift, generator, images)
        for side, shift in zip((height, width), most, strict=True)
    )
    return rows[:, None] @ images @ columns[:, None].transpose(2, 3)


def _shifted(draws: int, side: int, most: int, generator: Generator, like: Tensor) -> Tensor:
    """(draws, side, side) matrices that shift a line of pixels by a whole number."""
    shift = torch.randint(-most, most + 1, (draws, 1, 1), generator=generator)
    place = torch.arange(side)
    return to_device((place[:, None] + shift == place).to(like.dtype), like.device)


def cutout(images: Tensor, generator: Generator, shared: bool = False) -> Tensor:
    """A square of half the side around any pixel becomes zero; parts beyond the border are lost."""
    masks = []
    for side in images.shape[-2:]:
        length = int(side * CUTOUT + 0.5)
        centres = (_draws(images, shared), 1)
        centre = torch.randint(0, side + 1 - length % 2, centres, generator=generator)
        first = centre - length // 2
        place = torch.arange(side)
        masks.append((place >= first) & (place < first + length))
    inside = masks[0][:, :, None] & masks[1][:, None, :]
    return images * to_device((~inside)[:, None].to(images.dtype), images.device)


def flip(images: Tensor, generator: Generator, shared: bool = False) -> Tensor:
    """Left and right are exchanged with probability 1/2."""
    return torch.where(_uniform(images, generator, shared) < 0.5, images.flip(3), images)


def scale(images: Tensor, generator: Generator, shared: bool = False) -> Tensor:
    """Both sides are stretched by factors of their own, uniform in [1/1.2, 1.2] as the sampling
    grid's, so that 1.2 makes the picture smaller; bilinear, zeros beyond the border.
    """
    u = torch.rand(_draws(images, shared), 2, generator=generator)
    across, down = (1 / SCALE + (SCALE - 1 / SCALE) * u).unbind(1)
    height, width = images.shape[-2:]
    rows, columns = _stretched(down, height, images), _stretched(across, width, images)
    return rows[:, None] @ images @ columns[:, None].transpose(2, 3)


def _stretched(factors: Tensor, side: int, like: Tensor) -> Tensor:
    """(draws, side, side) matrices that stretch a line of pixels around its middle; bilinear.

    Matrix products, because the gradient of ``grid_sample`` is not deterministic on a GPU.
    """
    middle = (side - 1) / 2
    place = torch.arange(side)
    source = factors[:, None, None] * (place[:, None] - middle) + middle
    weights = (1 - (source - place).abs()).clamp(min=0)
    return to_device(weights.to(like.dtype), like.device)


def rotate(images: Tensor, generator: Generator, shared: bool = False) -> Tensor:
    """By an angle uniform in [-15, 15] degrees around the middle; bilinear, zeros beyond."""
    u = torch.rand(_draws(images, shared), generator=generator)
    angle = (2 * u - 1) * math.radians(ROTATION)
    cosine, sine = angle.cos(), angle.sin()
    matrix = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)
    theta = to_device(F.pad(matrix, (0, 1)).to(images.dtype), images.device)
    theta = theta.expand(len(images), -1, -1)
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


def shared_operation(images: Tensor, seed: int) -> Tensor:
    """An operation with parameters that all images share, both drawn by ``seed``: the same function
    of an image wherever it stands, so that real and synthetic images can be compared.

    Not a rotation, whose gradient is not deterministic on a GPU.
    """
    generator = stream(seed, "dsa")
    operations: tuple[Operation, ...] = (colour, crop, cutout, flip, scale)
    chosen = int(torch.randint(0, len(operations), (), generator=generator))
    return operations[chosen](images, generator, shared=True)


def dsa_idc(images: Tensor, generator: Generator, flips: bool = True) -> Tensor:
    """Flip and colour always, then one of crop, scale and rotate; no cutout beside CutMix.

    As augment.py of github.com/snu-mllab/Efficient-Dataset-Condensation does (Kim et al. 2022).
    """
    if flips:
        images = flip(images, generator)
    images = colour(images, generator)
    operations = (crop, scale, rotate)
    return operations[int(torch.randint(0, 3, (), generator=generator))](images, generator)
