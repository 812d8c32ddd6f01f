"""Wasserstein barycenters with few atoms: pure optimal transport, no I/O.

For one measure, the free-support barycenter of n atoms (Cuturi and Doucet 2014)

    min over X, b of  W2^2(sum_j b_j delta_{x_j},  1/N sum_i delta_{y_i})

has closed subproblems: with free weights it is the k-means problem (Canas and Rosasco 2012), whose
optimal weights are the Voronoi masses; with uniform weights it is k-means under equal capacities.
The official code alternates a fixed number of general-purpose steps instead. The barycenter of
several measures (domains, clients, ...) minimises the weighted sum of the squared distances to
each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import ot
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from wdistill.config import BarycenterConfig, GroupWeights, Weights
from wdistill.core.seeds import stream
from wdistill.errors import NumericalError, OptionError
from wdistill.transport.annealing import Measures
from wdistill.transport.free_support import evaluate, free_support_barycenter
from wdistill.transport.kmeans import Array, k_means, squared_distances

Groups = NDArray[np.int64]
RANDOM_DRAWS = 5  # draws of random atoms over which their W2^2 is averaged


@dataclass(frozen=True)
class Barycenter:
    """n weighted atoms that represent N real features, and the optimal plan between them.

    Attributes:
        atoms: (n, d) float32.
        weights: (n,) float32, sum 1.
        nearest: (n,) int64, one distinct row of the features per atom, with the least sum of
            squared distances.
        rows: (m,) int64, the feature of each nonzero entry of the plan T. Entries are ordered by
            row, then by owner.
        owner: (m,) int64, the atom of each entry.
        mass: (m,) float32, the mass of each entry. For one measure, each row's masses sum to 1/N
            and each atom's to its weight. With free weights every row has one owner (m = N); with
            uniform weights m <= N + n - 1.
        w2: The exact W2^2 between the atoms and the features; for several measures the weighted
            sum over them.
        w2_random: The mean W2^2 of n random features under the same constraint on the weights.
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
    features: Tensor | ArrayLike,
    n: int,
    *,
    weights: Weights = "uniform",
    groups: Tensor | ArrayLike | None = None,
    group_weights: GroupWeights = "equal",
    seed: int = 0,
) -> Barycenter:
    r"""Wasserstein barycenter with n atoms of one or several clouds of points.

    Solves, up to local optima,

        min over X, b of  sum_k lambda_k W_2^2( sum_j b_j delta_{x_j},  mu_k )

    where

    - X (n, d) are the atoms x_j and b (n,) their weights, which sum to 1;
    - mu_k = 1/N_k sum_i delta_{y_ki} is the uniform measure on the features of group k. Without
      groups there is one measure, of all features;
    - lambda_k are the weights of the groups;
    - W_2^2 is the squared 2-Wasserstein distance with squared Euclidean cost.

    With one measure and free weights this is the k-means problem [2], searched from several
    k-means++ starts and refined by Hartigan's moves of single points. Otherwise entropic plans with
    a decreasing temperature select among many starts, and the alternating descent with exact plans
    of [1] (algorithm 2 for the atoms, algorithm 1 for free weights) refines the best ones. This
    departs from [1], and from ``ot.lp.free_support_barycenter``, which descend from a single start
    and keep the given weights of the atoms.

    Args:
        features: (N, d) real numbers, N >= n, as a tensor or an array.
        n: The number of atoms.
        weights: ``uniform`` fixes b_j = 1/n, the paper's choice; ``free`` optimises them.
        groups: (N,) integers, the group of each feature; None for one measure.
        group_weights: ``equal`` gives each of the K groups lambda_k = 1/K, as in [1];
            ``proportional`` gives it N_k / N.
        seed: Seed of the random starts. Equal arguments give equal results.

    Returns:
        The atoms in float32, their weights, the optimal plan, the exact objective (``w2``) and, for
        comparison, that of random features (``w2_random``).

    Raises:
        OptionError: ``n``, ``weights`` or ``group_weights`` is not allowed, or the shapes do not
            fit.
        NumericalError: A feature is not finite.

    References:
        [1] M. Cuturi and A. Doucet. Fast computation of Wasserstein barycenters. ICML 2014.
        [2] G. Canas and L. Rosasco. Learning probability measures with respect to optimal
            transport metrics. NeurIPS 2012.
        [3] H. Liu et al. Dataset distillation via the Wasserstein metric. ICCV 2025,
            arXiv:2311.18531.
    """
    points = features if isinstance(features, Tensor) else torch.as_tensor(np.asarray(features))
    if points.ndim != 2 or not 1 <= n <= len(points):
        raise OptionError(
            f"n is {n} and features have the shape {tuple(points.shape)}; give features (N, d) "
            "and n from 1 to N"
        )
    members = None if groups is None else torch.as_tensor(groups)
    if members is not None and members.shape != (len(points),):
        raise OptionError(
            f"groups have the shape {tuple(members.shape)} for {len(points)} features; give one "
            "group for each feature"
        )
    config = BarycenterConfig(ipc=n, weights=weights, group_weights=group_weights)
    return class_barycenter(points, config, stream(seed, "barycenter"), members)


def class_barycenter(
    features: Tensor,
    config: BarycenterConfig,
    generator: torch.Generator,
    groups: Tensor | None = None,
) -> Barycenter:
    """The barycenter of one class with ``config.ipc`` atoms, see :func:`barycenter`.

    For several measures the plan is T = sum_k lambda_k T_k: its rows sum to lambda_k / N_k, and may
    have several owners even with free weights.

    Args:
        features: (N, d), N >= ``config.ipc``.
        config: The number of atoms, the constraint on their weights, and the search effort.
        generator: Draws the starts.
        groups: (N,) int64, arbitrary group ids of the features; None, or a single group, is one
            measure.

    Raises:
        NumericalError: A feature is not finite.
        ValueError: There are fewer features than atoms, or ``groups`` has another length.
    """
    y = _as_array(features, config.ipc)
    if groups is None:
        return _of_one_measure(y, config, generator)
    if groups.shape != (len(y),):
        raise ValueError(f"{len(y)} features but groups of shape {tuple(groups.shape)}")
    number = groups.cpu().numpy()
    rows = [np.flatnonzero(number == group) for group in np.unique(number)]
    if len(rows) == 1:
        return _of_one_measure(y, config, generator)
    return _of_several_measures(y, rows, config, generator)


def groups_of(groups: Groups | None, rows: Tensor) -> Tensor | None:
    """The groups of the images at ``rows``; None if there are no groups."""
    return None if groups is None else torch.from_numpy(groups)[rows]


def image_shares(count: int, groups: Tensor | None, group_weights: GroupWeights) -> Tensor:
    """The share of each image of a class in its barycenter: the column sums of the plan.

    Args:
        count: The number of images, N.
        groups: (N,) int64, see :func:`class_barycenter`.
        group_weights: See :func:`barycenter`.

    Returns:
        (N,) float32, sum 1.
    """
    if groups is None or group_weights == "proportional":
        return torch.full((count,), 1 / count)
    _, member, counts = np.unique(groups.numpy(), return_inverse=True, return_counts=True)
    return torch.from_numpy(1 / (len(counts) * counts[member])).float()


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


def _as_array(features: Tensor, n: int) -> Array:
    y: Array = features.double().cpu().numpy()
    if not np.isfinite(y).all():
        raise NumericalError("features are not finite")
    if len(y) < n:
        raise ValueError(f"{len(y)} features but {n} atoms")
    return y


def _of_one_measure(y: Array, config: BarycenterConfig, generator: torch.Generator) -> Barycenter:
    n, count, centre = config.ipc, len(y), y.mean(0)
    y = y - centre  # W2 is translation-equivariant; centring keeps float32 distances accurate
    atoms, owner = k_means(y, n, config.restarts, config.max_iterations, generator)
    plan = _Plan(np.arange(count), owner, np.full(count, 1 / count))
    if config.weights == "uniform" and n > 1:
        measures = Measures([y], np.ones(1))
        atoms, plan = _optimal_plan(measures, [np.arange(count)], (atoms, owner), config, generator)
    return _result(atoms, plan, y, centre, _random_w2(y, config, generator))


def _of_several_measures(
    y: Array, rows: list[NDArray[np.int64]], config: BarycenterConfig, generator: torch.Generator
) -> Barycenter:
    """rows: the rows of y in each measure."""
    sizes = np.array([len(part) for part in rows], dtype=np.float64)
    proportional = config.group_weights == "proportional"
    shares = sizes / sizes.sum() if proportional else np.full(len(rows), 1 / len(rows))
    means = np.stack([y[part].mean(0) for part in rows])
    # Moving group k by t moves the barycenter by lambda_k t, so the search may centre each group.
    centred, centre = y.copy(), shares @ means
    for part, mean in zip(rows, means, strict=True):
        centred[part] -= mean
    start = k_means(centred, config.ipc, config.restarts, config.max_iterations, generator)
    measures = Measures([centred[part] for part in rows], shares)
    atoms, plan = _optimal_plan(measures, rows, start, config, generator)
    y = y - centre
    shifted = Measures([y[part] for part in rows], shares)
    return _result(atoms, plan, y, centre, _random_w2(y, config, generator, shifted))


def _optimal_plan(
    measures: Measures,
    rows: list[NDArray[np.int64]],
    start: tuple[Array, NDArray[np.int64]],
    config: BarycenterConfig,
    generator: torch.Generator,
) -> tuple[Array, _Plan]:
    """Atoms and plan T = sum_k lambda_k T_k; rows: the class's rows of each measure's points."""
    atoms, label = start
    masses = np.bincount(label, minlength=config.ipc) / len(label)
    best = free_support_barycenter(measures, config, [(atoms, masses)], generator)
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
    group_measures: Measures | None = None,
) -> float:
    """Mean of sum_k lambda_k W2^2 over random atoms; without ``group_measures``, of W2^2.

    With free weights, the atoms get their Voronoi masses; for several measures, those of the pooled
    points.
    """
    n, free, costs = config.ipc, config.weights == "free", []
    measures = group_measures or Measures([y], np.ones(1))
    for _ in range(RANDOM_DRAWS):
        atoms = y[torch.randperm(len(y), generator=generator)[:n].numpy()]
        squared = squared_distances(atoms, y)
        if free and group_measures is None:  # each point goes to its nearest atom
            costs.append(float(squared.min(0).mean()))
            continue
        masses = np.bincount(squared.argmin(0), minlength=n) / len(y)
        costs.append(evaluate(measures, atoms, masses if free else np.full(n, 1 / n)).value)
    return float(np.mean(costs))
