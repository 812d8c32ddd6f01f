"""How a GPU computes: the same every time, and TF32 in networks only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def before_cuda_starts() -> None:
    """cuBLAS reads this variable when it starts, and without it some of its products may differ
    from run to run (https://docs.nvidia.com/cuda/cublas/#results-reproducibility). What the user
    has set stays.
    """
    os.environ.setdefault(_WORKSPACE, ":4096:8")


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Within the context, a CUDA device computes the same from the same in every run.

    cuDNN may choose another algorithm for the same convolution, and the sums of some of its
    gradients and of attention's depend on the order in which threads finish. Where PyTorch has no
    other way it warns. The promise is for one model of GPU and the same versions, and as long as no
    batch had to be split for want of memory in one of the runs alone. Other devices stay as they
    are: on a CPU all of this is so already.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    filling: Any = torch.utils.deterministic
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        filling.fill_uninitialized_memory,
        cudnn.benchmark,
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    filling.fill_uninitialized_memory = False  # nothing here reads memory that it has not written
    cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        filling.fill_uninitialized_memory = before[2]
        cudnn.benchmark = before[3]


@contextmanager
def network_precision(device: torch.device) -> Iterator[None]:
    """Within the context, matrix products on a CUDA device may use TF32, which has the range of
    float32 and ten bits of mantissa; PyTorch lets convolutions use it anyway. It is for the passes
    of networks alone: the cosine transform and the matrices of views carry pixels, whose 255 levels
    it would blur.
    """
    if device.type != "cuda":
        yield
        return
    products = torch.backends.cuda.matmul
    before = products.allow_tf32
    products.allow_tf32 = True
    try:
        yield
    finally:
        products.allow_tf32 = before
