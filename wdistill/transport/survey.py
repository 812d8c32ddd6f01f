"""One pass over the real images of a class: features, and moments at norm layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from wdistill.core.machine.transfer import to_device
from wdistill.data.pixels import to_float
from wdistill.errors import NumericalError
from wdistill.networks.features import FeatureNetwork
from wdistill.transport.pool import BarycenterPool

T = TypeVar("T")


@dataclass(frozen=True)
class ClassSurvey:
    """What the teacher computes for all real images of a class.

    Attributes:
        features: (N_c, d) float32 on the CPU.
        means: Per norm layer (channels,) float32, the mean of the layer's input over the class.
        variances: The variance, likewise.
        grey: Whether no image has any colour.
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
    spread between batches. The sums stay on the device of the batches, unless it has no float64.
    """

    def __init__(self) -> None:
        self.count = 0.0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self.scatter = torch.zeros(0, dtype=torch.float64)

    def update(self, means: Tensor, variances: Tensor, shares: Tensor) -> None:
        """means, variances: (B, channels), one row per image; shares: (B,) on the CPU, their
        weights.
        """
        if means.device.type == "mps":
            means, variances = means.cpu(), variances.cpu()
        means, variances = means.double(), variances.double()
        count = float(shares.double().sum())
        column = to_device(shares, means.device).double()[:, None]
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
    """Features and moments of the images of one class, without augmentation. The host waits for the
    device once, at the end.

    Args:
        network: The teacher.
        batches: (b, 3, R, R) uint8, all N_c images of the class.
        shares: (N_c,) float32, the weight of each image in the moments.

    Raises:
        NumericalError: A feature is not finite.
    """
    features: list[Tensor] = []
    channels: list[int] = []
    moments, grey, count = Moments(), True, 0
    for batch in batches:
        grey = grey and all(torch.equal(batch[:, 0], batch[:, channel]) for channel in (1, 2))
        out = network(to_float(batch, network.device))
        features.append(out.features)
        if out.means:
            channels = [mean.shape[1] for mean in out.means]
            part = shares[count : count + len(batch)]
            moments.update(torch.cat(out.means, 1), torch.cat(out.variances, 1), part)
        count += len(batch)
    size, width = sum(channels), features[0].shape[1]
    statistics = (moments.mean.float(), moments.variance.float()) if channels else ()
    parts = [*statistics, *(rows.flatten() for rows in features)]
    values = torch.cat([part.to(network.device) for part in parts]).cpu()
    all_features = values[2 * size :].view(-1, width)
    if not torch.isfinite(all_features).all():
        raise NumericalError("the teacher's features are not finite; try `mixed_precision=no`")
    return ClassSurvey(
        features=all_features,
        means=values[:size].split(channels) if channels else (),
        variances=values[size : 2 * size].split(channels) if channels else (),
        grey=grey,
    )


def survey_classes(
    network: FeatureNetwork,
    parts: Iterable[tuple[Iterable[Tensor], Tensor]],
    use: Callable[[int, ClassSurvey], T],
    pool: BarycenterPool,
) -> list[Future[T]]:
    """Survey classes one by one, and process each survey in a thread of ``pool`` while the next
    classes are surveyed: on a GPU the network works while the CPU computes barycenters. One class
    more than there are threads is in memory at most.

    Args:
        network: The teacher.
        parts: The batches and shares of each class, as in :func:`survey_class`.
        use: Called with the number of the class and its survey.
        pool: The threads.

    Returns:
        The results of ``use``, in order.
    """
    results = []
    for index, part in enumerate(parts):
        survey = survey_class(network, *part)
        results.append(pool.submit(survey.features.nbytes, partial(use, index, survey)))
    return results
