"""All students of one evaluation, trained on demand, and random real images as good as the set."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import constants
from torch import Tensor

from wdistill.artifact.report import Recipe
from wdistill.config import Labels
from wdistill.core.devices import less_precise
from wdistill.core.settings import stable_hash
from wdistill.evaluation.comparison import Comparison, baseline_rows
from wdistill.evaluation.metrics import EquivalentIpc, equivalent_ipc
from wdistill.evaluation.recipes.named import NAMED
from wdistill.evaluation.results import Measurements
from wdistill.evaluation.students import Job, Jobs, Outcome, StudentSetting, job_key, jobs, run_jobs

MOST_TIMES = 16
Pair = tuple[str, Labels]  # student, labels


def measure(comparison: Comparison, work: Path) -> tuple[Measurements, ...]:
    """Train and test all students with each optimiser; outcomes already stored in ``work`` are
    reused.

    All processes must call it; they share the students, and each returns all outcomes.
    """
    trial = Trial(comparison, work)
    return tuple(trial.under(recipe).measurements() for recipe in comparison.recipes)


class Trial:
    """The students of one evaluation, trained on demand by the first of its optimisers."""

    def __init__(self, comparison: Comparison, work: Path) -> None:
        protocol, candidate = comparison.protocol, comparison.candidate
        self.comparison = comparison
        self.setting = StudentSetting(
            candidate=lambda: candidate,
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
            graphs=comparison.graphs,
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
