"""Properties of k-means that hold for any points."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.cluster import KMeans

from wdistill.core.seeds import stream
from wdistill.transport.kmeans import Array, Labels, k_means, means, plus_plus, starts_for

RESTARTS, ROUNDS = 8, 100  # as by default
WHOLE = st.integers(-100, 100).map(float)  # so that equal points and equal distances are common


@st.composite
def problems(draw: st.DrawFn, most: int = 40) -> tuple[Array, int, int]:
    """Points of mean 0, a number of atoms, a seed."""
    count, dimension = draw(st.integers(1, most)), draw(st.integers(1, 4))
    points = draw(arrays(np.float64, (count, dimension), elements=WHOLE)) / 10
    return points - points.mean(0), draw(st.integers(1, count)), draw(st.integers(0, 9))


def solve(y: Array, n: int, seed: int) -> tuple[Array, Labels]:
    return k_means(y, n, RESTARTS, ROUNDS, stream(seed, "k-means"))


def cost(y: Array, atoms: Array) -> float:
    """The mean squared distance to the nearest atom."""
    return float(((y[:, None] - atoms) ** 2).sum(2).min(1).mean())


def most_rounding(y: Array) -> float:
    """Distances are computed in float32 first."""
    return 1e-5 * float((y**2).sum(1).mean()) + 1e-9


@given(problems())
def test_every_atom_is_the_mean_of_the_points_it_serves(problem: tuple[Array, int, int]) -> None:
    y, n, seed = problem
    atoms, label = solve(y, n, seed)
    assert atoms.shape == (n, y.shape[1])
    assert np.bincount(label, minlength=n).min() >= 1
    np.testing.assert_allclose(atoms, means(y, label, n), atol=1e-12)
    own = ((y - atoms[label]) ** 2).sum(1).mean()
    assert own == pytest.approx(cost(y, atoms), rel=1e-9, abs=1e-12)


@given(problems())
def test_it_ends_no_higher_than_it_starts(problem: tuple[Array, int, int]) -> None:
    y, n, seed = problem
    points = torch.from_numpy(y).float()
    starts = plus_plus(points, n, starts_for(n, RESTARTS), stream(seed, "k-means"))
    lowest = min(cost(y, start.double().numpy()) for start in starts)
    assert cost(y, solve(y, n, seed)[0]) <= lowest + most_rounding(y)


@given(problems(most=12))
def test_no_single_move_of_a_point_helps(problem: tuple[Array, int, int]) -> None:
    y, n, seed = problem
    atoms, label = solve(y, n, seed)
    sizes, lowest = np.bincount(label, minlength=n), cost(y, atoms)
    for point, to in product(range(len(y)), range(n)):
        if sizes[label[point]] > 1 and to != label[point]:
            moved = label.copy()
            moved[point] = to
            centres = means(y, moved, n)
            assert ((y - centres[moved]) ** 2).sum(1).mean() >= lowest - most_rounding(y)


@given(problems(), st.integers(0, 9))
def test_it_is_hardly_worse_than_scikit_learn(problem: tuple[Array, int, int], other: int) -> None:
    """Which is given as many starts, and draws others; an atom has four points or more."""
    y, n, seed = problem
    n = max(1, min(n, len(np.unique(y, axis=0)) // 4))
    theirs = KMeans(n, n_init=starts_for(n, RESTARTS), random_state=other).fit(y)
    assert cost(y, solve(y, n, seed)[0]) <= 1.1 * theirs.inertia_ / len(y) + most_rounding(y)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(0, 9))
def test_far_clouds_are_found_in_any_order(sizes: list[int], seed: int) -> None:
    cloud = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(cloud))
    angle = 2 * np.pi * cloud / len(sizes)
    y = 100 * np.stack([np.cos(angle), np.sin(angle)], 1) + rng.uniform(-1, 1, (len(cloud), 2))
    y -= y.mean(0)
    _, label = solve(y[order], len(sizes), seed)
    pairs = set(zip(cloud[order].tolist(), label.tolist(), strict=True))
    assert len(pairs) == len(sizes)  # a cloud has one atom, and an atom one cloud
