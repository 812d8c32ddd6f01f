"""What two processes send each other on the pretended device, and what a user may hand over there.

    python -m helpers.pretended_group

NCCL exchanges tensors of GPUs only, and so does the group here; this process plays both.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from helpers.pretend import NAME, install, pretended

EXPECTED = {
    "of the main process": 3.5,
    "summed": [2.0, 4.0],
    "gathered": [[1, 2], [1, 2]],
    "sent": "abc",
    "written": [1.0, 2.0],
    "atoms": [[0.5], [2.5]],
}
CLOUDS = [[0.4], [0.6], [2.4], [2.6]]


def on_gpus_only(exchange: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def checked(tensor: Tensor, *_: object, **__: object) -> Tensor:
        if tensor.device.type != NAME:
            raise RuntimeError(f"No backend type associated with device type {tensor.device.type}")
        return exchange(tensor)

    return checked


def exchanged() -> dict[str, Any]:
    """As ``EXPECTED``, if all is right."""
    import wdistill
    from wdistill.core import processes
    from wdistill.core.files import read_tensors, write_tensors

    group: Any = SimpleNamespace(
        num_processes=2, process_index=0, is_main_process=True, device=torch.device(NAME, 0),
        gather=on_gpus_only(lambda tensor: torch.cat([tensor, tensor])),
        reduce=on_gpus_only(lambda tensor: 2 * tensor),
    )  # fmt: skip
    processes.meet = lambda _: None  # type: ignore[assignment]
    processes.broadcast = on_gpus_only(lambda tensor: tensor)
    groups = torch.tensor([0, 1, 0, 1])
    with pretended(), tempfile.TemporaryDirectory() as folder:
        path, device = Path(folder) / "tensors", group.device
        write_tensors(path, {"x": torch.tensor([1.0, 2.0]).to(device)}, {})
        clouds = torch.tensor(CLOUDS)
        found = wdistill.barycenter(clouds.to(device), 2, groups=groups.to(device))
        return {
            "of the main process": processes.main_process_value(3.5, group),
            "summed": _listed(processes.summed(torch.tensor([1.0, 2.0]), group)),
            "gathered": _listed(processes._gather([1, 2], group)),
            "sent": processes._broadcast_bytes(b"abc", 0, group).decode(),
            "written": _listed(read_tensors(path)[0]["x"]),
            "atoms": sorted([round(x, 3) for x in row] for row in _listed(found.atoms)),
        }


def _listed(tensor: Tensor) -> list[Any]:
    assert tensor.device.type == "cpu"
    return list(tensor.tolist())


def main() -> None:
    install()
    print(json.dumps(exchanged()))
    sys.stdout.flush()
    os._exit(0)  # PyTorch ends badly with tensors of a backend in Python


if __name__ == "__main__":
    main()
