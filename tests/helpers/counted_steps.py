"""Counts of small pieces of work on the pretended device, as JSON; for tests/integration."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from functools import partial

import torch
from accelerate import Accelerator

from helpers.counts import Count, CountedStages, counted, of_images, per_step
from helpers.pretend import NAME, install, pretended

SIDE = 8


def _product(rows: int, inner: int, columns: int) -> torch.Tensor:
    return torch.ones(rows, inner, device=f"{NAME}:0") @ torch.ones(
        inner, columns, device=f"{NAME}:0"
    )


def main() -> None:
    install()
    os.environ["ACCELERATE_TORCH_DEVICE"] = f"{NAME}:0"
    with pretended():
        few, many, more = (
            CountedStages(SIDE, images, "convnet-w64", Accelerator()) for images in (2, 4, 6)
        )
        tensor = torch.ones(100, device=f"{NAME}:0")
    steps = {images: per_step(stages.forward) for images, stages in ((2, few), (4, many))}
    found: dict[str, Count] = {
        "one step": counted(partial(few.forward, 1)),
        "two steps": counted(partial(few.forward, 2)),
        "few images": steps[2],
        "many images": steps[4],
        "more images, told": of_images((2, steps[2]), (4, steps[4]), 6),
        "more images": per_step(more.forward),
        "addition": counted(lambda: tensor + tensor),
        "sum": counted(tensor.sum),
        "item of the sum": counted(lambda: tensor.sum().item()),
        "product": counted(partial(_product, 4, 8, 16)),
        "on the host": counted(lambda: torch.ones(3) + torch.ones(3)),
        "student": per_step(few.student),
        "target": per_step(few.target),
        "nearest": per_step(few.nearest),
        "soft": per_step(few.soft),
        "views": per_step(few.views),
    }
    print(json.dumps({name: asdict(count) for name, count in found.items()}))
    sys.stdout.flush()
    os._exit(0)  # PyTorch ends badly with tensors of a backend in Python


if __name__ == "__main__":
    main()
