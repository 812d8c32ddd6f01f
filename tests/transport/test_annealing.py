"""Annealing: every start ends where it would end alone, and the best of them are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wdistill.core.seeds import stream
from wdistill.transport import annealing
from wdistill.transport.annealing import FINALISTS, Measures, anneal
from wdistill.transport.kmeans import Array


def clumps() -> tuple[Array, Array]:
    """Four clumps of 25 points at the corners of a square, and their centres."""
    corners = np.array([[-4.0, -4.0], [-4.0, 4.0], [4.0, -4.0], [4.0, 4.0]])
    noise = 0.1 * torch.randn(4, 25, 2, generator=stream(0, "clumps"), dtype=torch.float64)
    points = (torch.from_numpy(corners)[:, None] + noise).numpy()
    points -= points.mean((0, 1))
    return points.reshape(-1, 2), points.mean(1)


@pytest.mark.parametrize("free", [False, True])
def test_ends_at_the_clumps(free: bool) -> None:
    points, centres = clumps()
    ends = anneal(Measures([points], np.ones(1)), 4, free, [], 2, stream(0, "anneal"))
    assert len(ends) == FINALISTS
    atoms, masses = ends[0]  # the best comes first
    assert np.sort(atoms @ [10.0, 1.0]) == pytest.approx(np.sort(centres @ [10.0, 1.0]), abs=0.05)
    assert masses == pytest.approx(np.full(4, 0.25), abs=1e-3)


@pytest.mark.parametrize("free", [False, True])
def test_starts_together_end_where_each_ends_alone(
    free: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = stream(1, "points")
    parts = [torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (30, 50)]
    measures = Measures([part.numpy() for part in parts], np.array([0.5, 0.5]))
    together = anneal(measures, 3, free, [parts[0][:3].numpy()], 2, stream(0, "anneal"))
    monkeypatch.setattr(annealing, "AT_ONCE", 1)
    alone = anneal(measures, 3, free, [parts[0][:3].numpy()], 2, stream(0, "anneal"))
    for (atoms, masses), (other, others) in zip(together, alone, strict=True):
        one, two = atoms[:, 0].argsort(), other[:, 0].argsort()  # equal ends may change places
        assert atoms[one] == pytest.approx(other[two], abs=1e-4)
        assert masses[one] == pytest.approx(others[two], abs=1e-4)
