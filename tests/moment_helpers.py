"""Moments of real images at norm layers, without any view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wdistill.features import FeatureNetwork
from wdistill.survey import Moments


@dataclass(frozen=True)
class Statistics:
    """Per norm layer, (channels,)."""

    means: tuple[Tensor, ...]
    variances: tuple[Tensor, ...]


@torch.no_grad()
def moments_of(
    network: FeatureNetwork, batches: Sequence[Tensor], shares: Tensor | None = None
) -> Statistics:
    """batches: (b, 3, R, R) uint8; shares: what each image counts, equal if not given."""
    if shares is None:
        shares = torch.ones(sum(map(len, batches)))
    layers: list[Moments] = []
    parts = shares.split([len(batch) for batch in batches])
    for batch, part in zip(batches, parts, strict=True):
        out = network(batch.float() / 255)
        layers = layers or [Moments() for _ in out.means]
        for layer, means, variances in zip(layers, out.means, out.variances, strict=True):
            layer.update(means, variances, part)
    return Statistics(
        tuple(layer.mean.float() for layer in layers),
        tuple(layer.variance.float() for layer in layers),
    )
