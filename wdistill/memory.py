"""How the process deals with freed memory."""

from __future__ import annotations

import ctypes
import sys

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
