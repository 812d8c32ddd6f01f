"""Where to compute, and with how many processes."""

from __future__ import annotations

from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

from wdistill.config import Device, Precision, Tracker
from wdistill.errors import OptionError


def open_accelerator(
    precision: Precision, device: Device, track: Tracker | None = None, folder: Path = Path()
) -> Accelerator:
    """track: where numbers can be followed, kept in ``folder`` if it needs one.

    Raises OptionError if PyTorch sees no such device or the tracker's package is not installed.
    """
    if track is not None and find_spec(track) is None:
        raise OptionError(f"--track {track} needs the package {track!r}; `pip install {track}`")
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError("--device is 'cuda' but PyTorch sees no CUDA device; choose auto or cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise OptionError("--device is 'mps' but PyTorch sees no MPS device; choose auto or cpu")
    # One process may wait for another for as long as a stage takes.
    patience = InitProcessGroupKwargs(timeout=timedelta(days=7))
    # Some backbones have parameters that no image uses, such as a mask token.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    # With neither, Accelerate takes each of several processes for the only one.
    cpu = device == "cpu" or (device == "auto" and not torch.accelerator.is_available())
    return Accelerator(
        cpu=cpu, mixed_precision=precision, kwargs_handlers=[patience, unused], log_with=track,
        project_dir=folder / "tracking" if track else None,
    )  # fmt: skip
