"""Annealing: the first search for a free-support barycenter.

Entropic plans at a decreasing temperature, with one Sinkhorn scaling per update of the atoms. It
begins with many starts, of which the worse half is dropped several times. Free weights follow from
iterative Bregman projections (Benamou et al. 2015). All starts take a step together, as one matrix
product.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wdistill.transport.kmeans import Array, plus_plus, starts_for

# [own] CIFAR-10 features, IPC 10 to 100: 0.1 to 2 % below the best exact descent from N(0, 1).
HOTTEST, COLDEST = 0.1, 0.002  # temperatures, as shares of the starts' mean squared distance
ANNEALING = 100  # updates of the atoms from the hottest to the coldest
JITTER = 1e-3  # of the features' deviation
HALVINGS = 4  # of the starts, evenly spread over these updates
FINALISTS = 3  # starts that remain at the end of a search
AT_ONCE = 2**18  # numbers of a plan: as many starts at once; more would leave the cache


@dataclass(frozen=True)
class Measures:
    """K uniform measures and their weights.

    Attributes:
        points: Per measure (N_k, d) float64, mean near 0.
        shares: (K,) float64, lambda_k, sum 1.
    """

    points: Sequence[Array]
    shares: Array


@dataclass(frozen=True)
class _Annealed:
    """The states of S starts, which are annealed together.

    Attributes:
        atoms: (S, n, d) float32.
        potentials: (K, S, n) float32, v.
        costs: (S,) float32, up to a constant.
        masses: (S, n) float32.
    """

    atoms: Tensor
    potentials: Tensor
    costs: Tensor
    masses: Tensor

    def __len__(self) -> int:
        return len(self.atoms)

    def rows(self, index: Tensor) -> _Annealed:
        return _Annealed(
            self.atoms[index], self.potentials[:, index], self.costs[index], self.masses[index]
        )

    def split(self, count: int) -> Iterator[_Annealed]:
        """Parts of at most ``count`` starts."""
        parts = (self.atoms, self.potentials.transpose(0, 1), self.costs, self.masses)
        for atoms, potentials, costs, masses in zip(*(p.split(count) for p in parts), strict=True):
            yield _Annealed(atoms, potentials.transpose(0, 1), costs, masses)

    @classmethod
    def join(cls, parts: Iterable[_Annealed]) -> _Annealed:
        every = list(parts)
        return cls(
            torch.cat([part.atoms for part in every]),
            torch.cat([part.potentials for part in every], 1),
            torch.cat([part.costs for part in every]),
            torch.cat([part.masses for part in every]),
        )


def anneal(
    measures: Measures,
    n: int,
    free: bool,
    initial: Sequence[Array],
    restarts: int,
    generator: torch.Generator,
) -> list[tuple[Array, Array]]:
    """Atoms and weights of the starts that are best at the final temperature.

    The starts are ``initial`` and ``restarts`` of k-means++ (``starts_for``).
    """
    points = [torch.from_numpy(part).float() for part in measures.points]
    pooled = torch.cat(points)
    given = [torch.from_numpy(atoms).float()[None] for atoms in initial]
    drawn = plus_plus(pooled, n, starts_for(n, restarts), generator)
    starts = torch.cat([*given, drawn])
    variance = float(pooled.var(0, unbiased=False).sum())
    costs = [torch.cdist(pooled, atoms).min(1).values.square().mean() for atoms in starts]
    spread = max(float(min(costs)), JITTER * variance)
    # Two coinciding atoms would never separate.
    noise = JITTER * (variance / pooled.shape[1]) ** 0.5
    jitter = [torch.randn(atoms.shape, generator=generator) for atoms in starts]
    starts = starts + noise * torch.stack(jitter)
    state = _Annealed(
        starts,
        torch.zeros(len(points), len(starts), n),
        torch.zeros(len(starts)),
        torch.full((len(starts), n), 1 / n),
    )
    at_once = max(1, AT_ONCE // (n * max(map(len, points))))
    for step in range(ANNEALING if variance > 0 else 0):
        heat = spread * HOTTEST * (COLDEST / HOTTEST) ** (step / (ANNEALING - 1))
        state = _Annealed.join(
            _anneal_step(part, points, measures.shares, heat, free) for part in state.split(at_once)
        )
        if (step + 1) % (ANNEALING // HALVINGS) == 0:
            survivors = max(len(state) // 2, FINALISTS)
            state = state.rows(state.costs.argsort(stable=True)[:survivors])
    masses = state.masses.double() if free else torch.ones(len(state), n).double()
    masses /= masses.sum(1, keepdim=True)
    return list(zip(state.atoms.double().numpy(), masses.numpy(), strict=True))


def _anneal_step(
    state: _Annealed, points: Sequence[Tensor], shares: Array, heat: float, free: bool
) -> _Annealed:
    """One Sinkhorn scaling of the entropic plans at temperature ``heat``, then the atoms' update.

    A plan is softmax_j((v_kj - |y_ki - x_j|^2) / heat) / N_k. Scaling sets its masses per atom to
    b: 1/n each, or, if free, the weighted geometric mean over k of the plans' masses.
    """
    starts, count, width = state.atoms.shape
    flat = state.atoms.view(-1, width)
    norms = flat.square().sum(1, keepdim=True)
    plans, costs, masses = [], [], []  # (starts, n, N_k), and (starts, n)
    for part, potential in zip(points, state.potentials, strict=True):
        cost = torch.addmm(norms, flat, part.T, alpha=-2).view(starts, count, -1)
        plan = (potential[..., None] - cost).div_(heat).softmax(1)
        plans.append(plan)
        costs.append(cost)
        masses.append(plan.mean(2).clamp_(min=1e-9))
    part_shares = torch.from_numpy(shares).float()
    logs = torch.stack(masses).log()
    target = torch.tensordot(part_shares, logs, 1) if free else -float(np.log(count))
    change = target - logs
    moment, mass, total = torch.zeros_like(flat), torch.zeros(starts, count), torch.zeros(starts)
    for k, (part, plan, cost) in enumerate(zip(points, plans, costs, strict=True)):
        scaled = plan.mul_(change[k].exp()[..., None])
        scaled.div_(scaled.sum(1, keepdim=True))
        share = float(shares[k]) / len(part)
        moment.addmm_(scaled.view(starts * count, -1), part, alpha=share)
        mass += share * scaled.sum(2)
        total += share * cost.mul_(scaled).sum((1, 2))
    atoms = moment.view(state.atoms.shape) / mass.clamp(min=1e-12)[..., None]
    return _Annealed(atoms, state.potentials + heat * change, total, mass)
