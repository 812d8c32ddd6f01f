"""The stages of a run, in order, and what they pass on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from wdistill.artifact.layout import PUBLISH
from wdistill.config import RunConfig, RuntimeConfig
from wdistill.core.devices import keep_freed_memory, open_accelerator, training_ends
from wdistill.core.files import locked, write_json
from wdistill.core.log import log_to_folder
from wdistill.core.machine.graphs import GraphSwitch
from wdistill.core.machine.meeting import main_process_first, meet, together
from wdistill.core.machine.numerics import repeatable
from wdistill.core.machine.resources import used
from wdistill.core.settings import flat, stable_hash
from wdistill.core.units import Shard, StageOutput, Unit
from wdistill.data.content.coding import Coding
from wdistill.data.content.leaks import Pixels
from wdistill.data.dataset import ImageData, load_data
from wdistill.data.pixels import PixelStore, decoding_for, remove_pixels
from wdistill.evaluation.evaluate import OUTCOMES
from wdistill.evaluation.trial import measure
from wdistill.networks.preprocessing import preprocessing_for
from wdistill.networks.teacher import NO_NORMALISATION
from wdistill.pipeline.choices.budget import Spent, rough, spend, students_of_choice
from wdistill.pipeline.choices.coding import choose_coding
from wdistill.pipeline.choices.images import choose_images
from wdistill.pipeline.estimate import estimate
from wdistill.pipeline.judging import own_comparison
from wdistill.pipeline.labelling import label_images
from wdistill.pipeline.run_folder import SECONDS, Run, claim, stage_times
from wdistill.pipeline.shards import check_shard, write_shard
from wdistill.pipeline.stages.allocation import share_out_images
from wdistill.pipeline.stages.convnets import state_pool
from wdistill.pipeline.stages.finish import (
    draw_pictures,
    manifest_of,
    publish,
    publish_own_report,
    transported_classes,
)
from wdistill.pipeline.stages.labels import nearest_stage
from wdistill.pipeline.stages.result import RunResult
from wdistill.pipeline.stages.synthesis import synthesis_stage
from wdistill.pipeline.stages.transport import transport_stage
from wdistill.pipeline.tables import Estimate, estimate_table, transport_table
from wdistill.pipeline.teacher import (
    Networks,
    Teacher,
    check_images,
    find_networks,
    open_pixels,
    open_pool,
    prepare_teacher,
    scaling,
    without_copies_in,
)
from wdistill.synthesis.optimise import DistilledUnit

logger = logging.getLogger(__name__)
SAMPLE = 100  # images whose size stands for all, where a budget is to be estimated


def run(
    config: RunConfig,
    runtime: RuntimeConfig,
    folder: Path,
    command: str,
    check: Callable[[ImageData], object] = lambda _: None,
    shard: Shard | None = None,
) -> Path:
    """Distil, evaluate and write the publishable folder, whose path is returned.

    What an earlier start of the same run finished is not computed again. ``check`` may refuse the
    data before any work starts. A ``shard`` ends with its images and their labels, see
    :func:`wdistill.pipeline.shards.merge`.

    Raises:
        WdistillError: Any error that the user can fix.
    """
    if shard is not None:
        check_shard(config)
    keep_freed_memory()
    opened = partial(
        open_accelerator, config.mixed_precision, runtime.device, runtime.track, folder
    )
    with ExitStack() as stack:
        accelerator = stack.enter_context(together(opened))
        main = accelerator.is_main_process
        stack.enter_context(repeatable(accelerator.device))
        with main_process_first(accelerator):
            scale = scaling(config) if runtime.streaming else None
            data = load_data(config.data, config.seed, config.least_ipc, runtime.quiet, scale)
            check_images(config, data)
            check(data)
            networks = find_networks(config, data)
        stack.enter_context(training_ends(accelerator))
        if main:
            stack.enter_context(locked(folder))
            claim(folder, config, data.source.fingerprint)
        meet(accelerator)  # no process works in a folder that was refused
        with log_to_folder(folder, accelerator):
            decoding = decoding_for(runtime, folder / "work", accelerator)
            run = Run(config, data, folder, accelerator, decoding, runtime.quiet, shard)
            _announce(run)
            if runtime.estimate and not (shard or any(run.work.glob("transport-*"))):
                _estimate(run, networks)
            if runtime.track is not None:
                settings = {key: str(value) for key, value in flat(config.to_dict()).items()}
                accelerator.init_trackers("wdistill", settings)
            run = replace(run, graphs=GraphSwitch(runtime.cuda_graphs))  # no estimate sees them
            with _timed(run, "pixels"):
                run, pixels = without_copies_in(run, open_pixels(run, networks))
            _run_stages(run, networks, pixels, command)
            remove_pixels(decoding, accelerator)
    return folder / PUBLISH


def estimate_run(config: RunConfig, runtime: RuntimeConfig) -> Estimate:
    """Estimate a run with these settings, in one process. No files remain on the disk.

    Raises:
        WdistillError: As for the run itself.
    """
    keep_freed_memory()
    accelerator = open_accelerator(config.mixed_precision, runtime.device)
    scale = scaling(config) if runtime.streaming else None
    data = load_data(config.data, config.seed, config.least_ipc, runtime.quiet, scale)
    check_images(config, data)
    decoding = decoding_for(runtime, Path(), accelerator)
    run = Run(config, data, Path(), accelerator, decoding, runtime.quiet)
    networks = find_networks(config, data)
    choice = students_of_choice(config)
    with repeatable(accelerator.device):
        return estimate(_without_budget(run, networks), networks, stage_seconds, choice)


def _without_budget(run: Run, networks: Networks) -> Run:
    if run.config.budget is None:
        return run
    some = run.data.train.take(np.arange(min(SAMPLE, len(run.data.train))))
    pixels = preprocessing_for(networks.backbone, networks.resolution, NO_NORMALISATION)
    sample = PixelStore(some, pixels).get(range(len(some)))
    counts = np.bincount(run.data.train.labels, minlength=len(run.data.class_names))
    return replace(run, config=rough(run.config, sample, counts.tolist()))


def _estimate(run: Run, networks: Networks) -> None:
    """Log an estimate of the run. If it fails, the run continues."""
    if run.accelerator.num_processes > 1:
        logger.info("estimate: none with several processes; `wdistill estimate` makes one")
        return
    try:
        choice = students_of_choice(run.config)
        found = estimate(_without_budget(run, networks), networks, stage_seconds, choice)
        logger.info(estimate_table(found))
    except Exception as error:  # even if it is out of memory
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        logger.warning(f"warning: what the run costs cannot be estimated ({reason})")


def stage_seconds(run: Run, networks: Networks) -> dict[str, float]:
    """Execute all stages of ``run``; returns the seconds that each took."""
    _run_stages(run, networks, open_pixels(run, networks), "")
    return stage_times(run)


def _announce(run: Run) -> None:
    data = run.data
    logger.info(
        f"dataset: {data.source.id}, {len(data.class_names)} classes, "
        f"{len(data.train)} images in {data.train_split!r}, "
        f"{len(data.eval)} {data.eval_place}"
    )
    for note in data.notes:
        logger.info(f"dataset: {note}")
    for line in used(run.accelerator, run.config.mixed_precision, run.decoding.workers):
        logger.info(line)


@contextmanager
def _timed(run: Run, stage: str) -> Iterator[None]:
    """Add the time of ``stage`` to that of earlier starts of this run."""
    start = time.perf_counter()
    try:
        yield
        logger.info(f"{stage}: finished after {time.perf_counter() - start:.1f} s")
    finally:
        if run.accelerator.is_main_process:
            seconds = stage_times(run)
            seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start
            write_json(run.work / SECONDS, seconds)


def _teacher(run: Run, networks: Networks, pixels: Pixels) -> Teacher:
    with _timed(run, "teacher"):
        teacher = prepare_teacher(run, networks, pixels)
    origin = teacher.description.origin.replace("_", " ")
    logger.info(
        f"teacher: {teacher.description.backbone} ({origin}) has accuracy "
        f"{teacher.accuracy:.1%} on the images {run.data.eval_place}"
    )
    run.accelerator.log({"teacher/accuracy": teacher.accuracy})
    if not teacher.network.norms and run.config.synthesis.aim == "any":
        logger.info("warning: the backbone has no norm layer; synthesis uses its features alone")
    return teacher


def _run_stages(run: Run, networks: Networks, pixels: Pixels, command: str) -> None:
    teacher = _teacher(run, networks, pixels)
    given, spent = run.config, Spent(run.config)
    if run.config.budget is not None:
        with _timed(run, "budget"):
            spent = spend(run, teacher)
        run = replace(run, config=spent.config, budget=given.budget)
    with _timed(run, "transport"):
        run = share_out_images(run, teacher)
        transport = transport_stage(run, teacher)
    if run.shard is None:
        w2 = np.array(
            [
                [transported.w2, transported.w2_random]
                for transported in transported_classes(transport)
            ]
        )
        logger.info(transport_table(run.data.class_names, w2))
        run.accelerator.log({"transport/w2": w2[:, 0].mean(), "transport/random": w2[:, 1].mean()})
    with _timed(run, "synthesis"):
        made_for_convnets = run.config.synthesis.aim == "convnet"
        pool = state_pool(run, teacher) if made_for_convnets else open_pool(run, teacher, networks)

        def synthesis(run: Run, coding: Coding) -> StageOutput[DistilledUnit]:
            return synthesis_stage(run, teacher, pool, transport, coding)

        chosen = choose_coding(run, teacher, transport, partial(synthesis, run))
        coding = chosen.coding
        made = choose_images(run, teacher, partial(synthesis, coding=coding))
        images = made.images
    if run.shard is not None:
        _finish_shard(run, run.shard, teacher, images, coding, command)
        return
    with _timed(run, "relabel"):
        labelled = label_images(run, teacher, transport, images, coding)
        run = run.at(labelled.labels.temperature)
    with _timed(run, "nearest"):  # of the files as they are published, which a budget may recode
        published = torch.from_numpy(labelled.distilled.images).permute(0, 3, 1, 2)
        nearest = nearest_stage(
            run, teacher, labelled.key, lambda unit: published[run.unit_rows(unit)]
        )
    if run.accelerator.is_main_process:
        draw_pictures(run, images.units)
    distances = torch.cat([unit.values for unit in nearest.units]).numpy()
    chosen = replace(chosen, coding=labelled.coding)
    packed = labelled.views
    result = RunResult(
        distilled=labelled.distilled,
        views=packed.views if packed else None,
        chosen=chosen,
        labels=labelled.labels,
        w2=w2,
        nearest=distances,
        settings=given,
        spendings=spent.tried + made.tried,
        label_files=packed.files if packed else (),
        images=made.kind,
    )
    evaluation = None
    with _timed(run, "evaluate"):
        if run.config.evaluate.enabled:
            comparison = own_comparison(run, teacher, networks, result)
            evaluation = comparison, measure(comparison, run.folder / OUTCOMES)
    if run.accelerator.is_main_process:
        publish(run, result, partial(manifest_of, run, teacher, networks, result, command))
        if evaluation is not None:
            publish_own_report(run, *evaluation, command)
    meet(run.accelerator)


def _finish_shard(
    run: Run,
    shard: Shard,
    teacher: Teacher,
    images: StageOutput[DistilledUnit],
    coding: Coding,
    command: str,
) -> None:
    def shown(unit: Unit) -> torch.Tensor:
        return coding.seen(images.units[unit.index].pixels)

    with _timed(run, "nearest"):
        nearest_stage(run, teacher, stable_hash([images.key, *coding.key]), shown)
    if run.accelerator.is_main_process:
        write_shard(run.work, shard, command)
