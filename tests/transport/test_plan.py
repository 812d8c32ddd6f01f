"""What transport hands to the later stages survives its files; stored atoms are found again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wdistill.core.units import Stage, class_units
from wdistill.transport.plan import (
    STAGE,
    Atoms,
    ClassTransport,
    Plan,
    TransportUnit,
    stored_atoms,
)

CLASSES, IPC, KEY = 10, 2, "0123456789abcdef"


def transport_of(label: int, layers: tuple[int, ...] = (3, 5)) -> ClassTransport:
    plan = Plan(torch.arange(4), torch.tensor([0, 0, 1, 1]), torch.full((4,), 0.25), IPC)
    return ClassTransport(
        atoms=Atoms(
            torch.full((IPC, 3), float(label)),
            torch.full((IPC,), 1 / IPC),
            torch.tensor([2 * label, 2 * label + 1]),
        ),
        plan=plan,
        spread=1.25,
        means=tuple(torch.full((channels,), 1.0 + channels) for channels in layers),
        variances=tuple(torch.full((channels,), 2.0 + channels) for channels in layers),
        grey=label % 2 == 1,
        w2=0.1,
        w2_random=0.3,
    )


def write_units(work: Path, images_per_step: int, key: str = KEY) -> int:
    """As the transport stage does; the atoms of class c are at c."""
    units = class_units(CLASSES, IPC, images_per_step)
    for unit in units:
        result = TransportUnit({label: transport_of(label) for label in unit.classes})
        Stage(STAGE, key, TransportUnit).write(work, unit, result)
    return len(units)


@pytest.mark.parametrize("images_per_step", [1, 5, 100])
def test_atoms_are_found_in_any_grouping_of_the_classes(
    images_per_step: int, tmp_path: Path
) -> None:
    write_units(tmp_path, images_per_step)
    stored = stored_atoms(tmp_path, KEY, CLASSES)
    assert stored is not None
    assert [float(atoms.positions[0, 0]) for atoms in stored] == list(range(CLASSES))
    assert [atoms.nearest.tolist() for atoms in stored] == [
        [2 * c, 2 * c + 1] for c in range(CLASSES)
    ]


def test_atoms_of_another_key_or_of_some_classes_are_not_taken(tmp_path: Path) -> None:
    count = write_units(tmp_path, 5)
    assert stored_atoms(tmp_path, "another", CLASSES) is None
    (tmp_path / f"{STAGE}-{count - 1:05d}.safetensors").write_bytes(b"damaged")
    assert stored_atoms(tmp_path, KEY, CLASSES) is None


@pytest.mark.parametrize("layers", [(), (4,), (3, 5)])
def test_a_class_comes_back_from_its_tensors_as_it_was(layers: tuple[int, ...]) -> None:
    unit = TransportUnit({3: transport_of(3, layers), 12: transport_of(12, layers)})
    again = TransportUnit.from_tensors(unit.to_tensors())
    assert list(again.classes) == [3, 12]
    for label, before in unit.classes.items():
        after = again.classes[label]
        for name in ("positions", "weights", "nearest"):
            assert torch.equal(getattr(after.atoms, name), getattr(before.atoms, name))
        for name in ("rows", "owner", "mass"):
            assert torch.equal(getattr(after.plan, name), getattr(before.plan, name))
        assert after.plan.atoms == IPC
        assert (after.spread, after.w2, after.w2_random) == (1.25, 0.1, 0.3)
        assert after.grey is before.grey
        for ours, theirs in ((after.means, before.means), (after.variances, before.variances)):
            assert len(ours) == len(layers)
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
