"""`wdistill evaluate`: any small set of labelled images against real ones."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import constants
from torch import Tensor

from wdistill.artifact.distilled_set import REPORT_FILE
from wdistill.config import EvaluateConfig, RelabelConfig, RuntimeConfig, StudentConfig, stable_hash
from wdistill.core.devices import keep_freed_memory, open_accelerator
from wdistill.core.files import atomic_write, locked, write_json
from wdistill.evaluation.comparison import Comparison, chosen_rows, open_comparison
from wdistill.evaluation.metrics import Equivalent, equivalent_ipc
from wdistill.evaluation.page.report import render_report
from wdistill.evaluation.results import build_report, gallery
from wdistill.evaluation.students import Job, Jobs, StudentSetting, job_key, jobs, run_jobs
from wdistill.networks.backbones import local_architectures, weights_sha256

logger = logging.getLogger(__name__)

MOST_TIMES = 16
PAGE_FILE = "report.html"
Outcome = dict[str, Any]
Pair = tuple[str, str]  # student, labels


def default_output(config: EvaluateConfig) -> Path:
    """``report`` in a run folder, else reports/<last part of the name>."""
    path = Path(config.source).expanduser()
    if (path / "run.json").is_file():
        return path / "report"
    return Path("reports") / (Path(config.source.rstrip("/")).name or "set")


def judge(
    config: EvaluateConfig,
    runtime: RuntimeConfig,
    folder: Path,
    command: str,
    on_own_run: Callable[[Comparison, dict[str, Any]], None],
) -> dict[str, Any]:
    """Train the students, write report.json and report.html to ``folder``, return the report.

    What an earlier start has finished is not computed again. Raises WdistillError on anything that
    the user can mend.
    """
    keep_freed_memory()
    accelerator = open_accelerator(config.mixed_precision, runtime.device)
    main = accelerator.is_main_process
    with accelerator.main_process_first():
        comparison = open_comparison(config, runtime, accelerator)
    if main:
        _announce(comparison)
    with locked(folder) if main else nullcontext():
        accelerator.wait_for_everyone()
        trial = Trial(comparison, folder / "work")
        every = trial.base_jobs()
        outcomes = trial.run(every)
        worth: dict[Pair, Equivalent] = {}
        if "random" in config.baselines:
            outcomes, worth = trial.ladder(outcomes)
        report = build_report(comparison, trial.setting, outcomes, worth, command)
        report["local_students"] = local_architectures(comparison.students)
        if main:
            write_json(folder / REPORT_FILE, report)
            page = render_report(report, gallery(comparison))
            atomic_write(folder / PAGE_FILE, page.encode())
            if folder.resolve() == default_output(config).resolve():
                on_own_run(comparison, report)
        accelerator.wait_for_everyone()
    accelerator.end_training()
    return report


def _announce(comparison: Comparison) -> None:
    subject, real = comparison.subject, comparison.real
    logger.info(
        f"judging: {subject.id}, {len(subject.labels)} images of {comparison.classes} classes "
        f"({'with' if subject.soft_labels is not None else 'without'} soft labels)"
    )
    logger.info(
        f"against: {real.source.id}, {len(real.train)} images in {real.train_split!r}, "
        f"{len(real.eval)} test images {real.eval_place}"
    )
    for note in real.notes:
        logger.info(f"against: {note}")
    given = comparison.teacher.name if comparison.teacher else "none"
    logger.info(f"teacher: {given}; students: {', '.join(comparison.students)}")


class Trial:
    """The students of one evaluation, trained as they are asked for."""

    def __init__(self, comparison: Comparison, work: Path) -> None:
        config = comparison.config
        self.comparison = comparison
        fixed: StudentConfig = config.evaluate.fixed(len(comparison.candidate.labels))
        self.setting = StudentSetting(
            comparison.candidate, comparison.real.class_names, comparison.train, comparison.test,
            comparison.network,
            fixed, RelabelConfig(), config.seed, comparison.accelerator.device, work,
            torch.bfloat16 if config.mixed_precision == "bf16" else None, chosen_rows(comparison),
        )  # fmt: skip
        shared = Path(constants.HF_HOME) / "wdistill" / "full"
        self.place = Jobs(work, comparison.accelerator, comparison.quiet, shared)
        self._data = stable_hash(
            [
                comparison.real.source.fingerprint,
                [
                    len(comparison.train),
                    len(comparison.test),
                    comparison.real.eval_split,
                    comparison.seed,
                ],
                vars(comparison.train.preprocessing),
                config.mixed_precision,
            ]
        )
        self._images = _digest(*_tensors(comparison))
        self._teacher = weights_sha256(comparison.teacher.model) if comparison.teacher else None

    def base_jobs(self) -> list[Job]:
        """All sets of images at the IPC of the set that is judged."""
        comparison, config = self.comparison, self.comparison.config
        every = jobs(
            config.evaluate,
            list(comparison.students),
            comparison.candidate.ipc,
            ("distilled", *config.baselines),
        )
        whole = max(1, round(len(comparison.train) / comparison.classes))
        every = [replace(job, ipc=whole) if job.images == "full" else job for job in every]
        if config.augmentation_robust:
            compared = [job for job in every if job.images in ("distilled", "random")]
            every += [replace(job, augment=False) for job in compared]
        return every

    def run(self, every: list[Job]) -> list[Outcome]:
        keys = {job: self._key(job) for job in every}
        return run_jobs(self.place, self.setting, every, keys, self.comparison.students)

    def _key(self, job: Job) -> str:
        depends: list[Any] = [
            self._data,
            job_key(self.setting, job, self.comparison.students[job.student]),
        ]
        if job.images == "distilled":
            depends.append(self._images)
        elif job.images in self.setting.chosen:
            rows, weights = self.setting.chosen[job.images]
            depends.append(_digest(rows, weights))
        if job.labels != "hard":
            depends.append([self._teacher, vars(self.setting.relabel)])
        return stable_hash(depends)

    def ladder(self, outcomes: list[Outcome]) -> tuple[list[Outcome], dict[Pair, Equivalent]]:
        """Random real images at more and more (or fewer and fewer) images per class, by factors of
        two, until they do better (or worse) than the set, for every student and labels.

        Up to MOST_TIMES as many as the set has: in a fixed number of steps, still more images
        teach a student nothing.
        """
        counts = torch.bincount(self.comparison.train.labels, minlength=self.comparison.classes)
        most = min(int(counts.min()), MOST_TIMES * self.comparison.candidate.ipc)
        pairs = dict.fromkeys((o["student"], o["labels"]) for o in outcomes)
        while True:
            wanted = [
                job for pair in pairs for job in self._rung(*_scores(outcomes, pair), pair, most)
            ]
            if not wanted:
                break
            outcomes = outcomes + self.run(wanted)
        return outcomes, {pair: equivalent_ipc(*_scores(outcomes, pair)) for pair in pairs}

    def _rung(
        self, own: list[float], random: dict[int, list[float]], pair: Pair, most: int
    ) -> list[Job]:
        means = {ipc: float(np.mean(scores)) for ipc, scores in random.items()}
        low, high, score = min(means), max(means), float(np.mean(own))
        ipc = 0
        if score > max(means.values()) and high < most:
            ipc = min(2 * high, most)
        elif score < min(means.values()) and low > 1:
            ipc = low // 2
        seeds = range(self.comparison.config.evaluate.seeds) if ipc else ()
        return [Job(pair[0], "random", pair[1], ipc, seed) for seed in seeds]  # type: ignore[arg-type]


def _scores(outcomes: list[Outcome], pair: Pair) -> tuple[list[float], dict[int, list[float]]]:
    """Accuracies of the set, and those of random real images by IPC."""
    own: list[float] = []
    random: dict[int, list[float]] = {}
    for outcome in outcomes:
        if (outcome["student"], outcome["labels"]) != pair or not outcome["augment"]:
            continue
        if outcome["images"] == "distilled":
            own.append(outcome["top1"])
        elif outcome["images"] == "random":
            random.setdefault(outcome["ipc"], []).append(outcome["top1"])
    return own, random


def _tensors(comparison: Comparison) -> list[Tensor]:
    given = comparison.candidate
    return [
        given.pixels,
        given.labels,
        given.weights,
        *([] if given.soft is None else [given.soft]),
        *([] if given.views is None else vars(given.views).values()),
    ]


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        for part in tensor.split(1000):
            digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()
