"""Images that are stored as tiles of one, and the decoder of them (IDC's multi-formation)."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F


def decoded(images: Tensor, side: int) -> Tensor:
    """(n side^2, C, H, W): the tiles of each image, enlarged to its size, image by image.

    Kim et al. 2022, section 4.1: an image is a grid of ``side`` x ``side`` tiles of ceil(H / side)
    pixels (a border of 1/2 fills what is missing), each enlarged bilinearly.
    """
    size = images.shape[-1]
    tile = math.ceil(size / side)
    missing = tile * side - size
    padded = F.pad(images, (0, missing, 0, missing), value=0.5)
    tiles = padded.unfold(2, tile, tile).unfold(3, tile, tile)  # n, C, side, side, tile, tile
    flat = tiles.permute(0, 2, 3, 1, 4, 5).reshape(-1, images.shape[1], tile, tile)
    return F.interpolate(flat, size=(size, size), mode="bilinear", align_corners=False)
