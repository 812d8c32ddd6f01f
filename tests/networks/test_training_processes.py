"""A teacher that two processes train is the one that a single process trains, but for rounding."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from helpers.ranks import ranks
from helpers.trained import trained
from safetensors.torch import load_file

SCRIPT = """
import os, sys
from accelerate import Accelerator
from pathlib import Path
from safetensors.torch import save_file
from helpers.trained import trained
accelerator = Accelerator(cpu=True)
folder = Path({folder!r})
path = folder / f"epoch-{{accelerator.process_index}}"
state = trained({name!r}, {batch}, {epochs}, accelerator, path)
print("trained", flush=True)
if accelerator.is_main_process:
    save_file(state, folder / "state.safetensors")
"""


@pytest.mark.parametrize(
    ("name", "batch", "epochs", "tolerance"),
    [
        ("resnet10-w16", 120, 1, 1e-4),  # a single step: all of its numbers
        pytest.param(  # AdamW's first step is the rate, however small the gradient
            "vit", 120, 1, 0.03, marks=pytest.mark.slow
        ),
        pytest.param("resnet10-w16", 30, 1, 0.01, marks=pytest.mark.slow),  # rounding is amplified
    ],
)
def test_two_processes_train_the_teacher_of_one(
    name: str, batch: int, epochs: int, tolerance: float, tmp_path: Path
) -> None:
    """Above all the running statistics, which were of half of the batch."""
    one = trained(name, batch, epochs, Accelerator(cpu=True), tmp_path / "epoch")
    said, codes = ranks(
        SCRIPT.format(folder=str(tmp_path), name=name, batch=batch, epochs=epochs), 2
    )
    assert codes == [0, 0], said
    assert said.split() == ["trained"] * 2  # and no warning of unused parameters
    two = load_file(tmp_path / "state.safetensors")
    for key, value in one.items():
        if "running" in key or (batch == 120 and value.dim() > 1):
            unit = value.float().norm().clamp(min=1e-3)
            assert float((two[key].float() - value.float()).norm() / unit) < tolerance, key
        assert torch.isfinite(two[key]).all()
    assert two["mask_token"].tolist() == [1, 1, 1]


def test_nothing_of_the_training_stays_in_memory(tmp_path: Path) -> None:
    def optimizers() -> int:
        gc.collect()
        return sum(isinstance(o, torch.optim.Optimizer) for o in gc.get_objects())

    before = optimizers()
    accelerator = Accelerator(cpu=True)
    trained("resnet10-w16", 120, 1, accelerator, tmp_path / "epoch")
    assert optimizers() == before
