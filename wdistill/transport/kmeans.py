"""k-means: the barycenter of one measure with free weights (Canas and Rosasco 2012).

    min over atoms x_1..x_n of  1/N sum_i min_j |y_i - x_j|^2

For fixed atoms the best weights are the Voronoi masses. The search begins with several k-means++
starts (Arthur and Vassilvitskii 2007), of which the worse half is dropped every few rounds. It ends
with moves of single points that account for the resulting change of the atoms (Hartigan 1975):
first many at a time, then one by one in float64 until no move lowers the cost.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
RUNG = 5  # rounds between two halvings of the starts
MOST_STARTS, MANY_ATOMS = 4, 80  # few atoms need more starts, which are cheap for them
LEAST_GAIN = 1e-9  # relative saving of squared distance below which a point is not moved


def k_means(
    y: Array, n: int, restarts: int, max_iterations: int, generator: torch.Generator
) -> tuple[Array, Labels]:
    """Cluster points around n atoms.

    Args:
        y: (N, d) float64 with N >= n and mean near 0, because float32 distances lose precision
            far from it.
        n: The number of atoms.
        restarts: Number of k-means++ starts, up to four times as many for few atoms (n < 80).
        max_iterations: Iterations of Lloyd's algorithm, and of simultaneous moves.
        generator: Draws the starts.

    Returns:
        The atoms (n, d) float64, each the mean of its points, and the atom of each point, (N,)
        int64. Every atom has a point; no point is closer to another atom than to its own.
    """
    if n == 1:
        return y.mean(0, keepdims=True), np.zeros(len(y), dtype=np.int64)
    points = torch.from_numpy(y).float()
    half_norms = points.square().sum(1) / 2
    starts = starts_for(n, restarts)
    label = _search(points, half_norms, n, starts, max_iterations, generator)
    label = _batch_moves(points, half_norms, label, n, max_iterations)
    return _single_moves(y, label.numpy(), n)


def starts_for(n: int, restarts: int) -> int:
    """``restarts``, and up to MOST_STARTS times as many for few atoms."""
    return restarts * min(max(MANY_ATOMS // n, 1), MOST_STARTS)


def squared_distances(x: Array, y: Array, norms: Array | None = None) -> Array:
    """(len(x), len(y)) squared Euclidean distances by one matrix product; x and y near 0.

    norms: (len(x),) squared norms of x; computed if None.
    """
    product: Array = x @ (-2 * y.T)
    product += ((x**2).sum(1) if norms is None else norms)[:, None]
    product += (y**2).sum(1)
    return np.maximum(product, 0, out=product)


def plus_plus(points: Tensor, n: int, starts: int, generator: torch.Generator) -> Tensor:
    """(starts, n, d) rows of ``points``: distinct rows, each drawn in proportion to its squared
    distance from those already drawn.
    """
    count, half_norms = len(points), points.square().sum(1) / 2
    centres = torch.randint(count, (1, starts), generator=generator)
    is_centre = torch.zeros(count, starts).scatter_(0, centres, 1.0).bool()
    distance = torch.full((count, starts), torch.inf)
    while len(centres) < n:
        newest = points[centres[-1]]
        to_newest = torch.addmm(
            half_norms[:, None] + newest.square().sum(1) / 2, points, newest.T, alpha=-1
        )
        distance = torch.minimum(distance, to_newest.clamp_(min=0))
        # If all points coincide with centres, all distances are 0: any other point will do.
        odds = (distance + 1e-12 * (1 + distance.amax(0))).masked_fill_(is_centre, 0.0)
        sums = odds.double().cumsum(0)
        draw = torch.rand(1, starts, generator=generator, dtype=torch.float64) * sums[-1]
        pick = torch.searchsorted(sums.T.contiguous(), draw.T, right=True).T.clamp_(max=count - 1)
        centres = torch.cat([centres, pick])
        is_centre.scatter_(0, pick, True)
    return points[centres.T]


def _search(
    points: Tensor,
    half_norms: Tensor,
    n: int,
    starts: int,
    max_iterations: int,
    generator: torch.Generator,
) -> Tensor:
    """Lloyd's algorithm from all starts; (N,) labels of the best, with no empty cluster."""
    atoms = plus_plus(points, n, starts, generator)
    costs = [np.inf] * starts
    for step in range(max_iterations):
        previous, (labels, costs) = costs, _nearest(points, half_norms, atoms)
        if len(atoms) == 1 and costs[0] >= previous[0] * (1 - 1e-3):
            break
        survivors = list(range(len(atoms)))
        if step % RUNG == RUNG - 1 and len(atoms) > 1:
            survivors = sorted(survivors, key=costs.__getitem__)[: len(atoms) // 2]
        atoms = torch.stack([_means(points, labels[i], n) for i in survivors])
        costs = [costs[i] for i in survivors]
    labels, costs = _nearest(points, half_norms, atoms)
    return labels[int(np.argmin(costs))]


def _nearest(points: Tensor, half_norms: Tensor, atoms: Tensor) -> tuple[list[Tensor], list[float]]:
    """For each start in atoms (R, n, d): the nearest atom of each point, with empty atoms repaired,
    and half the mean squared distance.
    """
    starts, n, _ = atoms.shape
    flat = atoms.flatten(0, 1)
    scores = torch.addmm(flat.square().sum(1) / 2, points, flat.T, alpha=-1)
    distances, nearest = scores.view(-1, starts, n).min(2)
    distances += half_norms[:, None]
    labels = list(nearest.T.contiguous())
    for label, distance in zip(labels, distances.T, strict=True):
        sizes = torch.bincount(label, minlength=n)
        for empty in (sizes == 0).nonzero()[:, 0].tolist():
            # An empty cluster takes the point farthest from its atom, unless it is the last one.
            worst = int(distance.masked_fill(sizes[label] < 2, -torch.inf).argmax())
            sizes[label[worst]] -= 1
            label[worst], sizes[empty], distance[worst] = empty, 1, 0.0
    costs: list[float] = distances.double().mean(0).tolist()
    return labels, costs


def _means(points: Tensor, label: Tensor, n: int) -> Tensor:
    sums = torch.zeros(n, points.shape[1]).index_add_(0, label, points)
    return sums / torch.bincount(label, minlength=n)[:, None]


def _batch_moves(
    points: Tensor, half_norms: Tensor, label: Tensor, n: int, max_iterations: int
) -> Tensor:
    """Lloyd's algorithm with Hartigan's costs, for as long as W2^2 falls.

    Removing a point from its atom of s points saves s / (s - 1) times its squared distance; adding
    it to another costs s / (s + 1) times. All points move at once, so a round may raise W2^2.
    """
    best, lowest = label, np.inf
    for _ in range(max_iterations):
        sizes = torch.bincount(label, minlength=n).float()
        if (sizes == 0).any():
            break
        atoms = _means(points, label, n)
        price = torch.addmm(atoms.square().sum(1) / 2, points, atoms.T, alpha=-1)
        price = price.add_(half_norms[:, None]).clamp_(min=0)
        current = price.gather(1, label[:, None])
        cost = float(current.double().mean())
        if cost >= lowest * (1 - 1e-7):
            break
        best, lowest, size = label, cost, sizes[label][:, None]
        price *= sizes / (sizes + 1)
        price.scatter_(1, label[:, None], torch.where(size > 1, current * size / (size - 1), -1.0))
        label = price.argmin(1)
    return best


def _single_moves(y: Array, label: Labels, n: int) -> tuple[Array, Labels]:
    """Move single points while that lowers W2^2, with the costs of :func:`_batch_moves`.

    Each round lists the moves that lower W2^2, best first, and makes those that still do so when
    their turn comes; the last round finds none.
    """
    rows, label = np.arange(len(y)), label.copy()
    sizes = np.bincount(label, minlength=n).astype(np.float64)
    atoms, norms = means(y, label, n), (y**2).sum(1)
    squared = squared_distances(y, atoms, norms)
    for _ in range(len(y)):
        size, current = sizes[label], squared[rows, label]
        saving = np.where(size > 1, current * size / np.maximum(size - 1, 1), 0)
        price = squared * (sizes / (sizes + 1))
        price[rows, label] = np.inf
        target = price.argmin(1)
        gain = saving - price[rows, target]
        movable = np.flatnonzero(gain > LEAST_GAIN * saving)
        changed = np.zeros(n, dtype=bool)
        for point in movable[np.argsort(-gain[movable], kind="stable")]:
            source, destination = label[point], target[point]
            away, to = y[point] - atoms[source], y[point] - atoms[destination]
            leave = sizes[source] / max(sizes[source] - 1, 1)
            join = sizes[destination] / (sizes[destination] + 1)
            if sizes[source] < 2 or away @ away * leave * (1 - LEAST_GAIN) <= to @ to * join:
                continue
            atoms[source] -= away / (sizes[source] - 1)
            atoms[destination] += to / (sizes[destination] + 1)
            sizes[source] -= 1
            sizes[destination] += 1
            label[point] = destination
            changed[[source, destination]] = True
        if not changed.any():
            break
        squared[:, changed] = squared_distances(y, atoms[changed], norms)
    return means(y, label, n), label


def means(y: Array, label: Labels, n: int) -> Array:
    """(n, d) means of the rows of y per label; each label from 0 to n - 1 must occur."""
    member = csr_array((np.ones(len(y)), (label, np.arange(len(y)))), shape=(n, len(y)))
    result: Array = (member @ y) / np.bincount(label, minlength=n)[:, None]
    return result
