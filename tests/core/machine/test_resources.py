"""What a user reads of the devices: what is used, and what lies idle."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from wdistill.core.machine.resources import used


def lines(
    monkeypatch: pytest.MonkeyPatch, gpus: int = 1, processes: int = 1, precision: str = "no",
    capability: tuple[int, int] = (9, 0),
) -> list[str]:  # fmt: skip
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    accelerator = SimpleNamespace(device=torch.device("cuda", 0), num_processes=processes)
    return list(used(accelerator, precision, 8))  # type: ignore[arg-type]


def test_a_cpu_in_one_line() -> None:
    accelerator = SimpleNamespace(device=torch.device("cpu"), num_processes=2)
    (line,) = used(accelerator, "no", 1)  # type: ignore[arg-type]
    assert line.startswith("device: cpu (")
    assert line.endswith("), float32, 2 processes, 1 worker decoding images")


def test_a_gpu_that_is_used_as_well_as_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lines(monkeypatch, precision="bf16") == [
        "device: cuda (H100), bf16 in networks, 8 workers decoding images"
    ]


def test_idle_gpus_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    (_, idle) = lines(monkeypatch, gpus=8, processes=2, precision="bf16")
    assert "6 of the 8 GPUs" in idle
    assert "`num_processes=8`" in idle
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")  # two such machines: all are used
    assert len(lines(monkeypatch, gpus=8, processes=16, precision="bf16")) == 1


def test_bf16_is_proposed_where_the_gpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    what, hint = lines(monkeypatch)
    assert "float32 (TF32 in networks)" in what
    assert "`mixed_precision=bf16`" in hint
    (what,) = lines(monkeypatch, capability=(7, 5))
    assert ", float32, " in what
