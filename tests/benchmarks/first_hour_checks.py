"""The checks of `first_hour.py`. Each is given a scratch folder and returns what it has found; an
exception is a failure.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

Result = dict[str, Any]
PROJECT = Path(__file__).parents[2] / "pyproject.toml"
NUMBER = re.compile(r"\d+")
# Quick settings of a run: every stage, few steps, one kind of labels.
QUICK = (
    "--ipc", "2", "--teacher-epochs", "1", "--allow-weak-teacher", "--eval-seeds", "1",
    "--label-giver", "teacher", "--label-views", "2", "-q",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """folder: empty, for the check alone; device: auto, cpu or cuda."""

    folder: Path
    tiny: bool
    device: str

    def size(self, real: int, tiny: int) -> int:
        return tiny if self.tiny else real


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, NUMBER.findall(text)[:3]))


def _packages() -> tuple[dict[str, str], list[str]]:
    """Versions of the dependencies, and which of them are missing or too old."""
    found, lacking = {}, []
    for line in tomllib.loads(PROJECT.read_text())["project"]["dependencies"]:
        name, least = line.split(">=")
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            lacking.append(line)
            continue
        if _numbers(found[name]) < _numbers(least):
            lacking.append(line)
    return found, lacking


def machine(job: Job) -> Result:
    """Device, driver and versions."""
    found, lacking = _packages()
    if lacking:
        raise RuntimeError(f"missing or too old: {', '.join(lacking)}")
    import torch

    import wdistill
    from wdistill.core.devices import device_name

    device = _device(job)
    result = {
        "device": device_name(device), "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": sys.version.split()[0], "wdistill": wdistill.__version__, **found,
            "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(),
        },
    }  # fmt: skip
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        result |= {
            "gpus": torch.cuda.device_count(),
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "capability": f"{properties.major}.{properties.minor}",
            "driver": _driver(),
        }
    return result


def _device(job: Job) -> Any:
    import torch

    if job.device != "auto":
        return torch.device(job.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _driver() -> str:
    """By NVIDIA's own command, which a container may lack."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({type(error).__name__})"
    return done.stdout.split("\n")[0].strip()


def _run(job: Job, folder: Path, *arguments: str) -> float:
    """Seconds of `wdistill run`."""
    command = [sys.executable, "-m", "wdistill", "run", "--device", job.device]
    began = time.monotonic()
    done = subprocess.run(
        [*command, *arguments, "--output", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"`wdistill run` ended with {done.returncode}: {done.stderr[-1500:]}")
    return round(time.monotonic() - began, 1)


def _quick(job: Job) -> tuple[str, ...]:
    steps = "--iterations", str(job.size(60, 4)), "--eval-epochs", str(job.size(20, 2))
    pool = ("--feature-spaces", f"convnet-w64:{job.size(12, 1)}")
    return (*QUICK, *steps, *pool, "--dataset", str(_real_images(job)))


def _real_images(job: Job) -> Path:
    """Some of the images that come with the package."""
    from helpers.runs import small_source

    return small_source(job.folder / "source", job.size(500, 12))


def _files(folder: Path) -> dict[str, str]:
    """Hashes of the published data."""
    paths = sorted(folder.glob("publish/**/*.parquet"))
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def equal_runs(job: Job) -> Result:
    """Two equal runs write the same bytes."""
    folders, options = [job.folder / name for name in ("first", "second")], _quick(job)
    seconds = [_run(job, folder, *options) for folder in folders]
    first, second = map(_files, folders)
    if not first or first != second:
        names = [name for name in first | second if first.get(name) != second.get(name)]
        raise RuntimeError(
            f"two equal runs differ in {', '.join(names) or 'that nothing is there'}"
        )
    return {"files": len(first), "run_seconds": seconds, "accuracies": _accuracies(folders[0])}


def _accuracies(folder: Path) -> dict[str, float]:
    """Of the students of a run, which mean little after few steps."""
    (path,) = folder.glob("publish/*/report.json")
    rows = json.loads(path.read_text())["rows"]
    return {f"{row['images']}, {row['labels']}": row["top1_mean"] for row in rows}


def bf16(job: Job) -> Result:
    """A run with networks in bf16; `equal_runs` has the accuracies of the same in float32."""
    run = job.folder / "run"
    seconds = _run(job, run, *_quick(job), "--mixed-precision", "bf16")
    return {"run_seconds": seconds, "accuracies": _accuracies(run)}


def wrong_column(job: Job) -> Result:
    """Two processes, both on the first GPU, are told of a column that is not there: both end, and
    one line says why. They are started as torchrun starts them; it would want a GPU for each.
    """
    from torch.distributed import TCPStore

    options = ("--dataset", str(_real_images(job)), "--label-column", "colour")
    command = [sys.executable, "-m", "wdistill", "run", "--device", job.device, *options]
    command += ["--output", str(job.folder / "run")]
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    group = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": "2",
        "TORCHELASTIC_USE_AGENT_STORE": "True", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "0",
        "WDISTILL_COMMAND": "wdistill run",
    }  # fmt: skip
    began = time.monotonic()
    processes = [
        subprocess.Popen(
            command, env={**os.environ, **group, "RANK": str(rank)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate()[0] for process in processes]
    codes = [process.returncode for process in processes]
    lines = [line for text in said for line in text.splitlines() if line.strip()]
    if not all(codes) or len(lines) != 1 or "colour" not in lines[0]:
        raise RuntimeError(f"exit codes {codes}, {len(lines)} lines: {' | '.join(lines)[:1500]}")
    return {"codes": codes, "line": lines[0], "both_ended": round(time.monotonic() - began, 1)}


def _stages(job: Job, size: int, images: int, precision: str = "no") -> Any:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from helpers.stages import Stages

    from wdistill.core.machine.numerics import before_cuda_starts

    before_cuda_starts()
    AcceleratorState._reset_state(reset_partial_state=True)  # of another precision
    network = "resnet18" if size >= 224 else "resnet10-w16"
    accelerator = Accelerator(cpu=_device(job).type == "cpu", mixed_precision=precision)
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


def busy(job: Job) -> Result:
    """Of steps of synthesis: operations on the device, their milliseconds, and the share of the
    time that the device works. On a CPU these are its own operations.
    """
    import torch
    from torch.autograd import DeviceType

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
        events = [e for e in profile.events() if (e.device_type == DeviceType.CUDA) == on_gpu]
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


def imagenet_shaped(job: Job) -> Result:
    """A run on JPEG files in a folder for each class, with the seconds of each stage."""
    classes, train, test = job.size(20, 2), job.size(100, 12), job.size(10, 4)
    width, height = job.size(500, 60), job.size(375, 45)
    data = job.folder / "photographs"
    began = time.monotonic()
    for split, count in (("train", train), ("val", test)):
        for label in range(classes):
            folder = data / split / f"class {label:03d}"
            folder.mkdir(parents=True)
            for index in range(count):
                file = _photograph(label, f"{split} {index}", (width, height))
                (folder / f"{index:05d}.jpg").write_bytes(file)
    made = round(time.monotonic() - began, 1)
    run = job.folder / "run"
    backbone = "resnet10-w16" if job.tiny else "resnet18"
    seconds = _run(
        job, run, "--dataset", str(data), "--backbone", backbone, *QUICK,
        "--ipc", str(job.size(10, 2)), "--resolution", str(job.size(224, 32)),
        "--iterations", str(job.size(100, 2)), "--eval-epochs", str(job.size(20, 1)),
        "--feature-spaces", f"convnet-w64:{job.size(12, 1)}",
    )  # fmt: skip
    (manifest,) = run.glob("publish/*/wdistill.json")
    stages = json.loads(manifest.read_text())["seconds"]
    images = classes * (train + test)
    return {
        "classes": classes, "images": images, "drawing_seconds": made, "run_seconds": seconds,
        "stage_seconds": stages, "decoded_per_second": round(images / max(stages["pixels"], 1e-3)),
    }  # fmt: skip


def _photograph(label: int, name: str, size: tuple[int, int]) -> bytes:
    """A JPEG file with about as much detail as a photograph: coarse and fine noise, in which the
    class is a colour.
    """
    import numpy as np
    from PIL import Image

    digest = hashlib.sha256(f"{label} {name}".encode()).digest()
    draw = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    layers = [draw.integers(0, 256, (side, side, 3), np.uint8) for side in (6, 48)]
    images = [Image.fromarray(layer).resize(size, Image.Resampling.BICUBIC) for layer in layers]
    colour = np.random.default_rng(label).integers(0, 256, 3)
    image = Image.blend(*images, 0.4)
    tinted = Image.blend(image, Image.new("RGB", size, tuple(colour.tolist())), 0.3)
    file = io.BytesIO()
    tinted.save(file, "JPEG", quality=90)
    return file.getvalue()


CHECKS: dict[str, Callable[[Job], Result]] = {
    "machine": machine,
    "wrong_column": wrong_column,
    "steps_224": partial(steps, size=224),
    "steps_32": partial(steps, size=32),
    "equal_runs": equal_runs,
    "imagenet_shaped": imagenet_shaped,
    "bf16": bf16,
    "memory": memory,
    "steps_64": partial(steps, size=64),
    "busy": busy,
}
