"""Who labels the distilled images: the giver whose labels short students learn most from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wdistill.artifact.candidate import Candidate
from wdistill.artifact.records import LabelTrial
from wdistill.config import WARM, Labels, RunConfig, StudentConfig
from wdistill.core.files import has_tensors
from wdistill.core.processes import Work, share_out
from wdistill.core.seeds import stream_seed
from wdistill.core.settings import stable_hash
from wdistill.labels.committee import LabelGiver, member_file, open_committee, save_member
from wdistill.labels.views import LabelViews
from wdistill.pipeline.choices.short import KINDS, ShortStudents
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.stages.convnets import BriefTraining
from wdistill.pipeline.teacher import Teacher

logger = logging.getLogger(__name__)

LARGEST = 64  # [own] pixels of a side up to which `auto` tries the committee: as was measured
SHORT = StudentConfig(seeds=2)
MOST_STEPS = 400  # [own] of the students that choose: as many as the default at IPC 10


def candidates(config: RunConfig, resolution: int) -> tuple[str, ...]:
    """Names of the givers that are tried, besides hard labels; one, where the settings name it."""
    if config.relabel.giver != "auto":
        return (config.relabel.giver,)
    return ("teacher", "committee") if resolution <= LARGEST else ("teacher",)


def short_students(config: RunConfig, resolution: int) -> int:
    """Students that choose: for hard labels, each giver, and of the best another temperature and
    one label an image.
    """
    if config.relabel.giver != "auto":
        return 0
    warm = config.evaluate.temperature is None
    return (2 + warm + len(candidates(config, resolution))) * len(KINDS) * SHORT.seeds


def short_steps(config: RunConfig, classes: int) -> int:
    """Steps of the students that choose: as the run's own students take, up to MOST_STEPS."""
    return min(MOST_STEPS, config.evaluate.budget(config.barycenter.total(classes))[0])


@dataclass(frozen=True, eq=False)
class Giver:
    """name: teacher or committee; key: a hash of everything that its labels depend on."""

    name: str
    network: LabelGiver
    key: str


def open_givers(run: Run, teacher: Teacher) -> dict[str, Giver]:
    """The givers that are tried, by name. The committee is trained if it is among them."""
    names = candidates(run.config, teacher.train.preprocessing.resolution)
    givers = {"teacher": Giver("teacher", teacher.network, teacher.key)}
    if "committee" in names:
        key = _train_member(run, teacher)
        pixels = teacher.train.preprocessing
        committee = open_committee(teacher.network, run.work, run.data.class_names, pixels)
        givers["committee"] = Giver("committee", committee, stable_hash([key, teacher.key]))
    return {name: givers[name] for name in names if name in givers}


def _train_member(run: Run, teacher: Teacher) -> str:
    """Train the committee's network. Returns a hash of everything that it depends on."""
    training = BriefTraining(run, teacher, run.config.relabel.committee_steps)
    key, path = training.key, member_file(run.work)

    def compute(_: int, advance: Callable[[int], object]) -> None:
        seed = stream_seed(run.config.seed, "committee") % 2**31
        save_member(training.network(seed, lambda _: advance(1)), path, key)

    work = Work(
        name="committee",
        paths=[path],
        valid=lambda _: has_tensors(path, key),
        compute=compute,
        ticks=lambda _: training.steps,
        tick_name="step",
    )
    share_out(work, run.accelerator, run.quiet)
    return key


@dataclass(frozen=True, eq=False)
class Labelled:
    """What a giver makes of the images. views: None if none are to be stored; key: of them."""

    soft: Tensor
    views: LabelViews | None
    key: str


@dataclass(frozen=True, eq=False)
class ChosenLabels:
    """The labels that are published.

    Attributes:
        giver: None for hard labels.
        soft_helps: Whether the one label of each image is no worse than its class alone.
        temperature: At which students should see the giver's labels.
        tried: What the choice was made from; nothing where the settings name the giver.
    """

    giver: Giver | None
    soft_helps: bool
    temperature: float
    tried: tuple[LabelTrial, ...] = ()

    @property
    def name(self) -> str:
        return self.giver.name if self.giver else "none"


@dataclass(frozen=True)
class _Way:
    """A way to label images: by whom, once or view by view, and for which temperature."""

    giver: str
    labels: Labels
    temperature: float


def choose_giver(
    run: Run,
    teacher: Teacher,
    givers: Mapping[str, Giver],
    images: Candidate,
    labelled: Callable[[Giver, float], Labelled],
) -> ChosenLabels:
    """The giver that the settings name; with `auto` the one whose labels give short students the
    highest mean accuracy, among those with which no kind of student is worse than with hard labels.
    Of the best giver, labels at a higher temperature are tried as well, where it is left open.

    All processes must call it; they share the work.

    Args:
        images: With hard labels.
        labelled: The labels of a giver for a temperature, as they would be published.
    """
    config, usual = run.config, run.config.evaluate.label_temperature
    if config.relabel.giver == "none":
        return ChosenLabels(None, False, usual)
    if config.relabel.giver != "auto":
        return ChosenLabels(givers[config.relabel.giver], run.budget is None, usual)
    hard = _Way("none", "hard", usual)
    scores: dict[_Way, NDArray[np.float64]] = {}

    def score(way: _Way) -> None:
        given = labelled(givers.get(way.giver, givers["teacher"]), way.temperature)
        candidate = images
        if way.labels == "soft":
            candidate = replace(images, soft=given.soft)
        elif way.labels == "views":
            candidate = replace(images, soft=given.soft, views=given.views)
        students = ShortStudents(run, teacher, _students(run, way), "labels")
        inputs = [given.key, way.labels]
        scores[way] = students.scores(lambda: candidate, len(images.labels), inputs)

    def helps(way: _Way) -> bool:
        return bool((scores[way].mean(1) >= scores[hard].mean(1)).all())

    def best() -> _Way:
        return max(filter(helps, scores), key=lambda way: scores[way].mean())

    score(hard)
    for name, giver in givers.items():
        views = labelled(giver, usual).views
        score(_Way(name, "soft" if views is None else "views", usual))
    if best() != hard and config.evaluate.temperature is None:
        score(replace(best(), temperature=WARM))
    way = best()
    soft_helps = way.labels == "soft" and run.budget is None
    if way.labels == "views" and run.budget is None:  # with one, views say more in fewer bytes
        once = replace(way, labels="soft")
        score(once)
        soft_helps = helps(once)
    tried = tuple(
        LabelTrial(**vars(each), top1=tuple(map(tuple, values.tolist())))
        for each, values in scores.items()
    )
    if run.accelerator.is_main_process:
        logger.info(_told(way.giver, tried))
    return ChosenLabels(givers.get(way.giver), soft_helps, way.temperature, tried)


def _students(run: Run, way: _Way) -> StudentConfig:
    steps = short_steps(run.config, len(run.data.class_names))
    return replace(SHORT, labels=(way.labels,), steps=steps, temperature=way.temperature)


def _told(name: str, tried: Sequence[LabelTrial]) -> str:
    shown = ", ".join(
        f"{trial} {' and '.join(f'{100 * np.mean(kind):.1f}%' for kind in trial.top1)}"
        for trial in tried
    )
    return f"labels: {name}, chosen from the accuracies of short {' and '.join(KINDS)}: {shown}"
