"""The barycenter of several measures: known optima, POT, a linear program, invariances."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.spatial.distance import cdist
from torch import Tensor

from wdistill.config import BarycenterConfig, Weights
from wdistill.core.seeds import stream
from wdistill.errors import NumericalError
from wdistill.transport.barycenter import Barycenter, GroupWeights, class_barycenter
from wdistill.transport.kmeans import k_means

Array = NDArray[np.float64]
SIZES = (40, 60, 80)
BOTH: tuple[Weights, ...] = ("free", "uniform")


def solve(
    y: Tensor,
    groups: Tensor,
    n: int,
    weights: Weights = "free",
    lambdas: GroupWeights = "equal",
    seed: int = 0,
) -> Barycenter:
    config = BarycenterConfig(ipc=n, weights=weights, group_weights=lambdas)
    return class_barycenter(y, config, stream(seed, "test"), groups)


def domains(seed: int = 0, dimensions: int = 3) -> tuple[Tensor, Tensor]:
    """180 points: three domains of unequal size, shape and place, four clumps in each."""
    generator = stream(seed, "domains")
    corners = 6 * torch.randn(4, dimensions, generator=generator, dtype=torch.float64)
    parts = []
    for k, size in enumerate(SIZES):
        stretch = 0.5 + torch.rand(dimensions, generator=generator, dtype=torch.float64)
        noise = torch.randn(size, dimensions, generator=generator, dtype=torch.float64)
        parts.append((corners[torch.arange(size) % 4] + noise) * stretch + 5.0 * k)
    return torch.cat(parts), torch.arange(3).repeat_interleave(torch.tensor(SIZES))


def parts_of(y: Tensor, groups: Tensor) -> list[Array]:
    return [y[groups == k].double().numpy() for k in groups.unique().tolist()]


def shares_of(parts: list[Array], lambdas: GroupWeights) -> Array:
    sizes = np.array([len(part) for part in parts], dtype=float)
    return sizes / sizes.sum() if lambdas == "proportional" else ot.unif(len(parts))


def objective(atoms: Array, weights: Array, parts: list[Array], shares: Array) -> float:
    weights = weights / weights.sum()
    values = [
        ot.emd2(weights, ot.unif(len(part)), cdist(atoms, part, "sqeuclidean")) for part in parts
    ]
    return float(shares @ np.array(values))


def of(found: Barycenter) -> tuple[Array, Array]:
    return found.atoms.double().numpy(), found.weights.double().numpy()


def by_position(found: Barycenter) -> tuple[Array, Array]:
    atoms, weights = of(found)
    order = np.lexsort(atoms.T[::-1])
    return atoms[order], weights[order]


# --- known optima -------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", BOTH)
@pytest.mark.parametrize("lambdas", ["equal", "proportional"])
def test_one_atom_is_the_weighted_mean_of_the_means(
    weights: Weights, lambdas: GroupWeights
) -> None:
    y, groups = domains()
    parts = parts_of(y, groups)
    shares = shares_of(parts, lambdas)
    expected = sum(share * part.mean(0) for share, part in zip(shares, parts, strict=True))
    found = solve(y, groups, 1, weights, lambdas)
    np.testing.assert_allclose(found.atoms[0].numpy(), expected, rtol=1e-5, atol=1e-5)
    assert float(found.weights[0]) == pytest.approx(1)


@pytest.mark.parametrize("weights", BOTH)
def test_two_clouds_around_half_and_two_and_a_half_meet_at_one_and_a_half(weights: Weights) -> None:
    noise = 0.1 * torch.randn(60, 2, generator=stream(3, "clouds"))
    y = torch.cat([0.5 + noise[:30], 2.5 + noise[30:]])
    found = solve(y, torch.arange(2).repeat_interleave(30), 4, weights)
    np.testing.assert_allclose(found.atoms.numpy(), 1.5, atol=0.25)
    assert found.w2 == pytest.approx(2.0, abs=0.05)  # both are 1 away in each of two dimensions


def mean_of_quantiles(parts: list[Array], shares: Array) -> tuple[Array, float]:
    """In 1-D the barycenter averages quantile functions: its points, and its objective."""
    lines = np.stack([np.sort(part[:, 0]) for part in parts])
    middle = shares @ lines
    return middle, float(shares @ ((lines - middle) ** 2).mean(1))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [2, 4, 6])
def test_uniform_atoms_on_a_line_are_means_of_quantiles(n: int, seed: int) -> None:
    y = torch.randn(72, 1, generator=stream(seed, "line"), dtype=torch.float64).exp()
    groups = torch.arange(3).repeat(24)
    middle, spread = mean_of_quantiles(parts_of(y, groups), ot.unif(3))
    blocks = middle.reshape(n, -1)
    found = solve(y, groups, n, "uniform")
    np.testing.assert_allclose(by_position(found)[0][:, 0], blocks.mean(1), rtol=1e-4)
    assert found.w2 == pytest.approx(spread + blocks.var(1).mean(), rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [2, 4, 6])
def test_free_atoms_on_a_line_quantise_the_mean_of_quantiles(n: int, seed: int) -> None:
    """F = spread of the quantile functions + W2^2 to their mean: k-means of that mean."""
    y = torch.randn(72, 1, generator=stream(seed, "line"), dtype=torch.float64).exp()
    groups = torch.arange(3).repeat(24)
    middle, spread = mean_of_quantiles(parts_of(y, groups), ot.unif(3))
    centred = (middle - middle.mean())[:, None]
    atoms, owner = k_means(centred, n, 100, 100, stream(0, "oracle"))
    optimum = spread + float(((centred - atoms[owner]) ** 2).mean())
    assert optimum * (1 - 1e-9) <= solve(y, groups, n).w2 <= 1.02 * optimum


# --- against other solvers ----------------------------------------------------------------------


@pytest.mark.parametrize("lambdas", ["equal", "proportional"])
@pytest.mark.parametrize("n", [4, 8])
def test_uniform_atoms_beat_pot(n: int, lambdas: GroupWeights) -> None:
    """Any of our seeds is below POT's mean over starts, and within 0.1% of its luckiest."""
    y, groups = domains()
    parts = parts_of(y, groups)
    shares, theirs = shares_of(parts, lambdas), []
    for seed in range(4):
        start = np.random.default_rng(seed).standard_normal((n, y.shape[1]))
        atoms = ot.lp.free_support_barycenter(
            parts, [ot.unif(len(part)) for part in parts], start, weights=shares
        )
        theirs.append(objective(atoms, ot.unif(n), parts, shares))
    ours = max(solve(y, groups, n, "uniform", lambdas, seed).w2 for seed in range(2))
    assert ours <= np.mean(theirs) * (1 + 1e-6)
    assert ours <= 1.001 * min(theirs)


@pytest.mark.parametrize("seed", range(3))
def test_no_other_weights_suit_the_free_atoms_much_better(seed: int) -> None:
    """The joint linear program over plans and weights, for the atoms that were found."""
    y, groups = domains(seed)
    parts, n = parts_of(y, groups), 5
    found = solve(y, groups, n)
    costs = [cdist(of(found)[0], part, "sqeuclidean") for part in parts]
    count = n * len(y)
    equations, right = np.zeros((len(y) + 3 * n, count + n)), np.zeros(len(y) + 3 * n)
    column = row = 0
    for k, part in enumerate(parts):
        for i in range(len(part)):  # plans are stored atom by atom
            equations[row, column + i : column + n * len(part) : len(part)] = 1
            right[row] = 1 / len(part)
            row += 1
        for j in range(n):
            at = len(y) + k * n + j
            equations[at, column + j * len(part) : column + (j + 1) * len(part)] = 1
            equations[at, count + j] = -1
        column += n * len(part)
    price = np.concatenate([*(cost.ravel() / 3 for cost in costs), np.zeros(n)])
    optimum = linprog(price, A_eq=equations, b_eq=right, bounds=(0, None)).fun
    assert optimum * (1 - 1e-6) <= found.w2 <= 1.02 * optimum


@pytest.mark.parametrize("seed", range(3))
def test_free_weights_come_as_close_as_equal_ones(seed: int) -> None:
    y, groups = domains(seed)
    free, uniform = (solve(y, groups, 6, weights) for weights in BOTH)
    assert free.w2 <= uniform.w2 * 1.001
    assert uniform.w2 < uniform.w2_random
    assert free.w2 < free.w2_random


# --- one measure, and the same measure again ----------------------------------------------------


@pytest.mark.parametrize("weights", BOTH)
def test_one_group_is_one_measure(weights: Weights) -> None:
    y, _ = domains()
    grouped = solve(y, torch.full((len(y),), 7), 5, weights)
    alone = class_barycenter(y, BarycenterConfig(ipc=5, weights=weights), stream(0, "test"))
    assert grouped.w2 == pytest.approx(alone.w2, rel=1e-9)
    torch.testing.assert_close(grouped.atoms, alone.atoms)


@pytest.mark.parametrize("weights", BOTH)
def test_a_measure_and_its_copies_have_the_barycenter_of_one(weights: Weights) -> None:
    y, _ = domains()
    copies = solve(y.repeat(3, 1), torch.arange(3).repeat_interleave(len(y)), 5, weights)
    alone = class_barycenter(y, BarycenterConfig(ipc=5, weights=weights), stream(0, "test"))
    assert copies.w2 == pytest.approx(alone.w2, rel=0.01)


# --- invariances --------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", BOTH)
def test_translation_moves_the_atoms_and_nothing_else(weights: Weights) -> None:
    y, groups = domains()
    shift = torch.tensor([1000.0, -300.0, 7.0], dtype=torch.float64)
    here, there = solve(y, groups, 4, weights), solve(y + shift, groups, 4, weights)
    np.testing.assert_allclose(
        by_position(there)[0], by_position(here)[0] + shift.numpy(), atol=0.02
    )
    assert there.w2 == pytest.approx(here.w2, rel=1e-4)


@pytest.mark.parametrize("weights", BOTH)
def test_order_of_rows_and_names_of_groups_do_not_matter(weights: Weights) -> None:
    y, groups = domains()
    order = torch.randperm(len(y), generator=stream(5, "order"))
    names = torch.tensor([11, 3, 5])
    here, there = solve(y, groups, 4, weights), solve(y[order], names[groups][order], 4, weights)
    assert there.w2 == pytest.approx(here.w2, rel=1e-2)


def test_moving_one_group_moves_the_atoms_by_its_share() -> None:
    y, groups = domains()
    moved = y + 30.0 * (groups == 2)[:, None]
    here, there = solve(y, groups, 4, "uniform"), solve(moved, groups, 4, "uniform")
    np.testing.assert_allclose(by_position(there)[0], by_position(here)[0] + 10, atol=0.02)


# --- the plan -----------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", BOTH)
@pytest.mark.parametrize("lambdas", ["equal", "proportional"])
def test_the_plan_carries_each_group_to_the_atoms_and_costs_w2(
    weights: Weights, lambdas: GroupWeights
) -> None:
    y, groups = domains()
    found = solve(y, groups, 6, weights, lambdas)
    parts = parts_of(y, groups)
    shares = shares_of(parts, lambdas)
    atoms, masses = of(found)
    plan = np.zeros((len(y), 6))
    np.add.at(plan, (found.rows.numpy(), found.owner.numpy()), found.mass.double().numpy())
    expected = shares[groups.numpy()] / np.array(SIZES)[groups.numpy()]
    np.testing.assert_allclose(plan.sum(1), expected, rtol=1e-4)
    np.testing.assert_allclose(plan.sum(0), masses, rtol=1e-4)
    for k, share in enumerate(shares):  # every group fills every atom with the same weight
        np.testing.assert_allclose(plan[groups.numpy() == k].sum(0), share * masses, atol=1e-6)
    assert (plan * cdist(y.numpy(), atoms, "sqeuclidean")).sum() == pytest.approx(
        found.w2, rel=1e-4
    )
    assert objective(atoms, masses, parts, shares) == pytest.approx(found.w2, rel=1e-4)
    key = found.rows * 6 + found.owner
    assert (key.diff() > 0).all()
    assert (found.mass > 0).all()
    np.testing.assert_allclose(plan.T @ y.numpy() / masses[:, None], atoms, atol=0.05)


@pytest.mark.parametrize("weights", BOTH)
def test_result_has_the_stated_types(weights: Weights) -> None:
    y, groups = domains()
    found = solve(y.float(), groups, 4, weights)
    assert found.atoms.dtype == found.weights.dtype == found.mass.dtype == torch.float32
    assert found.rows.dtype == found.owner.dtype == found.nearest.dtype == torch.int64
    assert float(found.weights.sum()) == pytest.approx(1, abs=1e-6)
    assert (found.weights > 0).all()
    assert len(set(found.nearest.tolist())) == 4


def test_same_stream_same_result() -> None:
    y, groups = domains()
    first, second = (solve(y, groups, 4) for _ in range(2))
    assert torch.equal(first.atoms, second.atoms)
    assert torch.equal(first.mass, second.mass)
    assert first.w2 == second.w2


# --- unequal and small groups, bad input --------------------------------------------------------


@pytest.mark.parametrize("weights", BOTH)
def test_a_group_with_fewer_points_than_atoms(weights: Weights) -> None:
    y, groups = domains()
    few = torch.cat([torch.arange(3), torch.arange(40, 180)])
    found = solve(y[few], groups[few], 6, weights)
    parts = parts_of(y[few], groups[few])
    assert objective(*of(found), parts, ot.unif(3)) == pytest.approx(found.w2, rel=1e-4)


def test_bad_input_is_refused() -> None:
    y, groups = domains()
    with pytest.raises(ValueError, match="groups of shape"):
        solve(y, groups[1:], 4)
    with pytest.raises(ValueError, match="180 features but 100000 atoms"):
        class_barycenter(y, _unchecked(100_000), stream(0, "test"), groups)
    y[3, 1] = float("nan")
    with pytest.raises(NumericalError, match="not finite"):
        solve(y, groups, 4)


def _unchecked(n: int) -> BarycenterConfig:
    config = BarycenterConfig()
    object.__setattr__(config, "ipc", n)
    return config
