"""A GPU is asked to compute the same every time; a CPU does so already and is left alone."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from helpers.environment import environment

from wdistill.core.machine.numerics import network_precision, repeatable


def state() -> dict[str, bool]:
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warns": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fills": torch.utils.deterministic.fill_uninitialized_memory,
        "benchmark": torch.backends.cudnn.benchmark,
        "tf32": torch.backends.cuda.matmul.allow_tf32,
    }


@pytest.mark.parametrize("benchmark", [True, False])
def test_a_gpu_computes_the_same_every_time(
    benchmark: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", benchmark)
    before = state()
    with repeatable(torch.device("cuda")):
        inside = state()
    assert (inside["deterministic"], inside["warns"]) == (True, True)
    assert (inside["fills"], inside["benchmark"], inside["tf32"]) == (False, False, False)
    assert state() == before


def test_tf32_is_for_networks_alone() -> None:
    before = state()
    with repeatable(torch.device("cuda")):
        with network_precision(torch.device("cuda")):
            assert state()["tf32"]
        assert not state()["tf32"]
    assert state() == before


@pytest.mark.parametrize("context", [repeatable, network_precision])
def test_a_cpu_is_left_alone(context: object) -> None:
    before = state()
    with context(torch.device("cpu")):  # type: ignore[operator]
        assert state() == before


@pytest.mark.parametrize("given", [None, ":16:8"])
def test_cublas_is_told_before_cuda_starts(given: str | None) -> None:
    """The variable is there when the accelerator is made, unless the user has set another value."""
    script = (
        "import os, torch\n"
        "import wdistill.core.devices as devices\n"
        "def made(*_, **__): raise ValueError(os.environ.get('CUBLAS_WORKSPACE_CONFIG'))\n"
        "devices.Accelerator = made\n"
        "try: devices.open_accelerator('no', 'cpu')\n"
        "except Exception as error: print(error.__cause__)\n"
    )
    variables = {} if given is None else {"CUBLAS_WORKSPACE_CONFIG": given}
    clean = {k: v for k, v in environment().items() if k != "CUBLAS_WORKSPACE_CONFIG"}
    done = subprocess.run(
        [sys.executable, "-c", script], env={**clean, **variables},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == (given or ":4096:8")
