"""What a step of each stage asks of a device: kernels, bytes and host waits, as JSON.

    python -m helpers.pretended_steps [SIZE] [IMAGES] [NETWORK]

Each stage is run with few and with more steps; the difference is that of the steps alone, without
what happens once. Looks at the loss of synthesis are left out.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from accelerate import Accelerator

from helpers.pretend import NAME, Seen, install, pretended
from helpers.stages import STAGES, Stages

BUDGET = {  # waits of a step; a step of a survey is a class of three batches
    "synthesis": 0, "student": 0, "replay": 0, "classic": 0, "dsa": 0, "teacher": 0, "survey": 1,
    "test": 0,
}  # fmt: skip


def per_step(stage: Callable[[int], None], few: int = 2, more: int = 6) -> dict[str, object]:
    seen: list[Seen] = []
    for steps in (few, more):
        with pretended() as counted:
            stage(steps)
        seen.append(counted)
    first, second = seen
    waits = second.waits - first.waits
    places = {" at ".join(key): count for key, count in waits.items() if "_look" not in key[1]}
    return {
        "kernels": (sum(second.kernels.values()) - sum(first.kernels.values())) / (more - few),
        "bytes": (second.bytes - first.bytes) / (more - few),
        "waits": {place: count / (more - few) for place, count in places.items()},
    }


def steps(
    size: int = 16, images: int = 8, network: str = "resnet10-w16", names: Sequence[str] = STAGES
) -> dict[str, Any]:
    """What a step of each stage asks of the device."""
    os.environ["ACCELERATE_TORCH_DEVICE"] = f"{NAME}:0"
    with pretended():
        stages = Stages(size, images, network, Accelerator())
    return {name: per_step(getattr(stages, name)) for name in names}


def main(size: str = "16", images: str = "8", network: str = "resnet10-w16") -> None:
    install()
    print(json.dumps(steps(int(size), int(images), network)))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
