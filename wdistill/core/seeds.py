"""Random streams that depend on what is drawn, not on the order of draws or the process."""

from __future__ import annotations

import hashlib

import torch


def stream_seed(seed: int, *keys: str | int) -> int:
    """63-bit seed of the stream named by ``keys``: the head of SHA-256 over seed and keys."""
    text = "/".join(str(part) for part in (seed, *keys))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *keys: str | int) -> torch.Generator:
    """CPU generator of the stream named by ``keys``, e.g. ``stream(0, "synthesis", class_index)``.

    Always on the CPU, so that the same numbers are drawn for every device.
    """
    generator = torch.Generator()
    generator.manual_seed(stream_seed(seed, *keys))
    return generator
