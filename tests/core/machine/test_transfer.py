"""How tensors travel to a GPU; that they do is seen in tests/integration/test_device.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from wdistill.core.machine.transfer import to_device


class Travelling:
    """In place of a tensor: what is asked of it on the way."""

    def __init__(self, place: str) -> None:
        self.device, self.asked = torch.device(place), []  # type: ignore[var-annotated]

    def pin_memory(self) -> Travelling:
        self.asked.append("pinned")
        return self

    def to(self, device: torch.device, non_blocking: bool = False) -> Travelling:
        self.asked.append("without waiting" if non_blocking else "waiting")
        return self


@pytest.mark.parametrize(
    ("place", "device", "pinned"),
    [("cpu", "cuda", True), ("cuda", "cuda", False), ("cpu", "cpu", False), ("cpu", "mps", False)],
)
def test_the_host_waits_for_no_copy(
    place: str, device: str, pinned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA copies without the host only from pinned memory, and only the host's can be pinned."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    tensor: Any = Travelling(place)
    to_device(tensor, torch.device(device))
    assert tensor.asked == [*(["pinned"] if pinned else []), "without waiting"]


def test_no_graph_keeps_a_place_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would read there again when something else is there."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    tensor: Any = Travelling("cpu")
    with pytest.raises(RuntimeError, match="CUDA graph"):
        to_device(tensor, torch.device("cuda"))
    assert tensor.asked == []
    assert to_device(Travelling("cuda"), torch.device("cuda"))  # type: ignore[arg-type]
