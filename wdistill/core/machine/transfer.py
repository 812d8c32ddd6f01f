"""Tensors on their way to a device, for which the host does not wait."""

from __future__ import annotations

import torch
from torch import Tensor

SHARE = 8  # of a device's free memory, what may stay there for later is one in so many parts


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on ``device``. The copy takes its turn among the device's other work.

    Only from pinned memory does the host not wait for that turn, and from there CUDA copies fastest
    (CUDA C++ Programming Guide, "Page-Locked Host Memory").

    Raises:
        RuntimeError: A CUDA graph is being recorded, which would keep the place of the copy on the
            host.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError("a tensor of the host cannot be part of a CUDA graph")
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def may_stay(size: int, device: torch.device) -> bool:
    """Whether ``size`` bytes are so little of the device's free memory that they may stay there
    until they are needed again. False where nobody tells what is free, and on a CPU, in whose
    memory they are.
    """
    free = getattr(torch.get_device_module(device), "mem_get_info", None)
    return device.type != "cpu" and free is not None and SHARE * size <= free(device)[0]
