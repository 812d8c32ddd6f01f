"""As many images at once as the memory of a device holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor

from wdistill.errors import MemoryLimitError

T = TypeVar("T")
_SIGNS = ("CUDA error: out of memory", "STATUS_ALLOC_FAILED")  # the latter by cuBLAS and cuDNN


class Capacity:
    """The number of images that fit into memory at once: all, until a device runs out of it.

    Then the work is repeated with half as many images until it fits, and later work begins with
    that number. ``most`` is None as long as everything has fitted.
    """

    def __init__(self) -> None:
        self.most: int | None = None

    def run(self, work: Callable[[int], T], count: int) -> T:
        """Call ``work(most)``, which treats ``count`` images, at most ``most`` of them at once.

        It may be called several times, so it must have no side effects and draw nothing at random.

        Raises:
            MemoryLimitError: Not even one image at a time fits.
        """
        while True:
            most = max(1, count if self.most is None else min(self.most, count))
            try:
                return work(most)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if most == 1:
                    raise MemoryLimitError(_too_large(error)) from error
            # Outside the except clause: there the error would keep the tensors of its frames alive.
            self.most = (most + 1) // 2
            clear_device_cache(garbage_collection=True)

    def map(self, function: Callable[[Tensor], T], batch: Tensor) -> list[T]:
        """``function`` of consecutive parts of ``batch``, or of all of it at once if that fits."""
        return self.run(lambda most: [function(part) for part in batch.split(most)], len(batch))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device, or the CPU's allocator, had too little memory."""
    if isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error):
        return True
    return any(sign in str(error) for sign in _SIGNS)


def _too_large(error: RuntimeError) -> str:
    text = " ".join(str(error).split())[:120]
    return (
        f"not even one image at a time fits into the device's memory ({text}); "
        "lower `data.resolution` or choose a smaller network"
    )
