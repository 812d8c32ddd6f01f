"""Train students on a set of images, of a run or of any origin, and on real images."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import constants
from torch import Tensor

from wdistill.artifact.distilled_set import REPORT_FILE
from wdistill.artifact.report import Recipe, Report
from wdistill.config import EvaluateConfig, Labels, RuntimeConfig
from wdistill.core.devices import keep_freed_memory, less_precise, open_accelerator
from wdistill.core.files import IDENTITY, atomic_write, locked
from wdistill.core.machine.meeting import main_process_first, meet, together
from wdistill.core.machine.numerics import repeatable
from wdistill.core.machine.resources import used
from wdistill.core.settings import stable_hash
from wdistill.data.pixels import decoding_for, remove_pixels
from wdistill.evaluation.comparison import Comparison, baseline_rows
from wdistill.evaluation.metrics import EquivalentIpc, equivalent_ipc
from wdistill.evaluation.opening import open_comparison
from wdistill.evaluation.page.pictures import gallery, projection
from wdistill.evaluation.page.report import render_report
from wdistill.evaluation.recipes.named import NAMED
from wdistill.evaluation.results import Measurements, build_report
from wdistill.evaluation.students import (
    Job,
    Jobs,
    Outcome,
    StudentSetting,
    job_key,
    jobs,
    run_jobs,
)

logger = logging.getLogger(__name__)

MOST_TIMES = 16
PAGE_FILE = "report.html"
OUTCOMES = "work/evaluate"  # in a run folder: the students of the run and of its evaluations
Pair = tuple[str, Labels]  # student, labels


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
            for line in used(accelerator, config.mixed_precision, decoding.threads):
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


def measure(comparison: Comparison, work: Path) -> tuple[Measurements, ...]:
    """Train and test all students with each optimiser; outcomes already stored in ``work`` are
    reused.

    All processes must call it; they share the students, and each returns all outcomes.
    """
    trial = Trial(comparison, work)
    return tuple(trial.under(recipe).measurements() for recipe in comparison.recipes)


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


class Trial:
    """The students of one evaluation, trained on demand by the first of its optimisers."""

    def __init__(self, comparison: Comparison, work: Path) -> None:
        protocol, candidate = comparison.protocol, comparison.candidate
        self.comparison = comparison
        self.setting = StudentSetting(
            candidate=candidate,
            class_names=comparison.real.class_names,
            train=comparison.train,
            test=comparison.test,
            network=comparison.teacher.network if comparison.teacher else None,
            recipe=comparison.recipes[0],
            relabel=protocol.relabel,
            seed=protocol.seed,
            device=comparison.accelerator.device,
            scratch=work,
            autocast=torch.bfloat16 if protocol.mixed_precision == "bf16" else None,
            chosen=baseline_rows(comparison),
            coding=comparison.coding,
            giver=comparison.giver,
            hard_soft=comparison.hard_soft,
            weighted=protocol.recipe == "default" or NAMED[protocol.recipe].weights,
            colours=comparison.colours,
            counts=comparison.unequal,
        )
        cache = Path(constants.HF_HOME) / "wdistill" / "full"
        self.place = Jobs(work, comparison.accelerator, comparison.quiet, cache)
        self._data = stable_hash(
            [
                comparison.real.source.fingerprint,
                [
                    len(comparison.train),
                    len(comparison.test),
                    comparison.real.eval_split,
                    comparison.data_seed,
                ],
                vars(comparison.train.preprocessing),
                protocol.mixed_precision,
                *less_precise().items(),
            ]
        )
        self._images = _digest([candidate.pixels, candidate.labels, candidate.weights])
        self._stored = {
            "soft": _digest([] if candidate.soft is None else [candidate.soft]),
            "views": _digest([] if candidate.views is None else vars(candidate.views).values()),
        }

    def under(self, recipe: Recipe) -> Trial:
        """The same with students that are trained as ``recipe`` says."""
        trial = copy.copy(self)
        trial.setting = replace(self.setting, recipe=recipe)
        return trial

    def measurements(self) -> Measurements:
        """Those of all students."""
        protocol = self.comparison.protocol
        outcomes = self.run(self.base_jobs())
        equivalents: dict[Pair, EquivalentIpc] = {}
        if protocol.equivalents and "random" in protocol.baselines:
            outcomes, equivalents = self.ladder(outcomes)
        return Measurements(self.setting.recipe, tuple(outcomes), equivalents)

    def base_jobs(self) -> list[Job]:
        """The jobs for all sets of images at the IPC of the evaluated set."""
        comparison, protocol = self.comparison, self.comparison.protocol
        all_jobs = jobs(
            protocol.students,
            list(comparison.students),
            comparison.ipc,
            ("distilled", *protocol.baselines),
        )
        full_ipc = max(1, round(len(comparison.train) / comparison.classes))
        all_jobs = [replace(job, ipc=full_ipc) if job.images == "full" else job for job in all_jobs]
        if protocol.augmentation_robust:
            augmented = [job for job in all_jobs if job.images in ("distilled", "random")]
            all_jobs += [replace(job, augment=False) for job in augmented]
        return all_jobs

    def run(self, pending: Sequence[Job]) -> list[Outcome]:
        keys = {job: self._key(job) for job in pending}
        return run_jobs(self.place, self.setting, pending, keys, self.comparison.students)

    def _key(self, job: Job) -> str:
        inputs: list[Any] = [
            self._data,
            job_key(self.setting, job, self.comparison.students[job.student]),
        ]
        if job.images == "distilled":
            inputs += [self._images, self._stored.get(job.labels)]
        elif job.images in self.setting.chosen:
            inputs.append(_digest(self.setting.chosen[job.images]))
        if job.images == "random" and self.setting.counts is not None:
            inputs.append(self.setting.counts_at(job.ipc))
        if job.images == "noise":
            candidate = self.comparison.candidate
            inputs += [_digest([candidate.labels]), self._stored.get(job.labels)]
        elif job.images not in ("distilled", "full"):
            inputs += self.comparison.coding.key
        if job.labels == "views":  # real images get the same number of views and levels
            inputs.append(self._stored["views"])
        if job.labels == "teacher":
            inputs.append(self.comparison.teacher and self.comparison.teacher.digest)
        elif job.labels != "hard":
            inputs.append([self.comparison.giver_key, vars(self.setting.relabel)])
        return stable_hash(inputs)

    def ladder(
        self, outcomes: Sequence[Outcome]
    ) -> tuple[list[Outcome], dict[Pair, EquivalentIpc]]:
        """Double (or halve) the number of random real images per class until they do better (or
        worse) than the set, for every student and kind of labels.

        At most MOST_TIMES the IPC of the set: in a fixed number of steps, a student does not
        benefit from more images.
        """
        largest_ipc = min(self._most_random(), MOST_TIMES * self.comparison.ipc)
        pairs = dict.fromkeys((outcome.job.student, outcome.job.labels) for outcome in outcomes)
        all_outcomes = list(outcomes)
        while next_jobs := [
            job for pair in pairs for job in self._rung(pair, all_outcomes, largest_ipc)
        ]:
            all_outcomes += self.run(next_jobs)
        return all_outcomes, {pair: equivalent_ipc(*_scores(all_outcomes, pair)) for pair in pairs}

    def _most_random(self) -> int:
        """The largest number of random real images per class that all classes have."""
        present = torch.bincount(self.comparison.train.labels, minlength=self.comparison.classes)
        if self.comparison.unequal is None:
            return int(present.min())
        counts = torch.tensor(self.comparison.unequal)
        held = counts > 0
        return int((present[held] / counts[held]).min() * self.comparison.ipc)

    def _rung(self, pair: Pair, outcomes: Sequence[Outcome], largest_ipc: int) -> list[Job]:
        set_scores, random = _scores(outcomes, pair)
        means = {ipc: float(np.mean(scores)) for ipc, scores in random.items()}
        low, high, score = min(means), max(means), float(np.mean(set_scores))
        ipc = 0
        if score > max(means.values()) and high < largest_ipc:
            ipc = min(2 * high, largest_ipc)
        elif score < min(means.values()) and low > 1:
            ipc = low // 2
        seeds = range(self.comparison.protocol.students.seeds) if ipc else ()
        return [Job(pair[0], "random", pair[1], ipc, seed) for seed in seeds]


def _scores(outcomes: Sequence[Outcome], pair: Pair) -> tuple[list[float], dict[int, list[float]]]:
    """Accuracies of the set, and of random real images by IPC."""
    distilled: list[float] = []
    random: dict[int, list[float]] = {}
    for outcome in outcomes:
        job = outcome.job
        if (job.student, job.labels) != pair or not job.augment:
            continue
        if job.images == "distilled":
            distilled.append(outcome.top1)
        elif job.images == "random":
            random.setdefault(job.ipc, []).append(outcome.top1)
    return distilled, random


def _digest(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        for part in tensor.split(1000):
            digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()
