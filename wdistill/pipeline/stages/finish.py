"""The end of a run: assemble the set, draw pictures, write manifest, card and report."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
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
from wdistill.artifact.layout import MANIFEST_FILE, PUBLISH, set_folders, set_name
from wdistill.artifact.manifest import Manifest, read_manifest
from wdistill.artifact.parquet import label_shards
from wdistill.artifact.records import (
    BarycenterRecord,
    BudgetRecord,
    CodingRecord,
    Distances,
    LabelRecord,
    Sizes,
    SourceRecord,
    StoredViews,
)
from wdistill.config import FORMAT_VERSION, RunConfig
from wdistill.core.devices import (
    device_name,
    less_precise,
    versions,
)
from wdistill.core.files import atomic_write, on_disk
from wdistill.core.settings import stable_hash
from wdistill.core.text import without_folders
from wdistill.core.units import StageOutput
from wdistill.data.content.coding import coder_version
from wdistill.errors import RunFolderError
from wdistill.evaluation.comparison import Comparison
from wdistill.evaluation.results import Measurements, build_report
from wdistill.labels.views import LabelViews
from wdistill.pipeline.judging import publish_report
from wdistill.pipeline.run_folder import Run, stage_times
from wdistill.pipeline.stages.files import CodedImages
from wdistill.pipeline.stages.result import RunResult
from wdistill.pipeline.teacher import (
    Networks,
    Teacher,
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

PICTURES = "pictures"
SHOWN_IMAGES = 3  # images per class in the picture of synthesis
VOLATILE = {  # fields of the manifest that differ between equal runs
    "created", "command", "seconds", "processes", "threads", "bytes",
}  # fmt: skip


def transported_classes(transport: StageOutput[TransportUnit]) -> Iterator[ClassTransport]:
    for unit in transport.units:
        yield from unit.classes.values()


def hard_set(run: Run, transport: StageOutput[TransportUnit], coded: CodedImages) -> DistilledSet:
    """The set with its classes as soft labels."""
    names, labels = run.data.class_names, run.labels.numpy()
    rows = (np.arange(len(names)) == np.full((n, 1), c) for c, n in enumerate(run.counts))
    return DistilledSet(
        images=coded.images,
        labels=labels,
        weights=torch.cat(
            [transported.atoms.weights for transported in transported_classes(transport)]
        ).numpy(),
        soft_labels=on_disk(rows, (len(labels), len(names)), np.float32, run.work),
        class_names=names,
        grey=coded.grey,
        files=coded.files,
    )


def draw_pictures(run: Run, images: Sequence[DistilledUnit]) -> None:
    """Draw the progress of synthesis: images at three times, and the terms of the loss."""
    names, traces = run.data.class_names, []
    progress: dict[int, NDArray[np.uint8]] = {}
    labels_shown = evenly(len(names), MOST_CLASSES)
    for unit, distilled in zip(run.units, images, strict=True):
        traces.append(distilled.trace)
        stages = torch.stack([distilled.start, distilled.middle, distilled.pixels], 1)
        counts = [run.counts[label] for label in unit.classes]
        for label, of_class in zip(unit.classes, stages.split(counts), strict=True):
            if label in labels_shown:
                progress[label] = of_class[:SHOWN_IMAGES].permute(0, 1, 3, 4, 2).numpy()
    save_png(run.folder / PICTURES / "synthesis.png", progress_grid(progress, names))
    trace = torch.stack(traces).mean(0).numpy()
    terms = [f"{space}: {term}" for space in ("teacher", "pool") for term in TERMS]
    curves = {name: row for name, row in zip(terms, trace.T[1:], strict=True) if row.any()}
    for step, *values in trace.tolist():
        numbers = {f"synthesis/{name}": value for name, value in zip(terms, values, strict=True)}
        run.accelerator.log(numbers, step=int(step))
    if curves:
        save_png(run.folder / PICTURES / "loss.png", loss_plot(trace[:, 0], curves))


def manifest_of(
    run: Run, teacher: Teacher, networks: Networks, result: RunResult, command: str, sizes: Sizes
) -> Manifest:
    """The manifest, without any local folder."""
    config = run.config
    return Manifest(
        format_version=FORMAT_VERSION,
        wdistill_version=__version__,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        command=shlex.join(without_folders(shlex.split(command))),
        config=without_folders(result.settings),
        config_changed=tuple(result.settings.changed()),
        config_hash=stable_hash(result.settings.to_dict()),
        source=SourceRecord.of(run.data),
        classes=run.data.class_names,
        ipc=run.ipc,
        counts=run.shares,
        resolution=teacher.train.preprocessing.resolution,
        images=len(result.distilled),
        coding=_coding_record(result),
        labels=LabelRecord(
            giver=result.labels.name,
            temperature=config.evaluate.label_temperature,
            hard_soft=not result.labels.soft_helps,
            tried=result.labels.tried,
        ),
        budget=None
        if run.budget is None
        else BudgetRecord(bytes=run.budget, tried=result.spendings, images=result.images),
        teacher=teacher.description,
        revisions=networks.revisions,
        local_students=networks.local_students,
        barycenter=BarycenterRecord(
            w2=tuple(result.w2[:, 0].tolist()), w2_random=tuple(result.w2[:, 1].tolist())
        ),
        distances=Distances(
            nearest_real_rmse=tuple(
                tuple(result.nearest[run.rows(label)].astype(float).round(4).tolist())
                for label in range(len(run.counts))
            )
        ),
        label_views=_stored_views(config, result.views),
        seconds={stage: round(value, 2) for stage, value in stage_times(run).items()},
        versions=versions(),
        environment=less_precise(),
        device=device_name(run.accelerator.device),
        processes=run.accelerator.num_processes,
        threads=torch.get_num_threads(),
        bytes=sizes,
    )


def _coding_record(result: RunResult) -> CodingRecord:
    coding = result.chosen.coding
    return CodingRecord(
        format=coding.format,
        quality=None if coding.is_lossless else coding.quality,
        grey=result.distilled.grey,
        coder=coder_version(coding.format),
        tried=result.chosen.tried,
    )


def _stored_views(config: RunConfig, views: LabelViews | None) -> StoredViews | None:
    if views is None:
        return None
    return StoredViews(
        views=views.count,
        topk=views.logits.shape[1],
        levels=config.label_views.levels,
        temperature=config.evaluate.label_temperature,
    )


def publish(run: Run, result: RunResult, describe: Callable[[Sizes], Manifest]) -> None:
    """Write the set's folder and the card, unless they are already up to date."""
    root, folder = run.folder / PUBLISH, _set_folder(run)
    if _is_published(folder, result.distilled, describe):
        return
    removed_report = remove_other_report(folder, result.distilled, result.views)
    if removed_report and not run.config.evaluate.enabled:
        logger.info(
            f"{REPORT_FILE} was about other images or labels and is gone; the same run "
            "with students has it again"
        )
    sizes = write_data(folder, result.distilled, result.views, result.label_files)
    save_png(folder / "preview.png", preview_grid(result.distilled))
    describe(sizes).write(folder / MANIFEST_FILE)
    atomic_write(root / "README.md", render_card(root).encode())


def _set_folder(run: Run) -> Path:
    """The folder of the run's only set. One that has another name, from an earlier version or from
    the same run with other labels and so another number of images in its budget, is renamed.
    """
    root, own = run.folder / PUBLISH, run.config
    name = set_name(run.ipc, own.barycenter.allocation, run.budget, own.synthesis.aim)
    folder = root / name
    earlier = set_folders(root)
    if len(earlier) == 1 and not folder.exists():
        (earlier[0] / MANIFEST_FILE).unlink()  # of another name; without it nothing is pushed
        (root / "README.md").unlink(missing_ok=True)  # it names the folder that was
        earlier[0].rename(folder)
    return folder


def _is_published(
    folder: Path, distilled: DistilledSet, describe: Callable[[Sizes], Manifest]
) -> bool:
    """Whether ``folder`` holds the same set: it is then kept, and a second push uploads nothing."""
    try:
        manifest = read_manifest(folder)
        same_pixels = np.array_equal(read_distilled(folder).images, distilled.images)
    except (FileNotFoundError, RunFolderError):
        return False
    views_size = sum(path.stat().st_size for path in label_shards(folder))
    return (
        same_pixels
        and (folder.parent / "README.md").exists()
        and views_size == manifest.bytes.label_views
        and _stable(manifest) == _stable(describe(manifest.bytes))
    )


def _stable(manifest: Manifest) -> dict[str, Any]:
    return manifest.model_dump(exclude=VOLATILE)


def publish_own_report(
    run: Run, comparison: Comparison, measurements: Sequence[Measurements], command: str
) -> None:
    folder = _set_folder(run)
    label_bytes = sum(path.stat().st_size for path in label_shards(folder))
    report = build_report(replace(comparison, label_bytes=label_bytes), measurements, command)
    for row in report.rows:
        name = f"students/{row.student}/{row.labels}/{row.images}"
        if row.optimizer != report.recipe.optimizer:
            name += f"/{row.optimizer}"
        run.accelerator.log({name: row.top1_mean})
    publish_report(run.folder, report)
