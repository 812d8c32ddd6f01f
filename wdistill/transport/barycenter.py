"""Wasserstein barycenters with few atoms: pure optimal transport, no I/O.

For one measure, the free-support barycenter of n atoms (Cuturi and Doucet 2014)

    min over X, b of  W2^2(sum_j b_j delta_{x_j},  1/N sum_i delta_{y_i})

has closed subproblems: with free weights it is the k-means problem (Canas and Rosasco 2012), the
optimal weights being the Voronoi masses; with uniform weights it is k-means under equal capacities.
The official code alternates a fixed number of general-purpose steps instead. For several measures
(domains, clients, ...) it is the mean of the squared distances to each that is least.
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

from wdistill.config import BarycenterConfig, GroupWeights
from wdistill.errors import NumericalError
from wdistill.transport.free_support import Measures, evaluate, free_support_barycenter
from wdistill.transport.kmeans import Array, k_means, squared_distances

RANDOM_DRAWS = 5  # random atoms are drawn this often, their mean W2^2 is reported


@dataclass(frozen=True)
class Barycenter:
    """What stands for the real features of a class.

    atoms: (n, d) float32; weights: (n,) float32, sum 1; nearest: (n,) int64, distinct rows of
    the real features, one per atom, of least total squared distance; w2: exact W2^2 to the
    features (their weighted mean for several measures); w2_random: the mean of it over draws of n
    random real features under the same weight constraint.

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
    y = _checked(features, config.ipc)
    n, count, centre = config.ipc, len(y), y.mean(0)
    y = y - centre  # W2 is translation-equivariant; centring keeps float32 distances accurate
    atoms, owner = k_means(y, n, config.restarts, config.max_iterations, generator)
    plan = _Plan(np.arange(count), owner, np.full(count, 1 / count))
    if config.weights == "uniform" and n > 1:
        measures = Measures([y], np.ones(1))
        atoms, plan = _transported(measures, [np.arange(count)], (atoms, owner), config, generator)
    return _result(atoms, plan, y, centre, _random_w2(y, config, generator))


def barycenter_of_groups(
    features: Tensor,
    groups: Tensor,
    config: BarycenterConfig,
    generator: torch.Generator,
    lambdas: GroupWeights = "equal",
) -> Barycenter:
    """Barycenter of several measures: the groups (domain, client, sex, ...) of one class.

        min over X, b of  sum_k lambda_k W2^2(sum_j b_j delta_{x_j}, mu_k)

    with mu_k the uniform measure on the features of group k (Cuturi and Doucet 2014). ``w2`` is
    this sum, and the plan is T = sum_k lambda_k T_k, so its rows sum to lambda_k / N_k; rows may
    have several owners under free weights too.

    features: (N, d) of one class, N >= config.ipc; groups: (N,) int64, the group of each row, in
    any numbering that is the same for all classes or not; lambdas: ``equal`` (1/K each) or
    ``proportional`` (N_k / N), over the K groups that occur. With one group this is
    :func:`barycenter`. ``w2_random`` gives n random real features Voronoi masses where weights are
    free. Raises as :func:`barycenter`, and ValueError where ``groups`` has another length.
    """
    y = _checked(features, config.ipc)
    if groups.shape != (len(y),):
        raise ValueError(f"{len(y)} features but groups of shape {tuple(groups.shape)}")
    number = groups.cpu().numpy()
    rows = [np.flatnonzero(number == group) for group in np.unique(number)]
    if len(rows) == 1:
        return barycenter(features, config, generator)
    sizes = np.array([len(part) for part in rows], dtype=np.float64)
    shares = sizes / sizes.sum() if lambdas == "proportional" else np.full(len(rows), 1 / len(rows))
    means = np.stack([y[part].mean(0) for part in rows])
    # Moving group k by t moves the barycenter by lambda_k t, so the search may centre each group.
    centred, centre = y.copy(), shares @ means
    for part, mean in zip(rows, means, strict=True):
        centred[part] -= mean
    start = k_means(centred, config.ipc, config.restarts, config.max_iterations, generator)
    measures = Measures([centred[part] for part in rows], shares)
    atoms, plan = _transported(measures, rows, start, config, generator)
    random = _random_w2(y - centre, config, generator, rows, shares)
    return _result(atoms, plan, y - centre, centre, random)


def nearest_rows(atoms: Array, features: Array) -> NDArray[np.int64]:
    """One distinct row of ``features`` per atom, of least total squared distance."""
    rows, columns = linear_sum_assignment(cdist(atoms, features, "sqeuclidean"))
    return np.asarray(columns[np.argsort(rows)], dtype=np.int64)


@dataclass(frozen=True)
class _Plan:
    """Nonzero entries of a plan, by row, then owner; masses sum to 1."""

    rows: NDArray[np.int64]
    owner: NDArray[np.int64]
    mass: Array


def _checked(features: Tensor, n: int) -> Array:
    y: Array = features.double().cpu().numpy()
    if not np.isfinite(y).all():
        raise NumericalError("features are not finite")
    if len(y) < n:
        raise ValueError(f"{len(y)} features but {n} atoms")
    return y


def _transported(
    measures: Measures,
    rows: list[NDArray[np.int64]],
    start: tuple[Array, NDArray[np.int64]],
    config: BarycenterConfig,
    generator: torch.Generator,
) -> tuple[Array, _Plan]:
    """Atoms and plan T = sum_k lambda_k T_k; rows: the class's rows of each measure's points."""
    atoms, label = start
    n, free = config.ipc, config.weights == "free"
    masses = np.bincount(label, minlength=n) / len(label)
    best = free_support_barycenter(
        measures, n, free, [(atoms, masses)], config.restarts, config.max_iterations, generator
    )
    parts = []
    for share, part, plan in zip(measures.shares, rows, best.plans, strict=True):
        point, owner = np.nonzero(plan.T)
        mass = (plan / plan.sum(0))[owner, point] * share / len(part)
        parts.append((part[point], owner, mass))
    row, owner, mass = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((owner, row))
    return best.atoms, _Plan(row[order], owner[order], mass[order])


def _result(atoms: Array, plan: _Plan, y: Array, centre: Array, w2_random: float) -> Barycenter:
    weights = np.bincount(plan.owner, plan.mass, minlength=len(atoms))
    return Barycenter(
        atoms=torch.from_numpy(atoms + centre).float(),
        weights=torch.from_numpy(weights).float(),
        nearest=torch.from_numpy(nearest_rows(atoms, y)),
        rows=torch.from_numpy(plan.rows),
        owner=torch.from_numpy(plan.owner),
        mass=torch.from_numpy(plan.mass).float(),
        w2=float(plan.mass @ ((atoms[plan.owner] - y[plan.rows]) ** 2).sum(1)),
        w2_random=w2_random,
    )


def _random_w2(
    y: Array,
    config: BarycenterConfig,
    generator: torch.Generator,
    rows: list[NDArray[np.int64]] | None = None,
    shares: Array | None = None,
) -> float:
    """Mean of sum_k lambda_k W2^2 over random atoms; without groups, of W2^2."""
    n, free, costs = config.ipc, config.weights == "free", []
    measures = Measures(
        [y] if rows is None else [y[part] for part in rows],
        np.ones(1) if shares is None else shares,
    )
    for _ in range(RANDOM_DRAWS):
        atoms = y[torch.randperm(len(y), generator=generator)[:n].numpy()]
        squared = squared_distances(atoms, y)
        if free and rows is None:  # each point goes to its nearest atom
            costs.append(float(squared.min(0).mean()))
            continue
        masses = np.bincount(squared.argmin(0), minlength=n) / len(y)
        costs.append(evaluate(measures, atoms, masses if free else np.full(n, 1 / n)).value)
    return float(np.mean(costs))
