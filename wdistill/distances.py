"""How close distilled images are to real ones."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor


def nearest_real_rmse(pixels: Tensor, real: Iterable[Tensor], device: torch.device) -> Tensor:
    """min_i RMSE(s_j, real_i) of every distilled image s_j, (n,) float32; pixels in [0, 1].

    pixels: (n, 3, R, R) uint8; real: batches of uint8 images of the same class.
    """
    ours = pixels.to(device).flatten(1).float() / 255
    best = torch.full((len(ours),), math.inf, device=device)
    for batch in real:
        theirs = batch.to(device).flatten(1).float() / 255
        # The product form is fast but inexact near zero: it chooses, the difference measures.
        chosen = torch.cdist(ours, theirs).argmin(1)
        best = torch.minimum(best, (ours - theirs[chosen]).norm(dim=1))
    return best.cpu() / math.sqrt(ours.shape[1])
