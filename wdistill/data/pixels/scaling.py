"""What of an image a network sees, as square uint8 pixels, and as numbers from 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wdistill.core.machine.transfer import to_device

LONGEST = 16  # times the shorter side; only the middle of longer images is scaled


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's input.

    resolution: pixels of a side of the square result
    resize:     length of the shorter side before the centre crop; 0: both sides go straight to
                ``resolution``, whatever the aspect ratio
    mean, std:  per channel, for pixels in [0, 1]
    resample:   PIL's filter code
    warp:       both sides go to ``resize`` before the centre crop, whatever the aspect ratio
    """

    resolution: int
    resize: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resample: int = int(Image.Resampling.BILINEAR)
    warp: bool = False

    @property
    def geometry(self) -> tuple[int, int, int, bool]:
        """What the pixels depend on: all but the normalisation."""
        return self.resolution, self.resize, self.resample, self.warp

    def scaled(self, image: Image.Image) -> Image.Image:
        """An RGB image whose centre is what the network sees. Scaled again it stays as it is."""
        size = self.resolution
        if image.size == (size, size) and self.resize <= size:
            return image
        side = self.resize if self.warp else size
        sides = (side, side)
        if self.resize and not self.warp:
            image = _middle(image)
            short = min(image.size)  # the longer side is cut, not rounded, as processors do
            width, height = (max(size, self.resize * side // short) for side in image.size)
            sides = (width, height)
        return image.resize(sides, Image.Resampling(self.resample))

    def seen(self, image: Image.Image) -> Image.Image:
        """What the network sees of an RGB image, R pixels on a side."""
        size, image = self.resolution, self.scaled(image)
        left, top = ((side - size) // 2 for side in image.size)
        return image.crop((left, top, left + size, top + size))

    def __call__(self, image: Image.Image) -> Tensor:
        """(3, R, R) uint8 pixels of an RGB image."""
        levels = np.array(self.seen(image), dtype=np.uint8)
        return torch.from_numpy(levels).permute(2, 0, 1).contiguous()


def _middle(image: Image.Image) -> Image.Image:
    """What can be seen of an image that is far longer than it is wide, scaled by its shorter side:
    without the ends, whose scaled pixels might take gigabytes. Others stay as they are.
    """
    keep = LONGEST * min(image.size)
    left, top = (max(0, side - keep) // 2 for side in image.size)  # as much as on the other end
    if not left and not top:
        return image
    return image.crop((left, top, image.width - left, image.height - top))


def to_float(pixels: Tensor, device: torch.device) -> Tensor:
    """uint8 pixels to float32 in [0, 1] on ``device``."""
    return to_device(pixels, device).contiguous().float().div_(255)


def to_uint8(pixels: Tensor) -> Tensor:
    """Float pixels in [0, 1] to the nearest uint8."""
    return pixels.detach().clamp(0, 1).mul(255).round().to(torch.uint8)
