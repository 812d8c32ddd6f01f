"""Where to compute, and with how many processes."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

from wdistill._version import __version__
from wdistill.config import Device, Precision, Tracker
from wdistill.errors import OptionError


def open_accelerator(
    precision: Precision, device: Device, track: Tracker | None = None, folder: Path = Path()
) -> Accelerator:
    """track: where numbers can be followed, kept in ``folder`` if it needs one.

    Raises OptionError if PyTorch sees no such device or the tracker's package is not installed.
    """
    if track is not None and find_spec(track) is None:
        raise OptionError(
            f"`runtime.track={track}` needs the package {track!r}; `pip install {track}`"
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError(
            "`runtime.device` is 'cuda' but PyTorch sees no CUDA device; choose auto or cpu"
        )
    if device == "mps" and not torch.backends.mps.is_available():
        raise OptionError(
            "`runtime.device` is 'mps' but PyTorch sees no MPS device; choose auto or cpu"
        )
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


@contextmanager
def training_ends(accelerator: Accelerator) -> Iterator[None]:
    """Close trackers however the work inside ends. Where one of several processes fails, the others
    may be waiting for it: their process group is left to whoever started them.
    """
    try:
        yield
    except BaseException:
        if accelerator.num_processes == 1:
            accelerator.end_training()
        raise
    accelerator.end_training()


# From malloc.h: parameter, value in bytes.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = (-1, 2**31 - 1), (-2, 2**26), (-3, 2**25)


def keep_freed_memory() -> None:
    """Let glibc's malloc keep what is freed instead of giving it back to the kernel.

    Every step of training or synthesis frees and allocates the same activations, and a CPU would
    map, zero and unmap their pages each time: at 32 px that is a quarter of a step's time. Does
    nothing where the C library is another one.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in (_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD):
            mallopt(parameter, value)


PACKAGES = (
    "torch", "transformers", "datasets", "huggingface_hub", "accelerate", "POT", "numpy", "pillow",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of Python, wdistill and the packages that a result depends on."""
    return {
        "python": platform.python_version(),
        "wdistill": __version__,
        **{name: version(name) for name in PACKAGES},
    }


def device_name(device: torch.device) -> str:
    """E.g. ``cuda (NVIDIA H100)`` or ``cpu (AMD EPYC)``."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        return f"cpu ({_cpu_model()})"
    return str(device.type)


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
