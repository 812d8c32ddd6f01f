"""How close distilled images are to real ones."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor

from wdistill.splitting import Capacity


def nearest_real(
    pixels: Tensor, real: Iterable[Tensor], device: torch.device
) -> tuple[Tensor, Tensor]:
    """argmin_i and min_i RMSE(s_j, real_i) of every distilled image s_j; pixels in [0, 1].

    pixels: (n, 3, R, R) uint8; real: batches of uint8 images of the same class. Returns positions
    among the real images, (n,) int64, and distances, (n,) float32.
    """
    ours = pixels.to(device).flatten(1).float() / 255
    best = torch.full((len(ours),), math.inf, device=device)
    where, seen = torch.zeros(len(ours), dtype=torch.int64, device=device), 0
    capacity = Capacity()
    for batch in real:
        for chosen, distance, count in capacity.map(partial(_nearest, ours), batch):
            where = torch.where(distance < best, chosen + seen, where)
            best = torch.minimum(best, distance)
            seen += count
    return where.cpu(), best.cpu() / math.sqrt(ours.shape[1])


def _nearest(ours: Tensor, batch: Tensor) -> tuple[Tensor, Tensor, int]:
    theirs = batch.to(ours.device).flatten(1).float() / 255
    # The product form is fast but inexact near zero: it chooses, the difference measures.
    chosen = torch.cdist(ours, theirs).argmin(1)
    return chosen, (ours - theirs[chosen]).norm(dim=1), len(batch)
