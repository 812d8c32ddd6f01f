"""Baselines: real images selected by a rule, to compare with distilled ones."""

from __future__ import annotations

import torch
from torch import Tensor

from wdistill.core.seeds import stream


def herding(features: Tensor, count: int) -> Tensor:
    """Positions of ``count`` rows of features (N, d) whose running mean follows the class mean.

    Greedy: the k-th pick minimises || mu - (sum of picks) / k ||, without repetition (Welling 2009;
    as in iCaRL, Rebuffi et al. 2017, but on features as they are, not normalised).
    """
    x = features.double()
    mean, total = x.mean(0), torch.zeros(x.shape[1], dtype=torch.float64)
    available = torch.ones(len(x), dtype=torch.bool)
    picks = []
    squares = x.square().sum(1)
    for k in range(1, count + 1):
        # || k mu - total - x ||^2, up to terms that do not depend on x.
        target = k * mean - total
        distance = (squares - 2 * x @ target).masked_fill(~available, torch.inf)
        best = int(distance.argmin())
        available[best] = False
        total += x[best]
        picks.append(best)
    return torch.tensor(picks)


def random_rows(labels: Tensor, classes: int, ipc: int, seed: int, draw: int) -> Tensor:
    """``ipc`` random rows of each class, class by class, independent for each ``draw``.

    The rows for a smaller ``ipc`` are a subset of those for a larger one.
    """
    selections = []
    for label in range(classes):
        rows = (labels == label).nonzero()[:, 0]
        order = torch.randperm(len(rows), generator=stream(seed, "random-real", draw, label))
        selections.append(rows[order[:ipc]])
    return torch.cat(selections)
