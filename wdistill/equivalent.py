"""How many random real images per class a set is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

DRAWS = 1000
Bound = Literal["interpolated", "at_least", "at_most"]


@dataclass(frozen=True)
class Equivalent:
    """ipc: random real images per class that reach a set's accuracy; low, high: its 95 % interval,
    None where the spread over seeds is unknown. at_least, at_most: the accuracy lies above or below
    all that was measured, and ipc is the nearest one measured.
    """

    ipc: float
    low: float | None
    high: float | None
    bound: Bound


def equivalent_ipc(scores: Sequence[float], random: Mapping[int, Sequence[float]]) -> Equivalent:
    """The IPC at which random real images reach the mean of ``scores``.

    scores: accuracies of the set, one per seed; random: those of random real images, by IPC.
    Read off the means of ``random``, made monotone by isotonic regression and interpolated linearly
    in log IPC. The interval is that of 1,000 draws of all the means, normal, with the deviation
    pooled over the set and the curve: two or three seeds tell little of each point alone.
    """
    ipc = np.array(sorted(random), dtype=np.float64)
    groups = [np.asarray(random[int(k)], dtype=np.float64) for k in ipc]
    own = np.asarray(scores, dtype=np.float64)
    means = np.array([group.mean() for group in groups])
    value = float(_inverse(own.mean(), means, ipc))
    deviation = _pooled([own, *groups])
    low = high = None
    if deviation is not None:
        draw = np.random.default_rng(0)
        noise = draw.standard_normal((DRAWS, 1 + len(groups))) * deviation
        noise /= np.sqrt([len(own), *map(len, groups)])
        found = [_inverse(own.mean() + e[0], means + e[1:], ipc) for e in noise]
        low, high = (float(q) for q in np.quantile(found, (0.025, 0.975)))
    smooth = isotonic_regression(means).x
    bound: Bound = "interpolated"
    if own.mean() > smooth[-1]:
        bound = "at_least"
    elif own.mean() < smooth[0]:
        bound = "at_most"
    return Equivalent(value, low, high, bound)


def _inverse(score: float, means: NDArray[np.float64], ipc: NDArray[np.float64]) -> float:
    smooth = isotonic_regression(means).x
    if score > smooth[-1]:
        return float(ipc[-1])
    # The first of several equal points is where the accuracy is first reached.
    kept = np.concatenate([[True], np.diff(smooth) > 0])
    return float(np.exp(np.interp(score, smooth[kept], np.log(ipc[kept]))))


def _pooled(groups: Sequence[NDArray[np.float64]]) -> float | None:
    freedom = sum(len(group) - 1 for group in groups)
    if freedom == 0:
        return None
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    return float(np.sqrt(squares / freedom))
