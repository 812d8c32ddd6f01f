"""The checks of `first_hour.py` that look at steps of each stage: how long they take, how busy the
device is, and what happens when the memory does not suffice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

from benchmarks.first_hour_runs import Job, Result, device_of


def _stages(job: Job, size: int, images: int, precision: str = "no") -> Any:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from helpers.stages import Stages

    from wdistill.core.machine.numerics import before_cuda_starts

    before_cuda_starts()
    AcceleratorState._reset_state(reset_partial_state=True)  # of another precision
    network = "resnet18" if size >= 224 else "resnet10-w16"
    accelerator = Accelerator(cpu=device_of(job).type == "cpu", mixed_precision=precision)
    return Stages(size, images, network, accelerator)


def _synchronise() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _seconds(work: Callable[[], object]) -> float:
    _synchronise()
    began = time.perf_counter()
    work()
    _synchronise()
    return time.perf_counter() - began


def _step_ms(stage: Callable[[int], object], few: int, more: int, rounds: int) -> float:
    """Milliseconds of a step: of more steps less those of few, so that what happens once does not
    count; the median over the rounds.
    """
    stage(few)
    times = [_seconds(partial(stage, n)) for _ in range(rounds) for n in (few, more)]
    differences = [b - a for a, b in zip(times[::2], times[1::2], strict=True)]
    return round(1000 * median(differences) / (more - few), 3)


def steps(job: Job, size: int) -> Result:
    """Milliseconds of a step of each stage: of synthesis, students, label views and teacher with
    100 images, of the survey three batches of 100, of the test a batch of 256.
    """
    from helpers.stages import STAGES

    from wdistill.core.machine.numerics import repeatable

    images, side = job.size(100, 4), job.size(size, 16 if size < 64 else 24)
    few, more, rounds = job.size(2, 1), job.size(12, 2), job.size(3, 1)
    result: Result = {"size": side, "images": images}
    for name, precision in (("float32", "no"), ("bf16", "bf16")):
        stages = _stages(job, side, images, precision)
        with repeatable(stages.device):
            result[name] = {
                stage: _step_ms(getattr(stages, stage), few, more, rounds) for stage in STAGES
            }
    return result


def graphs(job: Job) -> Result:
    """Milliseconds of a step of synthesis and of a student without CUDA graphs and with, and how
    the images and weights then differ. On a CPU there are none.
    """
    from wdistill.core.machine.graphs import GraphSwitch
    from wdistill.core.machine.numerics import repeatable

    found: Result = {}
    few, more, rounds = job.size(4, 1), job.size(24, 2), job.size(3, 1)
    for size in (32, 64):
        stages, made = _stages(job, job.size(size, 16), job.size(100, 4)), []
        with repeatable(stages.device):
            for name in ("without", "with"):
                switch = stages.graphs = GraphSwitch(name == "with")
                found[f"{size} px, {name}"] = {
                    stage: _step_ms(getattr(stages, stage), few, more, rounds)
                    for stage in ("synthesis", "student")
                }
                made.append((stages.synthesis(more).pixels.short(), _weights(stages.student(more))))
        if not switch.on:
            raise RuntimeError("no graph could be recorded; the warning above says why")
        levels, weights = ((a - b).abs().float() for a, b in zip(*made, strict=True))
        found[f"{size} px, apart"] = {
            "levels": round(float(levels.mean()), 4), "levels_at_most": int(levels.max()),
            "weights_at_most": float(weights.max()),
        }  # fmt: skip
        if float(levels.mean()) > 1:
            raise RuntimeError(f"the images differ: {found}")
    return found


def _weights(model: Any) -> Any:
    """Parameters and statistics of a network in one row."""
    import torch

    return torch.cat([value.detach().cpu().flatten() for value in model.state_dict().values()])


def busy(job: Job) -> Result:
    """Of steps of synthesis: operations on the device, their milliseconds, and the share of the
    time that the device works. On a CPU these are its own operations.
    """
    import torch

    found: Result = {}
    kinds = torch.profiler.ProfilerActivity
    for size in (32, 224):
        stages = _stages(job, job.size(size, 16), job.size(100, 4))
        on_gpu = stages.device.type == "cuda"
        count = job.size(20, 2)
        stages.synthesis(count)
        elapsed = _seconds(partial(stages.synthesis, count))
        with torch.profiler.profile(activities=[kinds.CUDA if on_gpu else kinds.CPU]) as profile:
            stages.synthesis(count)
            _synchronise()
        events = [e for e in profile.events() if (e.device_type.name == "CUDA") == on_gpu]
        worked = sum(e.time_range.elapsed_us() if on_gpu else e.self_cpu_time_total for e in events)
        worked /= 1000
        found[str(size)] = {
            "operations": round(len(events) / count), "device_ms": round(worked / count, 3),
            "elapsed_ms": round(1000 * elapsed / count, 3),
            "busy": round(worked / (1000 * elapsed), 3),
        }  # fmt: skip
    return found


def memory(job: Job) -> Result:
    """A step at 1024 px for which the memory does not suffice is taken in parts, and gives the
    same images up to rounding.
    """
    from wdistill.core.devices import Capacity

    images, count = job.size(16, 8), job.size(2, 1)
    stages = _stages(job, job.size(1024, 32), images)
    whole = stages.synthesis(count, Capacity())
    capacity = Capacity()
    with _less_memory(stages, images // 4):
        parts = stages.synthesis(count, capacity)
    if capacity.limit is None or capacity.limit >= images:
        raise RuntimeError(f"nothing was split: {capacity.limit} of {images} images at once")
    levels = (whole.pixels.short() - parts.pixels.short()).abs().float()
    if float(levels.mean()) > 1:
        raise RuntimeError(f"the images differ by {float(levels.mean()):.2f} levels on average")
    return {
        "images": images, "at_once": capacity.limit, "levels": round(float(levels.mean()), 4),
        "levels_at_most": int(levels.max()),
    }  # fmt: skip


class _less_memory:
    """Within the context a GPU has 60 % of the memory that the work has taken so far, and the
    network on a CPU refuses more than ``images`` at once as a GPU would.
    """

    def __init__(self, stages: Any, images: int) -> None:
        self.stages, self.images = stages, images

    def __enter__(self) -> None:
        import torch

        if self.stages.device.type == "cuda":
            peak = torch.cuda.max_memory_reserved()
            total = torch.cuda.get_device_properties(self.stages.device).total_memory
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(0.6 * peak / total)
            return

        def refuse(_: object, arguments: tuple[Any, ...]) -> None:
            if len(arguments[0]) > self.images:
                raise torch.OutOfMemoryError("CUDA out of memory, as it is pretended")

        self.handle = self.stages.network.model.register_forward_pre_hook(refuse)

    def __exit__(self, *_: object) -> None:
        import torch

        if self.stages.device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0)
        else:
            self.handle.remove()


CHECKS = {
    "steps_32": partial(steps, size=32),
    "steps_64": partial(steps, size=64),
    "steps_224": partial(steps, size=224),
    "graphs": graphs,
    "busy": busy,
    "memory": memory,
}
