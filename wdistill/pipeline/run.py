"""The order of the stages, and what each hands to the next."""

from __future__ import annotations

import glob
import logging
import re
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wdistill._version import __version__
from wdistill.artifact.distilled_set import (
    REPORT_FILE,
    DistilledSet,
    read_distilled,
    remove_other_report,
    write_data,
)
from wdistill.artifact.layout import MANIFEST_FILE, set_name
from wdistill.artifact.manifest import (
    BarycenterRecord,
    Distances,
    Manifest,
    Sizes,
    SourceRecord,
    StoredViews,
    read_manifest,
)
from wdistill.artifact.parquet import label_shards
from wdistill.config import FORMAT_VERSION, RunConfig, RuntimeConfig
from wdistill.core.devices import (
    device_name,
    keep_freed_memory,
    open_accelerator,
    training_ends,
    versions,
)
from wdistill.core.files import atomic_write, locked, on_disk, read_json, write_json
from wdistill.core.log import logged
from wdistill.core.settings import flat, stable_hash
from wdistill.core.text import without_folders
from wdistill.core.units import Shard, StageOutput
from wdistill.data.dataset import ImageData, load_data
from wdistill.data.pixels import decoding_for, remove_pixels
from wdistill.errors import RunFolderError
from wdistill.evaluation.comparison import Comparison
from wdistill.evaluation.evaluate import OUTCOMES, measure
from wdistill.evaluation.results import Measured, build_report
from wdistill.labels.views import LabelViews
from wdistill.pipeline.estimate import Estimate, estimate
from wdistill.pipeline.judging import own_comparison, publish_report
from wdistill.pipeline.run_folder import Run, claim
from wdistill.pipeline.shards import write_shard
from wdistill.pipeline.stages.labels import LabelledUnit, label_views_stage, relabel_stage
from wdistill.pipeline.stages.synthesis import synthesis_stage
from wdistill.pipeline.stages.transport import transport_stage
from wdistill.pipeline.tables import estimate_table, transport_table
from wdistill.pipeline.teacher import (
    Networks,
    Teacher,
    find_networks,
    open_pool,
    prepare_teacher,
    scaling,
)
from wdistill.publishing.card.card import render_card
from wdistill.publishing.card.pictures import (
    MOST_CLASSES,
    evenly,
    loss_plot,
    preview_grid,
    progress_grid,
    save_png,
)
from wdistill.synthesis.optimise import TERMS, DistilledUnit
from wdistill.transport.plan import ClassTransport, TransportUnit

logger = logging.getLogger(__name__)

PUBLISH = "publish"
PICTURES = "pictures"
SHOWN_IMAGES = 3  # of a class, on their way through synthesis
SECONDS = "seconds.json"
VOLATILE = {  # fields of the manifest that differ between equal runs
    "created", "command", "seconds", "processes", "threads", "bytes",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Made:
    """What a run is for. stored: labels of views; w2: (classes, 2), of the barycenter and of random
    real images; nearest: (classes, ipc), pixel distance of each image to the nearest real one.
    """

    distilled: DistilledSet
    stored: LabelViews | None
    w2: NDArray[np.float64]
    nearest: NDArray[np.float32]


def default_output(config: RunConfig, shard: Shard | None = None) -> Path:
    """runs/<last part of the dataset's name>-ipc<n>, and which part it is. A pattern has the name
    of the folder that it is for; what is no letter, digit, ``_``, ``.`` or ``-`` becomes ``-``.
    """
    path = Path((config.data.dataset or "fashion-mnist-subset").rstrip("/"))
    while glob.has_magic(str(path)):
        path = path.parent
    name = re.sub(r"[^\w.-]+", "-", path.name.removesuffix(".parquet")).strip("-.") or "dataset"
    part = f"-{shard.name}" if shard else ""
    return Path("runs") / f"{name}-ipc{config.barycenter.ipc}{part}"


def run(
    config: RunConfig,
    runtime: RuntimeConfig,
    folder: Path,
    command: str,
    check: Callable[[ImageData], object] = lambda _: None,
    shard: Shard | None = None,
) -> Path:
    """Distil, evaluate and write the publishable folder, which is returned.

    What an earlier start of the same run has finished is not computed again. ``check`` may refuse
    the data before any work starts. A ``shard`` ends with its images and their labels, see
    :func:`wdistill.pipeline.shards.merge`. Raises WdistillError on anything that the user can mend.
    """
    keep_freed_memory()
    accelerator = open_accelerator(config.mixed_precision, runtime.device, runtime.track, folder)
    main = accelerator.is_main_process
    with accelerator.main_process_first():
        scaled = scaling(config) if runtime.streaming else None
        data = load_data(config.data, config.seed, config.barycenter.ipc, runtime.quiet, scaled)
        check(data)
        networks = find_networks(config, data)
    with training_ends(accelerator), locked(folder) if main else nullcontext():
        if main:
            claim(folder, config, data.source.fingerprint)
        accelerator.wait_for_everyone()  # nobody works in a folder that is refused
        with logged(folder, accelerator):
            decoding = decoding_for(runtime, folder / "work", accelerator)
            run = Run(config, data, folder, accelerator, decoding, runtime.quiet, shard)
            _announce(run)
            if not (run.quiet or shard or any(run.work.glob("transport-*"))):
                _estimate(run, networks)
            if runtime.track is not None:
                settings = {key: str(value) for key, value in flat(config.to_dict()).items()}
                accelerator.init_trackers("wdistill", settings)
            _work(run, networks, command)
            remove_pixels(decoding, accelerator)
    return folder / PUBLISH


def estimate_run(config: RunConfig, runtime: RuntimeConfig) -> Estimate:
    """Estimate a run of these settings, in one process. Nothing stays on the disk.

    Raises:
        WdistillError: As the run itself would.
    """
    keep_freed_memory()
    accelerator = open_accelerator(config.mixed_precision, runtime.device)
    scaled = scaling(config) if runtime.streaming else None
    data = load_data(config.data, config.seed, config.barycenter.ipc, runtime.quiet, scaled)
    decoding = decoding_for(runtime, Path(), accelerator)
    run = Run(config, data, Path(), accelerator, decoding, runtime.quiet)
    return estimate(run, find_networks(config, data), stage_seconds)


def _estimate(run: Run, networks: Networks) -> None:
    """Say what the run will cost. A failure of this does not stop it."""
    if run.accelerator.num_processes > 1:
        logger.info("estimate: none with several processes; `wdistill estimate` makes one")
        return
    try:
        logger.info(estimate_table(estimate(run, networks, stage_seconds)))
    except Exception as error:  # not even for want of memory
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        logger.warning(f"warning: what the run costs cannot be estimated ({reason})")


def stage_seconds(run: Run, networks: Networks) -> dict[str, float]:
    """Do all stages of ``run``; the seconds that each took."""
    _work(run, networks, "")
    return _seconds(run)


def _announce(run: Run) -> None:
    data = run.data
    logger.info(
        f"dataset: {data.source.id}, {len(data.class_names)} classes, "
        f"{len(data.train)} images in {data.train_split!r}, "
        f"{len(data.eval)} {data.eval_place}"
    )
    for note in data.notes:
        logger.info(f"dataset: {note}")


@contextmanager
def _timed(run: Run, stage: str) -> Iterator[None]:
    """Add the time of ``stage`` to what earlier starts of this run have spent on it."""
    began = time.perf_counter()
    try:
        yield
        logger.info(f"{stage}: finished after {time.perf_counter() - began:.1f} s")
    finally:
        if run.accelerator.is_main_process:
            seconds = _seconds(run)
            seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - began
            write_json(run.work / SECONDS, seconds)


def _seconds(run: Run) -> dict[str, float]:
    path = run.work / SECONDS
    return dict(read_json(path)) if path.exists() else {}


def _teacher(run: Run, networks: Networks) -> Teacher:
    with _timed(run, "teacher"):
        teacher = prepare_teacher(run, networks)
    origin = teacher.description.origin.replace("_", " ")
    logger.info(
        f"teacher: {teacher.description.backbone} ({origin}) has accuracy "
        f"{teacher.accuracy:.1%} on the images {run.data.eval_place}"
    )
    run.accelerator.log({"teacher/accuracy": teacher.accuracy})
    if not teacher.network.norms:
        logger.info("warning: the backbone has no norm layer; synthesis uses its features alone")
    return teacher


def _work(run: Run, networks: Networks, command: str) -> None:
    teacher = _teacher(run, networks)
    with _timed(run, "transport"):
        transport = transport_stage(run, teacher)
    if run.shard is None:
        w2 = np.array([[each.w2, each.w2_random] for each in _classes(transport)])
        logger.info(transport_table(run.data.class_names, w2))
        run.accelerator.log({"transport/w2": w2[:, 0].mean(), "transport/random": w2[:, 1].mean()})
    with _timed(run, "synthesis"):
        pool = open_pool(run, teacher, networks)
        images = synthesis_stage(run, teacher, pool, transport)
    with _timed(run, "relabel"):
        labels = relabel_stage(run, teacher, images)
        if run.shard is None:
            _, stored = label_views_stage(run, teacher, images)
    if run.shard is not None:
        if run.accelerator.is_main_process:
            write_shard(run.work, run.shard, command)
        return
    distilled = _assemble(run, transport, images, labels)
    if run.accelerator.is_main_process:
        _pictures(run, images.units)
    evaluated = None
    with _timed(run, "evaluate"):
        if run.config.evaluate.enabled:
            comparison = own_comparison(run, teacher, networks, distilled, stored)
            evaluated = comparison, measure(comparison, run.folder / OUTCOMES)
    if run.accelerator.is_main_process:
        nearest = torch.cat([unit.nearest for unit in labels.units]).numpy()
        made = Made(distilled, stored, w2, nearest)
        _publish(run, made, partial(_manifest, run, teacher, networks, made, command))
        if evaluated is not None:
            _report(run, *evaluated, command)
    run.accelerator.wait_for_everyone()


def _classes(transport: StageOutput[TransportUnit]) -> Iterator[ClassTransport]:
    for unit in transport.units:
        yield from unit.classes.values()


def _assemble(
    run: Run,
    transport: StageOutput[TransportUnit],
    images: StageOutput[DistilledUnit],
    labels: StageOutput[LabelledUnit],
) -> DistilledSet:
    """All units together, on the disk: fifty images of each of ImageNet's classes are 7.5 GB."""
    ipc, names = run.config.barycenter.ipc, run.data.class_names
    classes, side = len(names), images.units[0].pixels.shape[-1]
    pixels = (unit.pixels.flatten(0, 1).permute(0, 2, 3, 1).numpy() for unit in images.units)
    soft = (unit.soft_labels.numpy() for unit in labels.units)
    return DistilledSet(
        images=on_disk(pixels, (ipc * classes, side, side, 3), np.uint8, run.work),
        labels=np.repeat(np.arange(classes, dtype=np.int64), ipc),
        weights=torch.cat([each.atoms.weights for each in _classes(transport)]).numpy(),
        soft_labels=on_disk(soft, (ipc * classes, classes), np.float32, run.work),
        class_names=names,
    )


def _pictures(run: Run, images: Sequence[DistilledUnit]) -> None:
    """How synthesis went, for people: images on their way, and the terms of the loss."""
    names, traces, on_the_way = run.data.class_names, [], []
    shown = evenly(len(names), MOST_CLASSES)
    for unit, distilled in zip(run.units, images, strict=True):
        traces.append(distilled.trace)
        stages = torch.stack([distilled.start, distilled.middle, distilled.pixels], 2)
        kept = [index for index, label in enumerate(unit.classes) if label in shown]
        on_the_way.append(stages[kept, :SHOWN_IMAGES])
    grid = torch.cat(on_the_way).permute(0, 1, 2, 4, 5, 3).contiguous().numpy()
    save_png(run.folder / PICTURES / "synthesis.png", progress_grid(grid, shown, names))
    trace = torch.stack(traces).mean(0).numpy()
    terms = [f"{space}: {term}" for space in ("teacher", "pool") for term in TERMS]
    curves = {name: row for name, row in zip(terms, trace.T[1:], strict=True) if row.any()}
    for step, *values in trace.tolist():
        numbers = {f"synthesis/{name}": value for name, value in zip(terms, values, strict=True)}
        run.accelerator.log(numbers, step=int(step))
    if curves:
        save_png(run.folder / PICTURES / "loss.png", loss_plot(trace[:, 0], curves))


def _manifest(
    run: Run, teacher: Teacher, networks: Networks, made: Made, command: str, sizes: Sizes
) -> Manifest:
    """What was made and how, without any folder of this machine."""
    config = run.config
    return Manifest(
        format_version=FORMAT_VERSION,
        wdistill_version=__version__,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        command=shlex.join(without_folders(shlex.split(command))),
        config=without_folders(config),
        config_changed=tuple(config.changed()),
        config_hash=stable_hash(config.to_dict()),
        source=SourceRecord.of(run.data),
        classes=run.data.class_names,
        ipc=config.barycenter.ipc,
        resolution=teacher.train.preprocessing.resolution,
        images=len(made.distilled),
        teacher=teacher.description,
        revisions=networks.revisions,
        local_students=networks.local_students,
        barycenter=BarycenterRecord(
            w2=tuple(made.w2[:, 0].tolist()), w2_random=tuple(made.w2[:, 1].tolist())
        ),
        distances=Distances(
            nearest_real_rmse=tuple(map(tuple, made.nearest.astype(float).round(4).tolist()))
        ),
        label_views=_stored_views(config, made.stored),
        seconds={stage: round(value, 2) for stage, value in _seconds(run).items()},
        versions=versions(),
        device=device_name(run.accelerator.device),
        processes=run.accelerator.num_processes,
        threads=torch.get_num_threads(),
        bytes=sizes,
    )


def _stored_views(config: RunConfig, views: LabelViews | None) -> StoredViews | None:
    if views is None:
        return None
    return StoredViews(
        views=views.count,
        topk=views.logits.shape[1],
        levels=config.label_views.levels,
        temperature=config.evaluate.temperature,
    )


def _publish(run: Run, made: Made, describe: Callable[[Sizes], Manifest]) -> None:
    """Write the set's folder and the card, unless they are there already."""
    root = run.folder / PUBLISH
    folder = root / set_name(run.config.barycenter.ipc)
    if _is_published(folder, made.distilled, describe):
        return
    removed = remove_other_report(folder, made.distilled, made.stored)
    if removed and not run.config.evaluate.enabled:
        logger.info(
            f"{REPORT_FILE} was about other images or labels and is gone; the same run "
            "with students has it again"
        )
    sizes = write_data(folder, made.distilled, made.stored)
    save_png(folder / "preview.png", preview_grid(made.distilled))
    describe(sizes).write(folder / MANIFEST_FILE)
    atomic_write(root / "README.md", render_card(root).encode())


def _report(run: Run, comparison: Comparison, measured: Measured, command: str) -> None:
    folder = run.folder / PUBLISH / set_name(run.config.barycenter.ipc)
    label_bytes = sum(path.stat().st_size for path in label_shards(folder))
    report = build_report(replace(comparison, label_bytes=label_bytes), measured, command)
    for row in report.rows:
        name = f"students/{row.student}/{row.labels}/{row.images}"
        run.accelerator.log({name: row.top1_mean})
    publish_report(run.folder, report)


def _is_published(
    folder: Path, distilled: DistilledSet, describe: Callable[[Sizes], Manifest]
) -> bool:
    """Whether ``folder`` holds this very set: then it stays, and a second push sends nothing."""
    try:
        recorded = read_manifest(folder)
        same_pixels = np.array_equal(read_distilled(folder).images, distilled.images)
    except (FileNotFoundError, RunFolderError):
        return False
    views_size = sum(path.stat().st_size for path in label_shards(folder))
    return (
        same_pixels
        and (folder.parent / "README.md").exists()
        and views_size == recorded.bytes.label_views
        and _stable(recorded) == _stable(describe(recorded.bytes))
    )


def _stable(manifest: Manifest) -> dict[str, Any]:
    return manifest.model_dump(exclude=VOLATILE)
