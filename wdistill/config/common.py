"""What several groups of settings share."""

from __future__ import annotations

from typing import get_args

from wdistill.core.settings import Option, Precision, between

CROP = between(0.01, 1)  # share of the image's area
SEED = Option("Of everything random. [source: convention]", "--seed", between(0, 2**31 - 1))
PRECISION = Option(
    "bf16 forward passes in training and synthesis. [source: Accelerate]",
    "--mixed-precision",
    get_args(Precision),
)
