"""One pass over the real images of a class: features, and moments at every norm layer's input."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from wdistill.errors import NumericalError
from wdistill.features import FeatureNetwork
from wdistill.pixels import to_float


@dataclass(frozen=True)
class ClassSurvey:
    """features: (N_c, d); means, variances: per norm layer, (channels,); float32 on the CPU;
    spread: E ||y - E y||^2 of the features; grey: whether no image has any colour.
    """

    features: Tensor
    means: tuple[Tensor, ...]
    variances: tuple[Tensor, ...]
    spread: float
    grey: bool


class Moments:
    """Mean and variance per channel over images and positions, accumulated in float64.

    Law of total variance, merged batch by batch as in Chan, Golub and LeVeque (1983):

        var = E_i[var_i] + var_i[mean_i]

    over the images i of a class. The official code averages batch variances and so loses the
    spread between batches.
    """

    def __init__(self) -> None:
        self.count = 0.0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self.scatter = torch.zeros(0, dtype=torch.float64)

    def update(self, means: Tensor, variances: Tensor, shares: Tensor) -> None:
        """means, variances: (B, channels), one row per image; shares: (B,), what each counts."""
        means, variances = means.cpu().double(), variances.cpu().double()
        column = shares.double()[:, None]
        count = float(column.sum())
        mean = (column * means).sum(0) / count
        scatter = (column * (variances + (means - mean) ** 2)).sum(0)
        if self.count == 0:
            self.count, self.mean, self.scatter = count, mean, scatter
            return
        total = self.count + count
        delta = mean - self.mean
        self.mean = self.mean + delta * (count / total)
        self.scatter = self.scatter + scatter + delta**2 * (self.count * count / total)
        self.count = total

    @property
    def variance(self) -> Tensor:
        return self.scatter / self.count


@torch.no_grad()
def survey_class(
    network: FeatureNetwork, batches: Iterable[Tensor], shares: Tensor | None = None
) -> ClassSurvey:
    """Survey the images of one class.

    batches: (b, 3, R, R) uint8; shares: (N_c,) what each image counts in the statistics, equal if
    not given. Raises NumericalError if a feature is not finite.
    """
    features: list[Tensor] = []
    moments: list[Moments] = []
    grey, seen = True, 0
    for batch in batches:
        counted = torch.ones(len(batch)) if shares is None else shares[seen : seen + len(batch)]
        seen += len(batch)
        grey = grey and bool((batch == batch[:, :1]).all())
        out = network(to_float(batch, network.device))
        features.append(out.features.cpu())
        moments = moments or [Moments() for _ in out.means]
        for moment, means, variances in zip(moments, out.means, out.variances, strict=True):
            moment.update(means, variances, counted)
    stacked = torch.cat(features)
    if not torch.isfinite(stacked).all():
        raise NumericalError("the teacher's features are not finite; try --mixed-precision no")
    return ClassSurvey(
        features=stacked,
        means=tuple(m.mean.float() for m in moments),
        variances=tuple(m.variance.float() for m in moments),
        spread=float(stacked.double().var(0, unbiased=False).sum()),
        grey=grey,
    )
