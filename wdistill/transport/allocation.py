"""Share images out over classes by what one more of them gains: pure functions, no I/O.

A class c whose real images have the features y_1..y_N can be represented by n atoms no better than

    J_c(n) = min over x_1..x_n of  1/N sum_i min_j |y_i - x_j|^2,

the k-means optimum, which is the least W2^2 of any measure with n atoms (Canas and Rosasco 2012).
Of all numbers n_c with a given sum, those with the least sum_c J_c(n_c) are found by giving one
image after the other to the class with the largest gain J_c(n_c) - J_c(n_c + 1) (Fox 1966), if
gains fall with n. All classes count the same, however many real images they have, because accuracy
is the mean over test images of all classes, and a rare class is no less often asked for.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from torch import Tensor

from wdistill.transport.kmeans import Array, k_means, squared_distances

RESTARTS, ITERATIONS = 2, 30  # of k-means; a few percent above the best are no matter here
DENSE, RATIO = 8, 1.25  # numbers of atoms that are tried: all up to 8, then in geometric steps
TAIL = 3  # last numbers of atoms that give the power law beyond them
FLOOR = 1e-9  # of J(1); logarithms need J > 0


def atoms_tried(largest: int) -> list[int]:
    """Numbers of atoms from 1 to ``largest`` for which the error is computed."""
    numbers = [*range(1, min(DENSE, largest) + 1)]
    while numbers[-1] < largest:
        numbers.append(min(largest, max(numbers[-1] + 1, round(RATIO * numbers[-1]))))
    return numbers


def quantisation_errors(
    features: Tensor, most: int, largest: int, generator: torch.Generator
) -> Array:
    """J(1), ..., J(most) of one class, for all images that it could have.

    k-means runs for a few numbers of atoms up to ``largest``. Its error on the m images at hand is
    too low, because n atoms are fitted to them: times m / (m - n) it is that on others, as for a
    variance, if the clusters stay. Otherwise a rare class would seem to gain most, whose images
    are soon all learnt by heart. Between the numbers that are tried log J is linear in log n, the
    power law of Zador's theorem (J ~ n^(-2/d) in d dimensions); beyond them the last slope goes on.

    Args:
        features: (m, d) of the class's real images, or of a sample of them.
        most: The largest number of atoms of interest.
        largest: The largest that is tried; at most half as many as images are.
        generator: Draws the starts.
    """
    y: Array = features.double().cpu().numpy()
    y = y - y.mean(0)
    enough = max(len(y) // 2, min(2, len(y) - 1), 1)
    tried = atoms_tried(min(largest, most, enough))
    errors = np.array([_error(y, n, generator) for n in tried])
    errors = np.maximum(errors, max(FLOOR * errors[0], np.finfo(np.float64).tiny))
    logs, places = np.log(errors), np.log(tried)
    n = np.log(np.arange(1, most + 1))
    inside = np.interp(n, places, logs)
    first = max(0, len(tried) - TAIL)
    run = places[-1] - places[first]
    slope = min(0.0, (logs[-1] - logs[first]) / run) if run else 0.0
    result: Array = np.exp(inside + slope * np.maximum(n - places[-1], 0))
    return result


def _error(y: Array, n: int, generator: torch.Generator) -> float:
    atoms, _ = k_means(y, n, RESTARTS, ITERATIONS, generator)
    return float(squared_distances(y, atoms).min(1).sum()) / max(1, len(y) - n)


def marginal_gains(errors: Array) -> Array:
    """(most - 1,) gains J(n) - J(n + 1) that never rise with n: those of the greatest convex
    function below J, by isotonic regression. Several images that gain little one by one, but much
    together, then gain the same each.
    """
    gains: NDArray[np.float64] = -np.diff(errors)
    if len(gains) < 2:
        return gains
    result: Array = isotonic_regression(gains, increasing=False).x
    return result


def even_share(present: Sequence[int], total: int) -> int:
    """The largest n with sum_c min(n, present_c) <= ``total``: images of each class if all get as
    many as the others, or as many as they have, and no more than ``total`` together.

    present: real images of each class.
    """
    counts, spent = sorted(present), 0
    for index, count in enumerate(counts):
        classes = len(counts) - index  # that have as many real images or more
        if spent + count * classes > total:
            return (total - spent) // classes
        spent += count
    return counts[-1]


def shared_out(errors: Sequence[Array], total: int) -> tuple[int, ...]:
    """Numbers of images per class, which add up to ``total``, by greedy gains.

    Every class gets one image at least, and no more than it has errors, ``len(errors[c])``.

    Raises:
        ValueError: ``total`` is below the number of classes, or above what all can have.
    """
    most = [len(each) for each in errors]
    if not len(most) <= total <= sum(most):
        raise ValueError(f"{total} images for {len(most)} classes that can have {sum(most)}")
    gains = [marginal_gains(each) for each in errors]
    counts = [1] * len(errors)
    queue = [(-float(each[0]), label) for label, each in enumerate(gains) if len(each)]
    heapq.heapify(queue)
    for _ in range(total - len(counts)):
        _, label = heapq.heappop(queue)
        counts[label] += 1
        if counts[label] < most[label]:
            heapq.heappush(queue, (-float(gains[label][counts[label] - 1]), label))
    return tuple(counts)
