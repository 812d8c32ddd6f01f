"""What of this machine is used, in a line, and what lies idle."""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch
from accelerate import Accelerator

from wdistill.core.devices import device_name
from wdistill.core.settings import Precision

MOST_THREADS = 16  # of a process for one kind of work
TENSOR_CORES = (8, 0)  # compute capability from which GPUs have TF32 and bf16: Ampere


def own_cores(accelerator: Accelerator, most: int = MOST_THREADS) -> int:
    """The share of this process of the cores that it may use, from 1 to ``most``."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes))
    return max(1, min(most, _cores() // processes))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # fewer than the machine has, in a container or a job
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def used(accelerator: Accelerator, precision: Precision, workers: int) -> Iterator[str]:
    """Lines for the log.

    Args:
        accelerator: The device and the processes.
        precision: Of the networks.
        workers: That decode images, threads or processes, for each process of the job.
    """
    device, count = accelerator.device, accelerator.num_processes
    modern = device.type == "cuda" and torch.cuda.get_device_capability(device) >= TENSOR_CORES
    numbers = {"no": "float32 (TF32 in networks)" if modern else "float32"}.get(
        precision, f"{precision} in networks"
    )
    processes = f", {count} processes" if count > 1 else ""
    decoding = f"{workers} worker{'s' if workers > 1 else ''} decoding images"
    yield f"device: {device_name(device)}, {numbers}{processes}, {decoding}"
    if device.type != "cuda":
        return
    gpus, here = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", count))
    if here < gpus:
        yield (
            f"device: {gpus - here} of the {gpus} GPUs that PyTorch sees here are not used; "
            f"`num_processes={gpus}` shares the work among all"
        )
    if modern and precision == "no":
        yield (
            "device: this GPU computes networks in bf16 in about half of the time and memory; "
            "`mixed_precision=bf16` asks for it, and results differ by its rounding"
        )
