"""Students are trained and tested, each once: its outcome is kept under what it depends on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from pydantic import ValidationError
from torch import Tensor

from wdistill.artifact.records.model import Count, Number, Record
from wdistill.artifact.report import Curve
from wdistill.core.files import write_json
from wdistill.core.processes import Work, share_out
from wdistill.core.seeds import stream_seed
from wdistill.evaluation.metrics import score_network
from wdistill.evaluation.students.jobs import Job, StudentSetting
from wdistill.evaluation.students.shown import training_set
from wdistill.evaluation.training import Training, train_student
from wdistill.networks.backbones import new_network
from wdistill.networks.checkpoints.source import BackboneSource
from wdistill.networks.features import FeatureNetwork

CURVE_POINTS = 50
CONFUSION_CLASSES = 100  # a larger matrix is not stored


class Outcome(Record):
    """What the student of a job has reached after its last step, on all test images.

    confusion: None where it would have more than CONFUSION_CLASSES rows.
    """

    job: Job
    top1: Number
    top5: Number | None
    per_class: tuple[Number, ...]
    confusion: tuple[tuple[Count, ...], ...] | None
    steps: Count
    curve: Curve
    seconds: Number


def run_job(
    setting: StudentSetting,
    job: Job,
    source: BackboneSource,
    on_step: Callable[[], object] = lambda: None,
) -> Outcome:
    """Train one student from random weights and test its last step on all test images."""
    began = time.perf_counter()
    preprocessing, device = setting.train.preprocessing, setting.device
    if setting.colours is not None:
        preprocessing = replace(preprocessing, mean=setting.colours[0], std=setting.colours[1])
    seed = stream_seed(setting.seed, "student", job.student, job.seed) % 2**31
    model = new_network(source, setting.class_names, preprocessing.resolution, seed)
    losses: list[Tensor] = []

    def stepped(loss: Tensor) -> None:
        losses.append(loss)
        on_step()

    training = Training(setting.recipe, seed, device, setting.autocast, setting.graphs)
    train_student(model, training_set(setting, job), preprocessing, training, stepped)
    score = score_network(FeatureNetwork(model, preprocessing, device), setting.test)
    few = len(score.confusion) <= CONFUSION_CLASSES
    return Outcome(
        job=job,
        top1=score.top1,
        top5=score.top5,
        per_class=tuple(round(value, 4) for value in score.per_class),
        confusion=tuple(map(tuple, score.confusion.tolist())) if few else None,
        steps=len(losses),
        curve=_curve(losses),
        seconds=round(time.perf_counter() - began, 2),
    )


def _curve(losses: Sequence[Tensor]) -> Curve:
    """Mean losses of about CURVE_POINTS stretches of training, and the step each ends with."""
    if not losses:
        return Curve()
    parts = torch.stack(list(losses)).float().cpu().tensor_split(min(CURVE_POINTS, len(losses)))
    ends = np.cumsum([len(part) for part in parts])
    return Curve(
        step=tuple(ends.tolist()), loss=tuple(round(float(part.mean()), 5) for part in parts)
    )


@dataclass(frozen=True)
class Jobs:
    """Where outcomes are kept, and who works on them. shared: where those of the full data are,
    which many sets are compared with.
    """

    folder: Path
    accelerator: Accelerator
    quiet: bool
    shared: Path | None = None

    def path(self, job: Job, key: str) -> Path:
        """The file of a job's outcome; another key means another file, so that each one stays."""
        shared = self.shared if job.images == "full" else None
        return (shared or self.folder) / f"{job.name}-{key}.json"


def job_key(setting: StudentSetting, job: Job, source: BackboneSource) -> list[Any]:
    """What a job's outcome depends on, beside the images."""
    recipe = setting.recipe.model_dump(exclude={"epochs", "name", "changed"})
    described = source.config.to_json_string()
    return [asdict(job), recipe, described, setting.seed, setting.weighted, setting.colours]


def run_jobs(
    place: Jobs,
    setting: StudentSetting,
    every: Sequence[Job],
    keys: Mapping[Job, str],
    sources: Mapping[str, BackboneSource],
) -> list[Outcome]:
    """The outcomes of ``every`` job, in order; those stored under their key are not run again."""
    paths = [place.path(job, keys[job]) for job in every]

    def compute(index: int, advance: Callable[[int], object]) -> None:
        job = every[index]
        outcome = run_job(setting, job, sources[job.student], lambda: advance(1))
        write_json(paths[index], outcome.model_dump(mode="json"))

    pieces = Work(
        name="students",
        paths=paths,
        valid=lambda index: read_outcome(paths[index]) is not None,
        compute=compute,
        ticks=lambda _: setting.recipe.steps,
        tick_name="step",
    )
    share_out(pieces, place.accelerator, place.quiet)
    outcomes = [read_outcome(path) for path in paths]
    return [outcome for outcome in outcomes if outcome is not None]


def read_outcome(path: Path) -> Outcome | None:
    """None if there is none, or a damaged one."""
    try:
        return Outcome.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
