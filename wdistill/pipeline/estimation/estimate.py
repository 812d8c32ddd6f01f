"""What a run is going to cost: time, memory and bytes, from its settings and a calibration."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from wdistill.config import RunConfig, RuntimeConfig
from wdistill.core.devices import device_name, keep_freed_memory, open_accelerator
from wdistill.data.dataset import load_data
from wdistill.data.pixels import decoding_for
from wdistill.pipeline.estimation.calibration import Scene, measure, open_scene
from wdistill.pipeline.estimation.pieces import pieces
from wdistill.pipeline.estimation.sizes import (
    Sizes,
    kept_in_memory,
    peak_memory,
    sizes,
    unseen_activations,
)
from wdistill.pipeline.estimation.workload import Workload, workload
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.teacher import Networks, find_networks, scaling

PROCESSES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Estimate:
    """Of a run from its beginning.

    resolution: pixels of a side; images: distilled ones, in ``units`` groups that can be made at
    once, by ``steps`` steps each; training_steps: 0 where the teacher is used as it is; seconds: by
    number of processes and stage; memory: peak bytes of a process, 0 if unknown; device_memory: of
    the GPU, None without one; threads: of this process; calibrated: seconds that the estimate took.
    """

    classes: int
    train_images: int
    test_images: int
    resolution: int
    images: int
    units: int
    steps: int
    training_steps: int
    students: int
    student_steps: int
    seconds: Mapping[int, Mapping[str, float]]
    memory: int
    device_memory: int | None
    disk: Sizes
    device: str
    threads: int
    calibrated: float


def estimate_run(config: RunConfig, runtime: RuntimeConfig) -> Estimate | None:
    """Estimate a run of these settings; None in every process but the main one. Writes nothing.

    Raises WdistillError as the run itself would.
    """
    keep_freed_memory()
    accelerator = open_accelerator(config.mixed_precision, runtime.device)
    with accelerator.main_process_first():
        scaled = scaling(config) if runtime.streaming else None
        data = load_data(config.data, config.seed, config.barycenter.ipc, runtime.quiet, scaled)
        networks = find_networks(config, data)
    decoding = decoding_for(runtime, Path(), accelerator)
    run = Run(config, data, Path(), accelerator, decoding, runtime.quiet)
    return estimate(run, networks) if accelerator.is_main_process else None


def estimate(run: Run, networks: Networks) -> Estimate:
    """Estimate ``run``, whatever is already done of it, by this process alone.

    The random state is left as it was, and no network of the run is touched.
    """
    began, device = time.perf_counter(), run.accelerator.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        scene = open_scene(run, networks)
        work = workload(run, networks, trained=scene.backbone.origin != "as_is")
        rates = measure(pieces(scene, work), work.total())
        memory = _memory(scene, work)
        disk = sizes(scene, work)
    return Estimate(
        classes=len(run.data.class_names),
        train_images=len(run.data.train),
        test_images=len(run.data.eval),
        resolution=networks.resolution,
        images=run.config.barycenter.ipc * len(run.data.class_names),
        units=len(run.units),
        steps=run.config.synthesis.iterations,
        training_steps=work.training_steps,
        students=work.students,
        student_steps=work.student_steps,
        seconds={
            count: {name: stage.seconds(rates, count) for name, stage in work.stages.items()}
            for count in PROCESSES
        },
        memory=memory[0],
        device_memory=memory[1],
        disk=disk,
        device=device_name(device),
        threads=torch.get_num_threads(),
        calibrated=time.perf_counter() - began,
    )


def _memory(scene: Scene, work: Workload) -> tuple[int, int | None]:
    """Peak bytes of the process, 0 if unknown, and of its GPU, None without one."""
    unseen, seen = unseen_activations(scene, work), peak_memory()
    process = seen + kept_in_memory(scene) if seen else 0
    if scene.device.type == "cuda":
        return process, torch.cuda.max_memory_allocated(scene.device) + unseen
    return process + unseen if seen else 0, None
