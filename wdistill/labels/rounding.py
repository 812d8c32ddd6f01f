"""Logits of label views as one of a few values, which makes their files small.

tests/benchmarks/README.md#labels-that-travel
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from wdistill.core.seeds import stream
from wdistill.labels.views import LabelViews, all_logits
from wdistill.transport.kmeans import k_means

_SAMPLE = 20_000  # values from which a codebook is computed


def codebook(values: Tensor, levels: int) -> Tensor:
    """Quantisation levels of ``values`` with the least mean squared error, by k-means.

    Returns (at most ``levels``,) float32, sorted.
    """
    sample = values.flatten().double()
    sample = sample[:: max(1, len(sample) // _SAMPLE)]
    distinct: Tensor = sample.unique()
    if len(distinct) <= levels:
        return distinct.float()
    points = (sample - sample.mean()).numpy()[:, None]
    atoms, _ = k_means(points, levels, 4, 100, stream(0, "codebook"))
    return (torch.from_numpy(atoms)[:, 0] + sample.mean()).sort().values.float()


def rounded(views: LabelViews, levels: int, classes: int, temperature: float) -> LabelViews:
    """The views with every logit and every ``rest`` quantised to ``levels`` values.

    What a student sees are probabilities p at the ``temperature`` T. Their square roots are put
    into intervals by k-means, which minimises the squared Hellinger distance
    1/2 sum (sqrt(p) - sqrt(q))^2, of which the KL divergence is four times in the limit of small
    steps. All p in an interval become their mean q, which keeps their sum and is best for the KL
    divergence (Banerjee et al. 2005, *Clustering with Bregman divergences*, proposition 1). Most
    probabilities are near zero and share a level, which an entropy coder makes small. Stored are
    T log q - b,  see :func:`_of_one_byte`.
    """
    scale = (all_logits(views, classes) / temperature).logsumexp(1, keepdim=True)

    def nearest(values: Tensor) -> Tensor:
        p = (values / temperature - scale).exp().contiguous()
        centres = codebook(p.sqrt(), levels)
        cell = torch.bucketize(p.sqrt(), (centres[1:] + centres[:-1]) / 2)
        members = torch.bincount(cell.flatten(), minlength=levels)
        sums = torch.bincount(cell.flatten(), p.flatten().double(), minlength=levels)
        q = (sums / members).float()[cell]
        return _of_one_byte(temperature * q.log(), temperature)

    logits = nearest(views.logits)
    if views.logits.shape[1] == classes:
        return replace(views, logits=logits)
    return replace(views, logits=logits, rest=nearest(views.rest[:, None])[:, 0])


def _of_one_byte(values: Tensor, temperature: float) -> Tensor:
    """``values`` <= 0 less b, as float32 numbers of which all bytes but one are alike.

    Numbers from -4 b to -b, where b = 2 * 4^k, share sign and all but one bit of the exponent; as
    bfloat16 they have that bit and seven of the mantissa left. k is the least with 4^k >= T, so
    that probabilities down to exp(-6) = 0.25 % at ``temperature`` T can be told apart.
    """
    least = 2 * 4.0 ** math.ceil(math.log(temperature, 4))
    size = (least - values).clamp(max=least * 4 * (1 - 2**-8))
    return -size.bfloat16().float()
