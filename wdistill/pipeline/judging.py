"""The evaluation at the end of a run, and publishing later evaluations on its card."""

from __future__ import annotations

import logging
from pathlib import Path

from wdistill.artifact.candidate import candidate
from wdistill.artifact.distilled_set import REPORT_FILE, read_report
from wdistill.artifact.layout import CURVE_FILE, one_set, publish_folder
from wdistill.artifact.manifest import read_manifest
from wdistill.artifact.report import EvaluatedSet, Report
from wdistill.config import EvaluateConfig, Labels
from wdistill.core.files import atomic_write, remove
from wdistill.errors import RunFolderError
from wdistill.evaluation.comparison import Comparison, EvaluationTeacher, Protocol
from wdistill.evaluation.page.html import png
from wdistill.evaluation.page.plots import accuracy_by_bits, has_curve
from wdistill.evaluation.results import merge_reports
from wdistill.evaluation.sets.subject import fingerprint_of
from wdistill.labels.committee import giver_sha256
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.stages.result import RunResult
from wdistill.pipeline.teacher import Networks, Teacher
from wdistill.publishing.card.card import render_card

logger = logging.getLogger(__name__)


def own_comparison(run: Run, teacher: Teacher, networks: Networks, result: RunResult) -> Comparison:
    """A comparison of a run's set with random real images, from what the run has in memory.

    The equivalent IPC needs more students and would make a run longer: `wdistill evaluate` computes
    it, and reuses the students of the run.
    """
    config = run.config
    distilled, views, giver = result.distilled, result.views, result.labels.giver
    published: tuple[Labels, ...] = ("views", "hard") if views else ("soft", "hard")
    if giver is None:
        published = ("hard",)
    return Comparison(
        evaluated=EvaluatedSet(
            id=run.folder.resolve().name,
            kind="run",
            url=None,
            revision=None,
            fingerprint=fingerprint_of(distilled),
            images=len(distilled),
            ipc=run.ipc if run.shares is None else None,
            classes=distilled.class_names,
        ),
        candidate=candidate(distilled, views),
        protocol=Protocol(
            students=config.evaluate.with_labels(*published),
            equivalents=False,
            relabel=config.relabel,
            seed=config.seed,
            mixed_precision=config.mixed_precision,
        ),
        real=run.data,
        train=teacher.train,
        test=teacher.test,
        teacher=EvaluationTeacher(
            name=teacher.description.backbone,
            network=teacher.network,
            digest=teacher.description.weights_sha256,
            features_key=teacher.key,
            accuracy=teacher.accuracy,
        ),
        students=networks.students,
        accelerator=run.accelerator,
        quiet=run.quiet,
        graphs=run.graphs,
        data_seed=config.seed,
        barycenter=config.barycenter,
        work=run.work,
        coding=result.chosen.coding,
        grey=distilled.grey,
        image_bytes=None if distilled.files is None else sum(distilled.files.sizes),
        giver=giver.network if giver else None,
        giver_key=giver_sha256(giver.network) if giver else "",
        hard_soft=not result.labels.soft_helps,
    )


def publish_report(run: Path, report: Report) -> None:
    """Write ``report`` to the published set of the run folder ``run`` and to its card.

    Additional results of an earlier evaluation under the same circumstances are kept. Nothing is
    written if the published report already contains all results.
    """
    folder, root = one_set(run), publish_folder(run)
    merged = report.for_publication()
    try:
        earlier = read_report(folder)
    except RunFolderError:
        earlier = None
    if earlier is not None:
        merged = merge_reports(merged, earlier)
        origin = {"created": earlier.created, "command": earlier.command}
        if merged.model_copy(update=origin) == earlier:
            return
    merged.write(folder / REPORT_FILE)
    remove(folder / CURVE_FILE)
    if has_curve(merged):
        first = merged.rows[0]
        figure = accuracy_by_bits(merged, first.student, first.optimizer)
        atomic_write(folder / CURVE_FILE, png(figure))
    atomic_write(root / "README.md", render_card(root).encode())


def on_own_run(config: EvaluateConfig, comparison: Comparison, report: Report) -> None:
    """Publish the report of `wdistill evaluate` on a run's set with its own data and teacher."""
    run = Path(config.source).expanduser()
    source = read_manifest(one_set(run)).source
    if config.teacher is not None or not comparison.real.is_of(source.fingerprint):
        return
    publish_report(run, report)
    logger.info(f"card: {publish_folder(run) / 'README.md'} now tells this evaluation")
