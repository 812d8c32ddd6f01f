"""Where to compute, and with how many processes."""

from __future__ import annotations

from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

from wdistill.config import Device, Precision
from wdistill.errors import OptionError


def open_accelerator(precision: Precision, device: Device) -> Accelerator:
    """Raises OptionError if PyTorch sees no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError("--device is 'cuda' but PyTorch sees no CUDA device; choose auto or cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise OptionError("--device is 'mps' but PyTorch sees no MPS device; choose auto or cpu")
    # One process may wait for another for as long as a stage takes.
    patience = InitProcessGroupKwargs(timeout=timedelta(days=7))
    # Some backbones have parameters that no image uses, such as a mask token.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(
        cpu=device == "cpu", mixed_precision=precision, kwargs_handlers=[patience, unused]
    )
