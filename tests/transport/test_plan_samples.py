"""A sample of a plan stands for all of it."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from wdistill.core.seeds import stream
from wdistill.transport.plan import LEAST_ENTRIES, Plan


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Each atom has some entries of any mass; an image may be shared by several atoms."""
    counts = draw(st.lists(st.integers(1, 12), min_size=1, max_size=6))
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    total = len(owner)
    parts = draw(st.lists(st.integers(1, 1000), min_size=total, max_size=total))
    mass = torch.tensor(parts, dtype=torch.float32)
    rows = draw(st.lists(st.integers(0, 99), min_size=total, max_size=total))
    return Plan(torch.tensor(rows), owner, mass / mass.sum(), len(counts))


def masses(plan: Plan) -> torch.Tensor:
    return torch.zeros(plan.atoms).index_add_(0, plan.owner, plan.mass)


@given(plans(), st.integers(1, 80), st.integers(0, 9))
def test_a_sample_keeps_every_atoms_mass(plan: Plan, most: int, seed: int) -> None:
    sample = plan.sample(most, stream(seed, "sample"))
    torch.testing.assert_close(masses(sample), masses(plan), rtol=1e-5, atol=0)
    torch.testing.assert_close(sample.mass.sum(), torch.tensor(1.0))
    assert (sample.mass > 0).all()


@given(plans(), st.integers(1, 80), st.integers(0, 9))
def test_a_sample_has_some_of_the_entries_and_enough_of_each_atom(
    plan: Plan, most: int, seed: int
) -> None:
    sample = plan.sample(most, stream(seed, "sample"))
    before = torch.bincount(plan.owner, minlength=plan.atoms)
    after = torch.bincount(sample.owner, minlength=plan.atoms)
    assert sample.atoms == plan.atoms
    assert (after <= before).all()
    assert (after >= before.clamp(max=LEAST_ENTRIES)).all()
    assert len(sample.rows) <= most + (LEAST_ENTRIES + 1) * plan.atoms
    entries = list(zip(plan.rows.tolist(), plan.owner.tolist(), strict=True))
    for entry in zip(sample.rows.tolist(), sample.owner.tolist(), strict=True):
        entries.remove(entry)  # each at most as often as it was there


@given(plans(), st.integers(0, 9))
def test_a_sample_as_large_as_the_plan_is_the_plan(plan: Plan, seed: int) -> None:
    most = int((len(plan.rows) / masses(plan).min()).ceil())
    sample = plan.sample(most, stream(seed, "sample"))
    assert torch.equal(sample.rows, plan.rows)
    assert torch.equal(sample.owner, plan.owner)
    torch.testing.assert_close(sample.mass, plan.mass)
