"""One soft label for each image."""

from __future__ import annotations

import torch
from torch import Tensor

from wdistill.config import RelabelConfig
from wdistill.data.augment import apply_views, random_views
from wdistill.data.pixels import to_float
from wdistill.errors import NumericalError
from wdistill.labels.committee import LabelGiver

BATCH = 128  # images at once


@torch.no_grad()
def soft_labels(
    giver: LabelGiver, pixels: Tensor, config: RelabelConfig, generator: torch.Generator
) -> Tensor:
    """One averaged vector per image:  p_j = softmax( 1/V sum_v z(a_v(s_j)) ).

    z are the giver's logits and a_v random crops and flips. Because p is at temperature 1, a
    student recovers the mean logits up to a constant as log p, and with them any temperature:
    softmax(log p / T). This departs from the paper, which keeps one vector per epoch and image.

    Args:
        giver: The network or committee that gives the labels.
        pixels: (n, 3, R, R) uint8.
        config: The number of views V and their crops.
        generator: Draws the views.

    Returns:
        (n, C) float32 on the CPU; rows sum to 1.

    Raises:
        NumericalError: A label is not finite.
    """
    total = torch.zeros(len(pixels), giver.num_classes, device=giver.device)
    for _ in range(config.views):
        views = random_views(len(pixels), config.crop_min, generator)
        for start in range(0, len(pixels), BATCH):
            rows = slice(start, start + BATCH)
            images = to_float(pixels[rows], giver.device)
            total[rows] += giver.logits(apply_views(images, views.part(rows)))
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
