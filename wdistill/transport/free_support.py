"""Free-support Wasserstein barycenter of several measures (Cuturi and Doucet 2014).

    min over X, b of  F = sum_k lambda_k W2^2(sum_j b_j delta_{x_j},  1/N_k sum_i delta_{y_ki})

with the weights b either free or all equal. There are two searches, one after the other:

- Annealing (wdistill/transport/annealing.py), which begins with many starts. From the same start it
  reaches lower minima than exact plans do.
- Descent with exact plans T_k (``ot.emd``): atoms X = sum_k lambda_k diag(1/b) T_k Y_k (Cuturi and
  Doucet 2014, alg. 2), and free weights by mirror descent along the plans' duals (their alg. 1).
  Steps that raise F are undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest

import numpy as np
import ot
import torch

from wdistill.config import BarycenterConfig
from wdistill.transport.annealing import FINALISTS, Measures, anneal
from wdistill.transport.kmeans import Array, k_means, squared_distances

FIRST_FALL, PRICED_FALL, LAST_FALL = (
    1e-4,
    1e-5,
    1e-6,
)  # relative decrease of F below which a search ends
FIRST_ROUNDS = 5  # of descent, before all but the finalists are dropped
NORMAL_STARTS = 3  # times the restarts, for several measures
FINE_ATOMS = 200  # of the barycenter that is coarsened to a start
LEAST_MASS = 1e-3  # of 1/n; an atom with less is moved to the heaviest one
TRIALS = 5  # halvings of a step on the weights before it is abandoned


@dataclass(frozen=True)
class Optimum:
    """Atoms and weights with the exact value of F.

    Attributes:
        atoms: (n, d) float64.
        weights: (n,) float64, sum 1.
        plans: Per measure (n, N_k) float64, the optimal plan, sum 1.
        duals: (n,) float64, a subgradient of F in the weights.
        value: F.
    """

    atoms: Array
    weights: Array
    plans: Sequence[Array]
    duals: Array
    value: float


def free_support_barycenter(
    measures: Measures,
    config: BarycenterConfig,
    starts: Sequence[tuple[Array, Array]],
    generator: torch.Generator,
) -> Optimum:
    """The barycenter of lowest F from several kinds of starts, with ``config.ipc`` atoms.

    The starts are ``starts``, pairs of atoms (n, d) and weights (n,) (ignored if weights are
    uniform); k-means++ starts on the pooled points (``starts_for``); for several measures,
    NORMAL_STARTS times ``config.restarts`` normal ones; and for free weights the coarsening of a
    barycenter with more atoms.
    """
    n, free = config.ipc, config.weights == "free"
    equal = np.full(n, 1 / n)
    candidates = [(atoms, weights if free else equal) for atoms, weights in starts]
    candidates += anneal(
        measures, n, free, [atoms for atoms, _ in starts], config.restarts, generator
    )
    if len(measures.points) > 1:
        # Starts near 0 couple the measures by direction, which starts near the points do not.
        deviation = np.sqrt(np.mean([(points**2).mean() for points in measures.points]))
        count, dimension = NORMAL_STARTS * config.restarts, measures.points[0].shape[1]
        normal = torch.randn(count, n, dimension, generator=generator)
        candidates += [(deviation * atoms, equal) for atoms in normal.double().numpy()]
    if free:
        candidates.append(_coarse_start(measures, config, generator))
    rounds = config.max_iterations
    exact = (evaluate(measures, atoms, weights) for atoms, weights in candidates)
    first_descents = (descend(start, measures, free, FIRST_ROUNDS, FIRST_FALL) for start in exact)
    finalists = nsmallest(FINALISTS, first_descents, key=lambda optimum: optimum.value)
    finalists = [descend(start, measures, free, rounds, FIRST_FALL) for start in finalists]
    best = min(finalists, key=lambda optimum: optimum.value)
    if not free:
        best = _descend_at_prices(best, measures, rounds)
    return descend(best, measures, free, rounds, LAST_FALL)


def _coarse_start(
    measures: Measures, config: BarycenterConfig, generator: torch.Generator
) -> tuple[Array, Array]:
    """k-means of a barycenter of many equal atoms. On a line this is the optimum, since there

    F(b, X) = F(barycenter) + W2^2(sum_j b_j delta_{x_j}, barycenter).
    """
    largest = max(len(points) for points in measures.points)
    fine = max(min(FINE_ATOMS, largest), config.ipc)
    atoms, _ = anneal(measures, fine, False, [], 1, generator)[0]
    for _ in range(3):  # exact plans restore the spread that the final temperature shrank
        optimum = evaluate(measures, atoms, np.full(fine, 1 / fine))
        atoms = _projection(measures, optimum.plans, optimum.weights)
    coarse, owner = k_means(atoms, config.ipc, config.restarts, config.max_iterations, generator)
    return coarse, np.bincount(owner, minlength=config.ipc) / fine


def evaluate(measures: Measures, atoms: Array, weights: Array) -> Optimum:
    """Exact plans, duals and F for given atoms and weights, by network simplex (``ot.emd``)."""
    costs = [squared_distances(atoms, points) for points in measures.points]
    solutions = [_plan(weights, cost) for cost in costs]
    plans = [plan for plan, _ in solutions]
    duals = sum(share * dual for share, (_, dual) in zip(measures.shares, solutions, strict=True))
    value = _value(measures, costs, plans)
    return Optimum(atoms, weights, plans, np.asarray(duals), value)


def _plan(weights: Array, cost: Array) -> tuple[Array, Array]:
    """Optimal plan (n, N) and its duals (n,). For equal weights, n N times the plan is integral."""
    n, count = cost.shape
    relative = n * weights
    equal = bool(np.allclose(relative, 1, rtol=1e-12))
    supply = count * (np.ones(n) if equal else relative)
    plan, log = ot.emd(supply, np.full(count, float(n)), cost, numItermax=10_000_000, log=True)
    plan = np.rint(plan) if equal else np.where(plan < 1e-9, 0.0, plan)
    return plan / (n * count), log["u"]


def _value(measures: Measures, costs: Sequence[Array], plans: Sequence[Array]) -> float:
    terms = zip(measures.shares, costs, plans, strict=True)
    return float(sum(share * (cost * plan).sum() for share, cost, plan in terms))


def _projection(measures: Measures, plans: Sequence[Array], weights: Array) -> Array:
    """X = sum_k lambda_k diag(1/b) T_k Y_k: the best atoms for given plans."""
    terms = zip(measures.shares, plans, measures.points, strict=True)
    moment = sum(share * (plan @ points) for share, plan, points in terms)
    result: Array = moment / weights[:, None]
    return result


def descend(
    start: Optimum, measures: Measures, free: bool, max_iterations: int, least_fall: float
) -> Optimum:
    """Alternate atoms, exact plans and (if free) weights until F decreases by a fraction of less
    than ``least_fall`` in a round.
    """
    best, step = start, 1.0
    for _ in range(max_iterations):
        previous = best.value
        if free:
            best, step = _move_weights(best, measures, step)
        atoms = _projection(measures, best.plans, best.weights)
        candidate = evaluate(measures, atoms, best.weights)
        best = candidate if candidate.value < best.value else best
        if best.value >= previous * (1 - least_fall):
            break
    return best


def _move_weights(best: Optimum, measures: Measures, step: float) -> tuple[Optimum, float]:
    """One mirror-descent step b exp(-t g) along the duals g, with t halved until F falls; also
    returns the next t.

    An atom that has lost its mass joins the heaviest one; exact plans then separate the two.
    """
    weights, atoms = best.weights, best.atoms
    if weights.min() < LEAST_MASS / len(weights):
        empty, large = int(weights.argmin()), int(weights.argmax())
        atoms, weights = atoms.copy(), weights.copy()
        atoms[empty] = atoms[large]
        weights[[empty, large]] = (weights[empty] + weights[large]) / 2
        repaired = evaluate(measures, atoms, weights)
        if repaired.value < best.value * (1 + LAST_FALL):
            best = repaired
    slope = best.duals - best.duals @ best.weights
    scale = float(np.abs(slope).max())
    for _ in range(TRIALS if scale > 0 else 0):
        weights = best.weights * np.exp(-step * slope / scale)
        candidate = evaluate(measures, best.atoms, weights / weights.sum())
        if candidate.value < best.value:
            return candidate, min(2 * step, 1.0)
        step /= 2
    return best, step


def _descend_at_prices(best: Optimum, measures: Measures, max_iterations: int) -> Optimum:
    """Exact plans with Hartigan's costs, for as long as F falls; equal weights.

    Because an atom of s points is their mean, a point that leaves it saves s / (s - 1) times its
    squared distance, and one that joins costs s / (s + 1) times. These costs escape many local
    minima of the descent with plain distances.
    """
    n, start = len(best.weights), best
    for _ in range(max_iterations):
        plans = []
        for share, points, plan in zip(measures.shares, measures.points, best.plans, strict=True):
            size = max(len(points) / (n * share), 1 + 1e-9)
            ownership = len(points) * plan  # share of each point that each atom owns
            price = squared_distances(best.atoms, points)
            price *= ownership * (size / (size - 1)) + (1 - ownership) * (size / (size + 1))
            plans.append(_plan(best.weights, price)[0])
        atoms = _projection(measures, plans, best.weights)
        costs = [squared_distances(atoms, points) for points in measures.points]
        value = _value(measures, costs, plans)
        if value >= best.value * (1 - PRICED_FALL):
            break
        best = Optimum(atoms, best.weights, plans, best.duals, value)
    return start if best is start else evaluate(measures, best.atoms, best.weights)
