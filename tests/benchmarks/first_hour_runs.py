"""The checks of `first_hour.py` that are whole commands, and what the machine is. Each is given a
scratch folder and returns what it has found; an exception is a failure.
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
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
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

    device = device_of(job)
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


def device_of(job: Job) -> Any:
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
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

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
        "--iterations", str(job.size(60, 2)), "--eval-epochs", str(job.size(20, 1)),
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
    coarse, fine = images
    image = Image.blend(coarse, fine, 0.4)
    tinted = Image.blend(image, Image.new("RGB", size, tuple(colour.tolist())), 0.3)
    file = io.BytesIO()
    tinted.save(file, "JPEG", quality=90)
    return file.getvalue()


CHECKS = {
    "machine": machine,
    "wrong_column": wrong_column,
    "equal_runs": equal_runs,
    "bf16": bf16,
    "imagenet_shaped": imagenet_shaped,
}
