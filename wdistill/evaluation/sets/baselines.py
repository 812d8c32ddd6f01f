"""Real images chosen by a rule, to be compared with distilled ones."""

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
    left = torch.ones(len(x), dtype=torch.bool)
    picked = []
    squares = x.square().sum(1)
    for k in range(1, count + 1):
        # || k mu - total - x ||^2, up to what is the same for all x.
        wanted = k * mean - total
        distance = (squares - 2 * x @ wanted).masked_fill(~left, torch.inf)
        best = int(distance.argmin())
        left[best] = False
        total += x[best]
        picked.append(best)
    return torch.tensor(picked)


def random_rows(labels: Tensor, classes: int, ipc: int, seed: int, draw: int) -> Tensor:
    """``ipc`` rows of each class, drawn anew for each ``draw``, class by class.

    Those of a smaller ``ipc`` are among those of a larger one.
    """
    chosen = []
    for label in range(classes):
        rows = (labels == label).nonzero()[:, 0]
        order = torch.randperm(len(rows), generator=stream(seed, "random-real", draw, label))
        chosen.append(rows[order[:ipc]])
    return torch.cat(chosen)
