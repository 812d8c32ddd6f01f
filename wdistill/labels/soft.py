"""Soft labels from the teacher."""

from __future__ import annotations

import torch
from torch import Tensor

from wdistill.config import RelabelConfig
from wdistill.data.augment import apply_views, random_views
from wdistill.data.pixels import to_float
from wdistill.errors import NumericalError
from wdistill.networks.features import FeatureNetwork

BATCH = 128  # images at once


@torch.no_grad()
def soft_labels(
    network: FeatureNetwork, pixels: Tensor, config: RelabelConfig, generator: torch.Generator
) -> Tensor:
    """One averaged teacher vector per image:  p_j = softmax( 1/V sum_v z(a_v(s_j)) ).

    z are the teacher's logits and a_v random crops and flips. Because p is at temperature 1, a
    student recovers the mean logits up to a constant as log p, and with them any temperature:
    softmax(log p / T). This departs from the paper, which keeps one vector per epoch and image.

    Args:
        network: The teacher.
        pixels: (n, 3, R, R) uint8.
        config: The number of views V and their crops.
        generator: Draws the views.

    Returns:
        (n, C) float32 on the CPU; rows sum to 1.

    Raises:
        NumericalError: A label is not finite.
    """
    total = torch.zeros(len(pixels), network.num_classes, device=network.device)
    for _ in range(config.views):
        views = random_views(len(pixels), config.crop_min, generator)
        for start in range(0, len(pixels), BATCH):
            rows = slice(start, start + BATCH)
            images = to_float(pixels[rows], network.device)
            total[rows] += network(apply_views(images, views.part(rows)), moments=False).logits
    finite = torch.ones((), dtype=torch.bool, device=total.device)
    for part in total.div_(config.views).split(BATCH):  # in place: a label may have 21,000 numbers
        part.copy_(part.softmax(1))
        finite &= torch.isfinite(part).all()
    if not bool(finite):
        raise NumericalError("the teacher's soft labels are not finite; try `mixed_precision=no`")
    return total.cpu()


def soften(probabilities: Tensor, temperature: float) -> Tensor:
    """Probabilities at temperature 1 as those at temperature T:  softmax(log p / T)."""
    tiny = torch.finfo(probabilities.dtype).tiny
    return (probabilities.clamp(min=tiny).log() / temperature).softmax(1)
