"""Wasserstein barycenters with few atoms: pure optimal transport, no I/O.

For one measure, the free-support barycenter of n atoms (Cuturi and Doucet 2014)

    min over X, b of  W2^2(sum_j b_j delta_{x_j},  1/N sum_i delta_{y_i})

has closed subproblems: with free weights it is the k-means problem (Canas and Rosasco 2012), the
optimal weights being the Voronoi masses; with uniform weights it is k-means under equal capacities.
The official code alternates a fixed number of general-purpose steps instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import ot
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from wdistill.config import BarycenterConfig
from wdistill.errors import NumericalError

Array = NDArray[np.float64]
RANDOM_DRAWS = 5  # random atoms are drawn this often, their mean W2^2 is reported


@dataclass(frozen=True)
class Barycenter:
    """atoms: (n, d) float32; weights: (n,) float32, sum 1; nearest: (n,) int64, distinct rows of
    the real features, one per atom, of least total squared distance; w2: exact W2^2 to the
    features; w2_random: mean exact W2^2 of n random real features under the same weight constraint.

    rows, owner (m,) int64 and mass (m,) float32 are the nonzero entries of the optimal plan T
    between atoms and features, ordered by row, then owner: mass[k] of real row rows[k] goes to atom
    owner[k]. Per row they sum to 1/N, per atom to its weight. With free weights each row has one
    owner (m = N); with uniform weights m <= N + n - 1.
    """

    atoms: Tensor
    weights: Tensor
    nearest: Tensor
    rows: Tensor
    owner: Tensor
    mass: Tensor
    w2: float
    w2_random: float


def wasserstein2(atoms: Array, weights: Array, features: Array) -> float:
    """Exact W2^2 between sum_j b_j delta_{x_j} and the uniform measure on ``features``.

    atoms (n, d), weights (n,), features (N, d); float64, squared Euclidean cost, by network simplex
    (``ot.emd2``).
    """
    uniform = np.full(len(features), 1 / len(features))
    value = ot.emd2(
        weights / weights.sum(),
        uniform,
        cdist(atoms, features, "sqeuclidean"),
        numItermax=10_000_000,
    )
    return float(value)


def barycenter(
    features: Tensor, config: BarycenterConfig, generator: torch.Generator
) -> Barycenter:
    """Barycenter of one class.

    features: (N, d), N >= config.ipc. Raises NumericalError where a feature is not finite and
    ValueError where there are fewer features than atoms.
    """
    y = features.double().cpu().numpy()
    n = config.ipc
    if not np.isfinite(y).all():
        raise NumericalError("features are not finite")
    if len(y) < n:
        raise ValueError(f"{len(y)} features but {n} atoms")
    centre = y.mean(0)
    y = y - centre  # W2 is translation-equivariant; centring keeps float32 distances accurate
    atoms, label = _k_means(y, n, config, generator)
    rows, owner, mass = np.arange(len(y)), label, np.full(len(y), 1 / len(y))
    if config.weights == "uniform":
        starts = _plus_plus(torch.from_numpy(y).float(), n, config.restarts, generator)
        atoms, units = _equal_masses([atoms, *starts.double().numpy()], y, config.max_iterations)
        rows, owner = np.nonzero(units.T)
        mass = units[owner, rows] / (n * len(y))
    weights = np.bincount(owner, mass, minlength=n)
    return Barycenter(
        atoms=torch.from_numpy(atoms + centre).float(),
        weights=torch.from_numpy(weights).float(),
        nearest=torch.from_numpy(nearest_rows(atoms, y)),
        rows=torch.from_numpy(rows),
        owner=torch.from_numpy(owner),
        mass=torch.from_numpy(mass).float(),
        w2=float(mass @ ((atoms[owner] - y[rows]) ** 2).sum(1)),
        w2_random=_random_w2(y, config, generator),
    )


def nearest_rows(atoms: Array, features: Array) -> NDArray[np.int64]:
    """One distinct row of ``features`` per atom, of least total squared distance."""
    rows, columns = linear_sum_assignment(cdist(atoms, features, "sqeuclidean"))
    return np.asarray(columns[np.argsort(rows)], dtype=np.int64)


def _voronoi_masses(atoms: Array, y: Array) -> Array:
    nearest = cdist(y, atoms, "sqeuclidean").argmin(1)
    masses: Array = np.bincount(nearest, minlength=len(atoms)) / len(y)
    return masses


def _random_w2(y: Array, config: BarycenterConfig, generator: torch.Generator) -> float:
    n = config.ipc
    costs = []
    for _ in range(RANDOM_DRAWS):
        atoms = y[torch.randperm(len(y), generator=generator)[:n].numpy()]
        free = config.weights == "free"
        weights = _voronoi_masses(atoms, y) if free else np.full(n, 1 / n)
        costs.append(wasserstein2(atoms, weights, y))
    return float(np.mean(costs))


def _k_means(
    y: Array, n: int, config: BarycenterConfig, generator: torch.Generator
) -> tuple[Array, NDArray[np.int64]]:
    """Atoms, and the atom of each point.

    Best of ``config.restarts`` k-means++ starts (Arthur and Vassilvitskii 2007), each with Lloyd
    iterations to convergence; all starts advance together. Then, in float64, Lloyd again and
    exchanges of single points.
    """
    if n == 1:
        return y.mean(0, keepdims=True), np.zeros(len(y), dtype=np.int64)
    points = torch.from_numpy(y).float()
    atoms = _plus_plus(points, n, config.restarts, generator)
    previous = torch.full((config.restarts,), float("inf"))
    for _ in range(config.max_iterations):
        distance, label = _nearest(points, atoms)
        cost = distance.double().mean(1)
        if not bool((cost < previous * (1 - 1e-6)).any()):
            break
        previous = cost
        atoms = _centroids(points, label, distance, n)
    best = atoms[int(previous.argmin())].double().numpy()
    return _exchange(y, *_polish(y, best, config.max_iterations))


def _nearest(points: Tensor, atoms: Tensor) -> tuple[Tensor, Tensor]:
    """points (N, d), atoms (R, n, d) -> squared distance and index of the nearest atom, (R, N)."""
    squared = (points**2).sum(1)[None, :, None] + (atoms**2).sum(2)[:, None, :]
    squared = squared - 2 * points @ atoms.transpose(1, 2)
    distance, label = squared.min(2)
    return distance.clamp(min=0), label


def _centroids(points: Tensor, label: Tensor, distance: Tensor, n: int) -> Tensor:
    """Means of the clusters; an empty one moves to the point that is worst served."""
    restarts = len(label)
    flat = (label + n * torch.arange(restarts)[:, None]).flatten()
    sums = torch.zeros(restarts * n, points.shape[1])
    sums.index_add_(0, flat, points.repeat(restarts, 1))
    sizes = torch.bincount(flat, minlength=restarts * n)
    atoms = (sums / sizes.clamp(min=1)[:, None]).view(restarts, n, -1)
    for restart, empty in (sizes == 0).view(restarts, n).nonzero().tolist():
        worst = int(distance[restart].argmax())
        atoms[restart, empty] = points[worst]
        distance[restart, worst] = 0
    return atoms


def _plus_plus(points: Tensor, n: int, restarts: int, generator: torch.Generator) -> Tensor:
    count = len(points)
    chosen = torch.randint(count, (restarts, 1), generator=generator)
    distance, _ = _nearest(points, points[chosen])
    while chosen.shape[1] < n:
        taken = torch.zeros(restarts, count).scatter_(1, chosen, 1.0).bool()
        # Duplicated points leave no distance to draw from: any point not yet taken will do.
        odds = torch.where(taken, 0.0, distance + 1e-12 * (1 + distance.amax(1, keepdim=True)))
        pick = torch.multinomial(odds, 1, generator=generator)
        chosen = torch.cat([chosen, pick], dim=1)
        distance = torch.minimum(distance, _nearest(points, points[pick])[0])
    return points[chosen]


def _polish(y: Array, atoms: Array, max_iterations: int) -> tuple[Array, NDArray[np.int64]]:
    """Lloyd in float64: atoms, and the atom of each point; every atom has at least one."""
    n = len(atoms)
    label = np.zeros(len(y), dtype=np.int64)
    previous: NDArray[np.int64] | None = None
    for _ in range(max_iterations):
        squared = cdist(y, atoms, "sqeuclidean")
        label = squared.argmin(1)
        sizes = np.bincount(label, minlength=n)
        for empty in np.flatnonzero(sizes == 0):
            served = squared[np.arange(len(y)), label]
            served[sizes[label] < 2] = -1  # never empty another cluster
            worst = int(served.argmax())
            sizes[label[worst]] -= 1
            label[worst], sizes[empty] = empty, 1
            squared[worst, empty] = 0
        atoms = np.stack([y[label == j].mean(0) for j in range(n)])
        if previous is not None and np.array_equal(label, previous):
            break
        previous = label
    return atoms, label


def _exchange(y: Array, atoms: Array, label: NDArray[np.int64]) -> tuple[Array, NDArray[np.int64]]:
    """Move single points to another atom while that lowers W2^2 (Hartigan 1975).

    Leaves many of Lloyd's local optima: to take a point away moves the atom, which saves
    s / (s - 1) of its squared distance from an atom of s points; to add it costs s / (s + 1).
    Moves between different atoms do not disturb each other, so each round makes several.
    """
    rows = np.arange(len(y))
    sizes = np.bincount(label, minlength=len(atoms)).astype(np.float64)
    squared = cdist(y, atoms, "sqeuclidean")
    for _ in range(10 * len(y)):
        own = sizes[label]
        saved = np.where(own > 1, squared[rows, label] * own / np.maximum(own - 1, 1), 0)
        price = squared * (sizes / (sizes + 1))
        price[rows, label] = np.inf
        target = price.argmin(1)
        gain = saved - price[rows, target]
        order = np.argsort(-gain)[: int((gain > 1e-9 * saved).sum())]
        _, first = np.unique(label[order], return_index=True)  # the best point of each atom
        touched: list[int] = []
        for point in order[np.sort(first)]:
            old, new = int(label[point]), int(target[point])
            if old in touched or new in touched:
                continue
            atoms[old] += (atoms[old] - y[point]) / (sizes[old] - 1)
            atoms[new] += (y[point] - atoms[new]) / (sizes[new] + 1)
            sizes[old], sizes[new], label[point] = sizes[old] - 1, sizes[new] + 1, new
            touched += [old, new]
        if not touched:
            break
        squared[:, touched] = cdist(y, atoms[touched], "sqeuclidean")
    return np.stack([y[label == k].mean(0) for k in range(len(atoms))]), label


def _equal_masses(starts: list[Array], y: Array, max_iterations: int) -> tuple[Array, Array]:
    """From each start, alternate the optimal plan T between n equal atoms and N equal points with
    the barycentric projection X = diag(1/b) T Y, which lowers W2^2 at every step (Cuturi and Doucet
    2014, alg. 2); the best atoms, and their plan in units of 1 / (n N), which are whole.
    """
    n, count = len(starts[0]), len(y)
    a, b = np.full(n, float(count)), np.full(count, float(n))
    best, lowest, best_units = starts[0], np.inf, np.zeros((n, count))
    for start in starts:
        atoms, previous = start, np.inf
        for _ in range(max_iterations):
            cost = cdist(atoms, y, "sqeuclidean")
            units = np.rint(ot.emd(a, b, cost, numItermax=10_000_000))
            value = float((units * cost).sum())
            if value < lowest:
                best, lowest, best_units = atoms, value, units
            if value >= previous * (1 - 1e-6):
                break
            previous = value
            atoms = units @ y / count
    return best, best_units
