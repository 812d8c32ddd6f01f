"""`wdistill evaluate`: any small set of labelled images against real ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import constants
from torch import Tensor

from wdistill.architecture import local_architectures
from wdistill.artifact import REPORT_FILE, atomic_write, write_json
from wdistill.backbone import weights_sha256
from wdistill.bench import Bench, chosen_rows, open_bench
from wdistill.card import render_card
from wdistill.card_report import for_publication
from wdistill.config import EvalConfig, JudgeConfig, RelabelConfig, RuntimeConfig, stable_hash
from wdistill.devices import open_accelerator
from wdistill.equivalent import Equivalent, equivalent_ipc
from wdistill.evaluate import Contest, Job, jobs
from wdistill.jobs import Jobs, job_key, run_jobs
from wdistill.memory import keep_freed_memory
from wdistill.published import one_set, publish_folder
from wdistill.report import render_report
from wdistill.reporting import build_report, gallery
from wdistill.run_folder import locked

MOST_TIMES = 16
PAGE_FILE = "report.html"

Outcome = dict[str, Any]
Pair = tuple[str, str]  # student, labels


def default_output(config: JudgeConfig) -> Path:
    """``report`` in a run folder, else reports/<last part of the name>."""
    path = Path(config.source).expanduser()
    if (path / "run.json").is_file():
        return path / "report"
    return Path("reports") / (Path(config.source.rstrip("/")).name or "set")


def judge(
    config: JudgeConfig,
    runtime: RuntimeConfig,
    folder: Path,
    command: str,
    echo: Callable[[str], None],
) -> dict[str, Any]:
    """Train the students, write report.json and report.html to ``folder``, return the report.

    What an earlier start has finished is not computed again. Raises WdistillError on anything that
    the user can mend.
    """
    keep_freed_memory()
    accelerator = open_accelerator(config.mixed_precision, runtime.device)
    main = accelerator.is_main_process
    with accelerator.main_process_first():
        bench = open_bench(config, runtime, accelerator)
    if main:
        _announce(bench, echo)
    with locked(folder) if main else nullcontext():
        accelerator.wait_for_everyone()
        trial = Trial(bench, folder / "work")
        every = trial.base_jobs()
        outcomes = trial.run(every)
        worth: dict[Pair, Equivalent] = {}
        if "random" in config.baselines:
            outcomes, worth = trial.ladder(outcomes)
        report = build_report(bench, trial.contest, outcomes, worth, command)
        report["local_students"] = local_architectures(bench.students)
        if main:
            write_json(folder / REPORT_FILE, report)
            page = render_report(report, gallery(bench))
            atomic_write(folder / PAGE_FILE, page.encode())
            if folder.resolve() == default_output(config).resolve():
                _tell_the_card(bench, report, echo)
        accelerator.wait_for_everyone()
    accelerator.end_training()
    return report


def _tell_the_card(bench: Bench, report: dict[str, Any], echo: Callable[[str], None]) -> None:
    """What was found of a run's set, with its own data and teacher, is published with it."""
    run, source = bench.subject.folder, (bench.subject.manifest or {}).get("source", {})
    own = bench.config.teacher is None
    own = own and bench.real.is_of(str(source.get("fingerprint")))
    if run is None or not own:
        return
    write_json(one_set(run) / REPORT_FILE, for_publication(report))
    root = publish_folder(run)
    atomic_write(root / "README.md", render_card(root).encode())
    echo(f"card: {root / 'README.md'} now tells this evaluation")


def _announce(bench: Bench, echo: Callable[[str], None]) -> None:
    subject, real = bench.subject, bench.real
    echo(
        f"judging: {subject.id}, {len(subject.labels)} images of {bench.classes} classes "
        f"({'with' if subject.soft_labels is not None else 'without'} soft labels)"
    )
    echo(
        f"against: {real.source.id}, {len(real.train)} images in {real.train_split!r}, "
        f"{len(real.eval)} test images {real.eval_place}"
    )
    for note in real.notes:
        echo(f"against: {note}")
    given = bench.teacher.name if bench.teacher else "none"
    echo(f"teacher: {given}; students: {', '.join(bench.students)}")


class Trial:
    """The students of one evaluation, trained as they are asked for."""

    def __init__(self, bench: Bench, work: Path) -> None:
        config = bench.config
        self.bench = bench
        fixed: EvalConfig = config.evaluate.fixed(len(bench.candidate.labels))
        self.contest = Contest(
            bench.candidate, bench.real.class_names, bench.train, bench.test, bench.network,
            fixed, RelabelConfig(), config.seed, bench.accelerator.device, work,
            torch.bfloat16 if config.mixed_precision == "bf16" else None, chosen_rows(bench),
        )  # fmt: skip
        shared = Path(constants.HF_HOME) / "wdistill" / "full"
        self.place = Jobs(work, bench.accelerator, bench.quiet, shared)
        self._data = stable_hash(
            [
                bench.real.source.fingerprint,
                [len(bench.train), len(bench.test), bench.real.eval_split, bench.seed],
                vars(bench.train.preprocessing),
                config.mixed_precision,
            ]
        )
        self._images = _digest(*_tensors(bench))
        self._teacher = weights_sha256(bench.teacher.model) if bench.teacher else None

    def base_jobs(self) -> list[Job]:
        """All sets of images at the IPC of the set that is judged."""
        bench, config = self.bench, self.bench.config
        every = jobs(
            config.evaluate,
            list(bench.students),
            bench.candidate.ipc,
            ("distilled", *config.baselines),
        )
        whole = max(1, round(len(bench.train) / bench.classes))
        every = [replace(job, ipc=whole) if job.images == "full" else job for job in every]
        if config.augmentation_robust:
            compared = [job for job in every if job.images in ("distilled", "random")]
            every += [replace(job, augment=False) for job in compared]
        return every

    def run(self, every: list[Job]) -> list[Outcome]:
        keys = {job: self._key(job) for job in every}
        return run_jobs(self.place, self.contest, every, keys, self.bench.students)

    def _key(self, job: Job) -> str:
        depends: list[Any] = [
            self._data,
            job_key(self.contest, job, self.bench.students[job.student]),
        ]
        if job.images == "distilled":
            depends.append(self._images)
        elif job.images in self.contest.chosen:
            rows, weights = self.contest.chosen[job.images]
            depends.append(_digest(rows, weights))
        if job.labels != "hard":
            depends.append([self._teacher, vars(self.contest.relabel)])
        return stable_hash(depends)

    def ladder(self, outcomes: list[Outcome]) -> tuple[list[Outcome], dict[Pair, Equivalent]]:
        """Random real images at more and more (or fewer and fewer) images per class, by factors of
        two, until they do better (or worse) than the set, for every student and labels.

        Up to MOST_TIMES as many as the set has: in a fixed number of steps, still more images
        teach a student nothing.
        """
        counts = torch.bincount(self.bench.train.labels, minlength=self.bench.classes)
        most = min(int(counts.min()), MOST_TIMES * self.bench.candidate.ipc)
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
        seeds = range(self.bench.config.evaluate.seeds) if ipc else ()
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


def _tensors(bench: Bench) -> list[Tensor]:
    given = bench.candidate
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
