"""Atoms that a run has stored are found whatever groups of classes its files hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wdistill.core.files import write_tensors
from wdistill.core.units import class_units
from wdistill.transport.atoms import STAGE, stored_atoms

CLASSES, IPC, KEY = 10, 2, "0123456789abcdef"


def write_units(work: Path, images_per_step: int, key: str = KEY) -> int:
    """As the transport stage does; the atoms of class c are at c."""
    units = class_units(CLASSES, IPC, images_per_step)
    for unit in units:
        tensors = {}
        for label in unit.classes:
            tensors[f"{label}.atoms"] = torch.full((IPC, 3), float(label))
            tensors[f"{label}.weights"] = torch.full((IPC,), 1 / IPC)
            tensors[f"{label}.nearest"] = torch.tensor([2 * label, 2 * label + 1])
        write_tensors(work / f"{STAGE}-{unit.index:05d}.safetensors", tensors, {"key": key})
    return len(units)


@pytest.mark.parametrize("images_per_step", [1, 5, 100])
def test_atoms_are_found_in_any_grouping_of_the_classes(
    images_per_step: int, tmp_path: Path
) -> None:
    write_units(tmp_path, images_per_step)
    stored = stored_atoms(tmp_path, KEY, CLASSES)
    assert stored is not None
    assert [float(atoms.positions[0, 0]) for atoms in stored] == list(range(CLASSES))
    assert [atoms.rows.tolist() for atoms in stored] == [[2 * c, 2 * c + 1] for c in range(CLASSES)]


def test_atoms_of_another_key_or_of_some_classes_are_not_taken(tmp_path: Path) -> None:
    count = write_units(tmp_path, 5)
    assert stored_atoms(tmp_path, "another", CLASSES) is None
    (tmp_path / f"{STAGE}-{count - 1:05d}.safetensors").write_bytes(b"damaged")
    assert stored_atoms(tmp_path, KEY, CLASSES) is None
