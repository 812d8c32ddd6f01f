"""How close distilled images are to real ones."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor


def nearest_real_rmse(pixels: Tensor, real: Iterable[Tensor]) -> float:
    """Mean over the distilled images of  min_i RMSE(s_j, real_i),  pixels in [0, 1].

    pixels: (n, 3, R, R) uint8; real: batches of uint8 images of the same class.
    """
    ours = pixels.flatten(1).float() / 255
    best = torch.full((len(ours),), math.inf)
    for batch in real:
        distance = torch.cdist(
            ours, batch.flatten(1).float() / 255, compute_mode="donot_use_mm_for_euclid_dist"
        )
        best = torch.minimum(best, distance.min(1).values)
    return float(best.mean()) / math.sqrt(ours.shape[1])
