"""Train students on a set of images, of a run or of any origin, and on real images."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from wdistill.artifact.distilled_set import REPORT_FILE
from wdistill.artifact.report import Report
from wdistill.config import EvaluateConfig, RuntimeConfig
from wdistill.core.devices import keep_freed_memory, open_accelerator
from wdistill.core.files import IDENTITY, atomic_write, locked
from wdistill.core.machine.meeting import main_process_first, meet, together
from wdistill.core.machine.numerics import repeatable
from wdistill.core.machine.resources import used
from wdistill.data.pixels import decoding_for, remove_pixels
from wdistill.evaluation.comparison import Comparison
from wdistill.evaluation.opening import open_comparison
from wdistill.evaluation.page.pictures import gallery, projection
from wdistill.evaluation.page.report import render_report
from wdistill.evaluation.results import build_report
from wdistill.evaluation.trial import measure

logger = logging.getLogger(__name__)

PAGE_FILE = "report.html"
OUTCOMES = "work/evaluate"  # in a run folder: the students of the run and of its evaluations


def default_output(config: EvaluateConfig) -> Path:
    """``report`` in a run folder, else reports/<last part of the name>."""
    path = Path(config.source).expanduser()
    if (path / IDENTITY).is_file():
        return path / "report"
    return Path("reports") / (Path(config.source.rstrip("/")).name or "set")


def _ignore(*_: object) -> None:
    """Nothing."""


@dataclass(frozen=True)
class Output:
    """Where an evaluation goes.

    Attributes:
        folder: Of the report; unless it is the default one, outcomes are stored in it too.
        work: Of the outcomes, where several evaluations share them.
        observe: Called on the main process with what was compared, before its data are closed.
    """

    folder: Path
    work: Path | None = None
    observe: Callable[[Comparison], object] = _ignore


def judge(
    config: EvaluateConfig,
    runtime: RuntimeConfig,
    output: Output,
    command: str,
    on_own_run: Callable[[EvaluateConfig, Comparison, Report], object] = _ignore,
) -> Report:
    """Evaluate any set: train its students, write report.json and report.html.

    Students that were finished by an earlier start or by the set's run are not trained again.

    Args:
        output: Folder of the report.
        command: The command line, for the report.
        on_own_run: Called with a report that is written to the default folder of a run.

    Returns:
        The report, on every process.

    Raises:
        WdistillError: Any error that the user can fix.
    """
    keep_freed_memory()
    folder = output.folder
    opened = partial(open_accelerator, config.mixed_precision, runtime.device)
    default = folder.resolve() == default_output(config).resolve()
    with ExitStack() as stack:
        accelerator = stack.enter_context(together(opened))
        stack.enter_context(repeatable(accelerator.device))
        main = accelerator.is_main_process
        decoding = decoding_for(runtime, folder / "work", accelerator)
        with main_process_first(accelerator):
            comparison = open_comparison(config, runtime, accelerator, decoding)
        of_run = default and comparison.work is not None
        if main:
            _announce(comparison)
            for line in used(accelerator, config.mixed_precision, decoding.workers):
                logger.info(line)
            stack.enter_context(locked(folder))
        meet(accelerator)
        work = output.work or (folder.parent / OUTCOMES if of_run else folder / "work")
        report = build_report(comparison, measure(comparison, work), command)
        report = report.model_copy(update={"projection": projection(comparison)})
        if main:
            report.write(folder / REPORT_FILE)
            page = render_report(report, gallery(comparison))
            atomic_write(folder / PAGE_FILE, page.encode())
            output.observe(comparison)
            if of_run:
                on_own_run(config, comparison, report)
        remove_pixels(decoding, accelerator)
    accelerator.end_training()
    return report


def _announce(comparison: Comparison) -> None:
    real, soft = comparison.real, comparison.candidate.soft is not None
    logger.info(
        f"judging: {comparison.evaluated.id}, {comparison.evaluated.images} images of "
        f"{comparison.classes} classes ({'with' if soft else 'without'} soft labels)"
    )
    logger.info(
        f"against: {real.source.id}, {len(real.train)} images in {real.train_split!r}, "
        f"{len(real.eval)} test images {real.eval_place}"
    )
    for note in real.notes:
        logger.info(f"against: {note}")
    teacher = comparison.teacher.name if comparison.teacher else "none"
    optimizers = " and ".join(recipe.optimizer for recipe in comparison.recipes)
    logger.info(
        f"teacher: {teacher}; students: {', '.join(comparison.students)}; optimiser: {optimizers}"
    )
