"""Device, processes, and the number of images that fit into memory at once."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor

from wdistill._version import __version__
from wdistill.core.machine.numerics import before_cuda_starts
from wdistill.core.settings import Device, Precision, Tracker
from wdistill.errors import MemoryLimitError, OptionError

logger = logging.getLogger(__name__)
T = TypeVar("T")
_SIGNS = (
    "CUDA error: out of memory",
    "MPS backend out of memory",
    "STATUS_ALLOC_FAILED",  # by cuBLAS and cuDNN
)


# What of Accelerate's own variables would change how a network is trained, with its neutral values.
_FLAG = ("", "0", "false", "no", "off", "n", "f")
_SETTINGS_OF_ACCELERATE = {
    "ACCELERATE_DYNAMO_BACKEND": ("", "no"),
    "ACCELERATE_FP8_BACKEND": ("", "no"),
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("", "1"),
    "ACCELERATE_MIXED_PRECISION": ("", "no"),
    "ACCELERATE_TORCH_DEVICE": ("",),
    "ACCELERATE_USE_DEEPSPEED": _FLAG,
    "ACCELERATE_USE_FSDP": _FLAG,
    "ACCELERATE_USE_MEGATRON_LM": _FLAG,
    "ACCELERATE_USE_PARALLELISM_CONFIG": _FLAG,
    "ACCELERATE_USE_SAGEMAKER": _FLAG,
}
_NEIGHBOURS = "LOCAL_WORLD_SIZE"
_USE_CPU = "ACCELERATE_USE_CPU"
# What libraries below read, and what makes float32 less than float32 there.
_LESS_PRECISE = (
    "DNNL_DEFAULT_FPMATH_MODE", "NVIDIA_TF32_OVERRIDE", "ONEDNN_DEFAULT_FPMATH_MODE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)  # fmt: skip


@contextmanager
def without_accelerate_settings() -> Iterator[None]:
    """While it is open, the environment has no variable of Accelerate, as `accelerate launch` sets
    them: it would read there what nobody has recorded.
    """
    names = [name for name in os.environ if name.startswith("ACCELERATE_")]
    values = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(values)


def less_precise() -> dict[str, str]:
    """Variables that make float32 less precise. Results depend on them, and so do their keys."""
    return {name: os.environ[name] for name in _LESS_PRECISE if os.environ.get(name)}


def open_accelerator(
    precision: Precision, device: Device, track: Tracker | None = None, folder: Path = Path()
) -> Accelerator:
    """Create the Accelerator of a run.

    The environment decides only which process this is, and whether "auto" is a CPU.

    Args:
        precision: Mixed precision of the networks.
        device: The device to use.
        track: Experiment tracker; None for none.
        folder: Folder for the tracker's files, if it writes any.

    Raises:
        OptionError: PyTorch sees no such device, the tracker's package is not installed, or the
            environment describes a process group that cannot form.
    """
    if track is not None and find_spec(track) is None:
        raise OptionError(
            f"`runtime.track={track}` needs the package {track!r}; `pip install {track}`"
        )
    _check_device(device)
    _check_group()
    _say_what_is_not_used(precision)
    before_cuda_starts()
    # One process may wait for another for as long as a stage takes.
    process_group = InitProcessGroupKwargs(timeout=timedelta(days=7))
    # With neither a GPU nor cpu=True, Accelerate takes each process for the only one.
    no_other = not (torch.cuda.is_available() or torch.backends.mps.is_available())
    asked = os.environ.get(_USE_CPU, "").lower() not in _FLAG
    cpu = device == "cpu" or (device == "auto" and (asked or no_other))
    try:
        with without_accelerate_settings():
            return Accelerator(
                cpu=cpu, mixed_precision=precision, kwargs_handlers=[process_group],
                log_with=track, project_dir=folder / "tracking" if track else None,
            )  # fmt: skip
    except (ImportError, NotImplementedError, RuntimeError, ValueError) as error:
        raise OptionError(
            f"Accelerate cannot start: {' '.join(str(error).split())[:200]}; check "
            "`runtime.device`, `mixed_precision` and the variables of distributed jobs"
        ) from error


def _check_device(device: Device) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError(
            "`runtime.device` is 'cuda' but PyTorch sees no CUDA device; choose auto or cpu"
        )
    if device == "mps" and not torch.backends.mps.is_available():
        raise OptionError(
            "`runtime.device` is 'mps' but PyTorch sees no MPS device; choose auto or cpu"
        )


def _check_group() -> None:
    """Raises OptionError unless the environment is that of one process or names all of a group."""
    values = {name: os.environ.get(name, "") for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE")}
    for name, value in {**values, _NEIGHBOURS: os.environ.get(_NEIGHBOURS, "")}.items():
        if not re.fullmatch(r"(-1|\d+)?", value.strip()):
            raise OptionError(f"{name} is {value!r} in the environment, not a number; unset it")
    local, rank, size = (int(value or -1) for value in values.values())
    if local == -1 and size <= 1:
        return
    lacking = [name for name in (*values, "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if lacking or not 0 <= rank < size:
        stated = ", ".join(f"{name}={value}" for name, value in values.items() if value)
        problem = f"lacks {', '.join(lacking)}" if lacking else "names no process of the group"
        raise OptionError(
            f"the environment speaks of several processes ({stated}) but {problem}; unset these, "
            "or start the processes with torchrun or `accelerate launch`"
        )


def _say_what_is_not_used(precision: Precision) -> None:
    if os.environ.get("RANK", "0") != "0":
        return
    stated = {name: os.environ.get(name, "") for name in _SETTINGS_OF_ACCELERATE}
    names = [
        f"{name}={value}"
        for name, value in stated.items()
        if value.lower() not in _SETTINGS_OF_ACCELERATE[name]
        and (name, value.lower()) != ("ACCELERATE_MIXED_PRECISION", precision)
    ]
    if names:
        logger.warning(
            f"not used: {', '.join(names)} of the environment; wdistill computes as "
            "`runtime.device` and `mixed_precision` say"
        )


@contextmanager
def training_ends(accelerator: Accelerator) -> Iterator[None]:
    """Close the trackers, however the work inside ends. If one of several processes fails, the
    others may be waiting for it: the launcher then closes the process group.
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
    """Let glibc's malloc keep freed memory instead of returning it to the kernel.

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


class Capacity:
    """The number of images that fit into memory at once: all, until a device runs out of memory.

    The work is then repeated with half as many images until it fits, and later work starts with
    that number. ``limit`` is None as long as everything has fitted.
    """

    def __init__(self) -> None:
        self.limit: int | None = None

    def run(self, work: Callable[[int], T], count: int) -> T:
        """Call ``work(limit)``, which processes ``count`` images, at most ``limit`` at once.

        It may be called several times, so it must have no side effects and no randomness.

        Raises:
            MemoryLimitError: Not even one image at a time fits.
        """
        while True:
            limit = max(1, count if self.limit is None else min(self.limit, count))
            try:
                return work(limit)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if limit == 1:
                    raise MemoryLimitError(_too_large(error)) from error
            # Outside the except clause: there the error would keep the tensors of its frames alive.
            self.limit = (limit + 1) // 2
            clear_device_cache(garbage_collection=True)

    def map(self, function: Callable[[Tensor], T], batch: Tensor) -> list[T]:
        """Apply ``function`` to ``batch`` at once if that fits, otherwise to consecutive parts."""
        return self.run(lambda limit: [function(part) for part in batch.split(limit)], len(batch))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device or the CPU's allocator ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error):
        return True
    return any(sign in str(error) for sign in _SIGNS)


def _too_large(error: RuntimeError) -> str:
    text = " ".join(str(error).split())[:120]
    return (
        f"not even one image at a time fits into the device's memory ({text}); "
        "lower `data.resolution` or choose a smaller network"
    )


def peak_memory() -> int:
    """Peak resident memory of this process in bytes; 0 if the system does not report it."""
    try:
        import resource  # noqa: PLC0415  # not on Windows
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
