"""One look at the real images of a class: features, and moments at norm layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from wdistill.data.pixels import to_float
from wdistill.errors import NumericalError
from wdistill.networks.features import FeatureNetwork

T = TypeVar("T")


@dataclass(frozen=True)
class ClassSurvey:
    """features: (N_c, d) float32 on the CPU; means, variances: at the input of every norm layer,
    (channels,) float32, of no layer if there is none; grey: whether no image has any colour.
    """

    features: Tensor
    means: tuple[Tensor, ...]
    variances: tuple[Tensor, ...]
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
def survey_class(network: FeatureNetwork, batches: Iterable[Tensor], shares: Tensor) -> ClassSurvey:
    """Features and moments of the images of one class, as they are.

    batches: (b, 3, R, R) uint8; shares: (N_c,) what each image counts in the moments. Raises
    NumericalError if a feature is not finite.
    """
    features: list[Tensor] = []
    layers: list[Moments] = []
    grey, seen = True, 0
    for batch in batches:
        grey = grey and bool((batch == batch[:, :1]).all())
        out = network(to_float(batch, network.device))
        features.append(out.features.cpu())
        part = shares[seen : seen + len(batch)]
        layers = layers or [Moments() for _ in out.means]
        for layer, means, variances in zip(layers, out.means, out.variances, strict=True):
            layer.update(means, variances, part)
        seen += len(batch)
    stacked = torch.cat(features)
    if not torch.isfinite(stacked).all():
        raise NumericalError("the teacher's features are not finite; try `mixed_precision=no`")
    return ClassSurvey(
        features=stacked,
        means=tuple(layer.mean.float() for layer in layers),
        variances=tuple(layer.variance.float() for layer in layers),
        grey=grey,
    )


def surveyed(
    network: FeatureNetwork,
    parts: Iterable[tuple[Iterable[Tensor], Tensor]],
    use: Callable[[int, ClassSurvey], T],
) -> Iterator[T]:
    """``use(i, survey of parts[i])`` for each class in turn, in a thread beside the survey of the
    next class: on a GPU the network runs while the CPU computes barycenters. At most two classes'
    features are held. parts: batches and shares, as in :func:`survey_class`.
    """
    with ThreadPoolExecutor(1) as beside:
        last: Future[T] | None = None
        for index, part in enumerate(parts):
            survey = survey_class(network, *part)
            if last is not None:
                yield last.result()
            last = beside.submit(use, index, survey)
        if last is not None:
            yield last.result()
