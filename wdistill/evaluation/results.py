"""Build a report from the outcomes of students: rows, bytes and scores."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from wdistill.artifact.report import (
    ADAMW,
    Curve,
    Equivalent,
    Panel,
    RealData,
    Recipe,
    Report,
    ResultRow,
    Scores,
    TeacherScore,
    adjacent,
    panel_equivalents,
    panel_of,
    panel_rows,
    panels,
)
from wdistill.config import FORMAT_VERSION, Labels
from wdistill.core.devices import device_name, versions
from wdistill.core.text import displayed, without_folders
from wdistill.evaluation.comparison import Comparison
from wdistill.evaluation.metrics import EquivalentIpc, ranking_scores, score_network
from wdistill.evaluation.recipes.named import NAMED
from wdistill.evaluation.recipes.published import RealTest, comparable
from wdistill.evaluation.students import Job, Outcome, in_proportion
from wdistill.networks.checkpoints.description import local_architectures


@dataclass(frozen=True)
class Measurements:
    """The outcomes of all students that were trained as ``recipe`` says, and the equivalent IPC for
    each student and kind of labels.
    """

    recipe: Recipe
    outcomes: tuple[Outcome, ...]
    equivalents: Mapping[tuple[str, Labels], EquivalentIpc]


def build_report(
    comparison: Comparison, measurements: Sequence[Measurements], command: str
) -> Report:
    """The report of an evaluation, without the projection, which only its page shows.

    Args:
        measurements: Those of each optimiser.
        command: How the evaluation was started.
    """
    names = displayed(comparison.students)
    plain = [row for each in measurements for row in _rows(comparison, each, names, False)]
    rows = [row for each in measurements for row in _rows(comparison, each, names, True)]
    order = adjacent(panel_of(row) for row in rows)
    rows.sort(key=lambda row: order.index(panel_of(row)))
    real = comparison.real
    return Report(
        format_version=FORMAT_VERSION,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        command=shlex.join(without_folders(shlex.split(command))),
        source=comparison.evaluated,
        against=RealData(
            id=real.source.id,
            url=real.source.url,
            revision=real.source.revision,
            fingerprint=real.source.fingerprint,
            train_split=real.train_split,
            eval_split=real.eval_place if real.eval_is_holdout else real.eval_split,
            train_images=len(real.train),
            eval_images=len(real.eval),
        ),
        resolution=comparison.train.preprocessing.resolution,
        recipe=comparison.recipes[0],
        other_recipes=comparison.recipes[1:],
        comparable=_comparable(comparison, rows),
        teacher=_teacher(comparison),
        rows=tuple(rows),
        plain_rows=tuple(plain),
        equivalents=tuple(
            Equivalent(
                student=names[student],
                optimizer=each.recipe.optimizer,
                labels=labels,
                **vars(equivalent),
            )
            for each in measurements
            for (student, labels), equivalent in each.equivalents.items()
        ),
        scores=tuple(ranking_scores(rows, plain)),
        local_students=local_architectures(comparison.students),
        device=device_name(comparison.accelerator.device),
        versions=versions(),
    )


def _comparable(comparison: Comparison, rows: Sequence[ResultRow]) -> str:
    """The line about published numbers; other students or labels than the recipe's are changes."""
    recipe, real = comparison.recipes[0], comparison.real
    named = NAMED.get(recipe.name)
    row = ""
    if named is not None:
        own = named.student(comparison.train.preprocessing.resolution).name
        row = f"{own} with {named.labels} labels"
        tried = dict.fromkeys(f"{row.student} with {row.labels} labels" for row in rows)
        if row not in tried:
            change = f"{' and '.join(tried)} in place of {row}"
            recipe = recipe.model_copy(update={"changed": (*recipe.changed, change)})
    tested = RealTest(real.source.id, comparison.classes, len(comparison.test))
    return comparable(recipe, row, tested)


def merge_reports(report: Report, earlier: Report) -> Report:
    """``report`` extended by the results of an earlier one, if both have the same set, real data,
    recipe (whatever its optimiser), teacher, device and versions; otherwise ``report`` itself.

    The rows of a student, kind of labels and optimiser are taken from ``report``, unless the
    earlier report has all of them, from at least as many seeds, and their equivalent IPC.
    """
    circumstances = ("source", "against", "resolution", "teacher", "device", "versions")
    recipes = _recipes_of_both(report, earlier)
    if not recipes or any(getattr(report, n) != getattr(earlier, n) for n in circumstances):
        return report
    every = adjacent([*panels(earlier), *panels(report)])
    report_of = {panel: earlier if _covers(earlier, report, panel) else report for panel in every}
    rows = tuple(row for panel in every for row in panel_rows(report_of[panel], *panel))
    return report.model_copy(
        update={
            "recipe": recipes[0],
            "other_recipes": tuple(recipes[1:]),
            "rows": rows,
            "equivalents": tuple(
                equivalent
                for panel in every
                for equivalent in panel_equivalents(report_of[panel], *panel)
            ),
            "scores": tuple(_with_unaugmented(ranking_scores(rows, ()), report, earlier)),
            "local_students": {**earlier.local_students, **report.local_students},
        }
    )


def _recipes_of_both(report: Report, earlier: Report) -> list[Recipe]:
    """The recipes of both, each once; none if they differ in more than their optimisers, or have
    two recipes for one of these.
    """
    recipes = [*earlier.recipes, *(each for each in report.recipes if each not in earlier.recipes)]
    own = {"optimizer", "lr", "weight_decay", "momentum"}
    shared = [recipe.model_dump(exclude=own) for recipe in recipes]
    names = {recipe.optimizer for recipe in recipes}
    alike = all(each == shared[0] for each in shared) and len(names) == len(recipes)
    return recipes if alike else []


def _with_unaugmented(scores: Iterable[Scores], *reports: Report) -> Iterable[Scores]:
    """Add the augmentation-robust scores of ``reports``: they need rows that are not published."""
    values = {
        (row.student, row.optimizer): row.augmentation_robust_score
        for report in reversed(reports)
        for row in report.scores
        if row.augmentation_robust_score is not None
    }
    for row in scores:
        value = values.get((row.student, row.optimizer))
        yield row.model_copy(update={"augmentation_robust_score": value})


def _covers(earlier: Report, report: Report, panel: Panel) -> bool:
    if panel_equivalents(report, *panel) and not panel_equivalents(earlier, *panel):
        return False
    seeds = {(row.images, row.ipc): row.n for row in panel_rows(earlier, *panel)}
    rows = panel_rows(report, *panel)
    return all(seeds.get((row.images, row.ipc), 0) >= row.n for row in rows)


def _teacher(comparison: Comparison) -> TeacherScore | None:
    teacher = comparison.teacher
    if teacher is None:
        return None
    accuracy = teacher.accuracy
    if accuracy is None:
        accuracy = score_network(teacher.network, comparison.test).top1
    return TeacherScore(name=teacher.name, accuracy=accuracy)


def _rows(
    comparison: Comparison, measured: Measurements, names: Mapping[str, str], augment: bool
) -> Iterable[ResultRow]:
    selected = [outcome for outcome in measured.outcomes if outcome.job.augment == augment]
    for group in group_by_row(selected):
        job = group[0].job
        size, optimizer = _bytes(comparison, job), measured.recipe.optimizer
        yield result_row(group, names[job.student], size, optimizer)


def group_by_row(outcomes: Iterable[Outcome]) -> list[list[Outcome]]:
    """Group the outcomes that differ only in their seeds, ordered by seed. Groups of one student
    and kind of labels are adjacent.
    """
    outcomes = list(outcomes)
    pairs = list(dict.fromkeys((outcome.job.student, outcome.job.labels) for outcome in outcomes))
    outcomes.sort(key=lambda outcome: pairs.index((outcome.job.student, outcome.job.labels)))
    groups: dict[tuple[object, ...], list[Outcome]] = {}
    for outcome in outcomes:
        job = outcome.job
        key = (job.student, job.images, job.labels, job.ipc, job.augment)
        groups.setdefault(key, []).append(outcome)
    return [sorted(group, key=lambda outcome: outcome.job.seed) for group in groups.values()]


def result_row(
    group: Sequence[Outcome], student: str, size: int, optimizer: str = ADAMW
) -> ResultRow:
    """Mean and sample deviation over the seeds of ``group``; confusion matrices are summed.

    Args:
        group: Outcomes that differ only in their seeds.
        student: Published name.
        size: Bytes of the images and of what labels them.
        optimizer: Of their recipe.
    """
    first = group[0]
    top1 = [outcome.top1 for outcome in group]
    top5 = [outcome.top5 for outcome in group if outcome.top5 is not None]
    counts = [outcome.confusion for outcome in group if outcome.confusion is not None]
    losses = np.mean([outcome.curve.loss for outcome in group], axis=0).round(5)
    return ResultRow(
        student=student,
        optimizer=optimizer,
        images=first.job.images,
        labels=first.job.labels,
        ipc=first.job.ipc,
        bytes=size,
        steps=first.steps,
        n=len(group),
        top1_mean=float(np.mean(top1)),
        top1_std=_deviation(top1),
        top1=tuple(top1),
        top5_mean=float(np.mean(top5)) if top5 else None,
        top5_std=_deviation(top5) if top5 else None,
        seeds=tuple(outcome.job.seed for outcome in group),
        seconds=round(sum(outcome.seconds for outcome in group), 2),
        per_class=tuple(
            np.mean([outcome.per_class for outcome in group], axis=0).round(4).tolist()
        ),
        confusion=tuple(map(tuple, np.sum(counts, axis=0).tolist())) if counts else None,
        curve=Curve(step=first.curve.step, loss=tuple(losses.tolist())),
    )


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _bytes(comparison: Comparison, job: Job) -> int:
    """Bytes of the images, of their weights and of their labels: 8 for a class, 4 C for a soft
    label, and the teacher's weights if it labels during training.

    Images are counted as files of the set's kind at the working resolution, of which a sample is
    taken for real ones, four tiles being as large as one image; noise, which no coding makes
    smaller, as three bytes a pixel.
    """
    count = len(comparison.candidate.labels) // comparison.tiles
    views = comparison.label_bytes / count  # of one image
    if job.images == "distilled":
        images = comparison.set_bytes
    elif job.images == "noise":
        images = comparison.candidate.pixels.numel()
    else:
        count = len(comparison.train) if job.images == "full" else _images(comparison, job)
        images = round(comparison.real_bytes * count)
    label = {"hard": 8, "soft": 4 * comparison.classes, "views": views, "teacher": 0}[job.labels]
    weight = 4 if job.images in ("distilled", "nearest") else 0
    teacher = 0
    if job.labels == "teacher" and comparison.teacher is not None:
        parameters = comparison.teacher.network.model.parameters()
        teacher = 4 * sum(p.numel() for p in parameters)
    return round(images + count * (label + weight) + teacher)


def _images(comparison: Comparison, job: Job) -> int:
    """Real images that the student of a job sees."""
    if comparison.unequal is None:
        return job.ipc * comparison.classes
    return sum(in_proportion(comparison.unequal, job.ipc))
