"""Who labels the distilled images: the giver whose labels short students learn most from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wdistill.artifact.distilled_set import Candidate
from wdistill.artifact.manifest import LabelTrial
from wdistill.config import Labels, RunConfig, StudentConfig
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
    """Students that choose: for hard labels, each giver, and one label an image of the best."""
    if config.relabel.giver != "auto":
        return 0
    return (2 + len(candidates(config, resolution))) * len(KINDS) * SHORT.seeds


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
        tried: What the choice was made from; nothing where the settings name the giver.
    """

    giver: Giver | None
    soft_helps: bool
    tried: tuple[LabelTrial, ...] = ()

    @property
    def name(self) -> str:
        return self.giver.name if self.giver else "none"


def choose_giver(
    run: Run,
    teacher: Teacher,
    givers: Mapping[str, Giver],
    images: Candidate,
    labelled: Callable[[Giver], Labelled],
) -> ChosenLabels:
    """The giver that the settings name; with `auto` the one whose labels give short students the
    highest mean accuracy, among those with which no kind of student is worse than with hard labels.

    All processes must call it; they share the work.

    Args:
        images: With hard labels.
        labelled: The labels of a giver, as they would be published.
    """
    if run.config.relabel.giver == "none":
        return ChosenLabels(None, False)
    if run.config.relabel.giver != "auto":
        return ChosenLabels(givers[run.config.relabel.giver], run.config.budget is None)
    scores: dict[tuple[str, str], NDArray[np.float64]] = {}

    def score(name: str, kind: Labels, candidate: Candidate, key: str) -> None:
        config = replace(
            SHORT,
            labels=(kind,),
            steps=short_steps(run.config, len(run.data.class_names)),
            temperature=run.config.evaluate.temperature,
        )
        students = ShortStudents(run, teacher, config, "labels")
        scores[name, kind] = students.scores(candidate, [key, kind])

    score("none", "hard", images, labelled(givers["teacher"]).key)
    for name, giver in givers.items():
        given = labelled(giver)
        kind: Labels = "soft" if given.views is None else "views"
        score(name, kind, replace(images, soft=given.soft, views=given.views), given.key)
    hard = scores["none", "hard"].mean(1)
    helpful = {n: s.mean() for (n, _), s in scores.items() if bool((s.mean(1) >= hard).all())}
    name = max(helpful, key=lambda each: helpful[each])
    chosen = givers.get(name)
    soft_helps = chosen is not None
    if run.config.budget is not None:
        soft_helps = False  # views say more in fewer bytes
    elif chosen is not None and labelled(chosen).views is not None:
        given = labelled(chosen)
        score(name, "soft", replace(images, soft=given.soft), given.key)
        soft_helps = bool((scores[name, "soft"].mean(1) >= hard).all())
    tried = tuple(
        LabelTrial(giver=each, labels=kind, top1=tuple(map(tuple, values.tolist())))
        for (each, kind), values in scores.items()
    )
    if run.accelerator.is_main_process:
        logger.info(_told(name, tried))
    return ChosenLabels(chosen, soft_helps, tried)


def _told(name: str, tried: Sequence[LabelTrial]) -> str:
    shown = ", ".join(
        f"{trial} {' and '.join(f'{100 * np.mean(kind):.1f}%' for kind in trial.top1)}"
        for trial in tried
    )
    return f"labels: {name}, chosen from the accuracies of short {' and '.join(KINDS)}: {shown}"
