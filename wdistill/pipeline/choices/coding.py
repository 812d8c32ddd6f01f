"""The coding of the images: as given, or the coarsest that costs short students no accuracy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from wdistill.artifact.candidate import Candidate, mean_one
from wdistill.artifact.records import CodingTrial
from wdistill.config import CodingConfig, StudentConfig
from wdistill.core.units import StageOutput
from wdistill.data.content.coding import Coding
from wdistill.pipeline.choices.short import ShortStudents
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.teacher import Teacher
from wdistill.synthesis.optimise import DistilledUnit
from wdistill.transport.plan import TransportUnit

logger = logging.getLogger(__name__)

LOSSLESS = Coding("webp")
QUALITIES = (90, 60, 40, 20, 10, 5, 1)  # from fine to coarse
SHORT = StudentConfig(labels=("hard",), steps=200, seeds=3, batch_size=50)  # [own]


@dataclass(frozen=True)
class ChosenCoding:
    """tried: what the choice was made from; nothing where the settings say the quality."""

    coding: Coding
    tried: tuple[CodingTrial, ...] = ()


Synthesis = Callable[[Coding], StageOutput[DistilledUnit]]


def choose_coding(
    run: Run, teacher: Teacher, transport: StageOutput[TransportUnit], synthesis: Synthesis
) -> ChosenCoding:
    """The coding that the settings give; with `auto` the coarsest quality whose students are, on
    average, no worse than those of images without loss by more than the seeds' deviation.

    All processes must call it; they share the work.

    Args:
        synthesis: Images for a coding, which their last steps have seen where it is coarse.
    """
    given = Coding.of(run.config.coding)
    if given is not None:
        return ChosenCoding(given)
    scores = _scores(run, teacher, transport, synthesis)
    lossless = scores(LOSSLESS)
    tried = [CodingTrial(quality=None, top1=tuple(lossless.ravel().tolist()))]
    least = lossless.mean() - lossless.std(1, ddof=1).mean()

    def is_enough(quality: int) -> bool:
        top1 = scores(Coding("webp", quality))
        tried.append(CodingTrial(quality=quality, top1=tuple(top1.ravel().tolist())))
        return bool(top1.mean() >= least)

    place = coarsest(len(QUALITIES), lambda index: is_enough(QUALITIES[index]))
    coding = LOSSLESS if place is None else Coding("webp", QUALITIES[place])
    if run.accelerator.is_main_process:
        shown = ", ".join(f"{_named(trial)} {100 * np.mean(trial.top1):.1f}%" for trial in tried)
        logger.info(f"coding: {coding}, chosen from the accuracies of short students: {shown}")
    return ChosenCoding(coding, tuple(tried))


def syntheses(config: CodingConfig) -> int:
    """How often images are made, at most: without loss and at each step of the bisection, where the
    quality is to be chosen.
    """
    return 1 if Coding.of(config) is not None else 1 + len(QUALITIES).bit_length()


def untried(config: CodingConfig) -> CodingConfig:
    """The same with a quality, where it is to be chosen."""
    return config if Coding.of(config) is not None else replace(config, image_quality=None)


def coarsest(count: int, is_enough: Callable[[int], bool]) -> int | None:
    """The last of ``count`` candidates, from fine to coarse, that is enough, by bisection; None if
    the first is not. Fewer than log2(count) + 1 candidates are tried.
    """
    enough, too_coarse = -1, count
    while too_coarse - enough > 1:
        middle = (enough + too_coarse) // 2
        if is_enough(middle):
            enough = middle
        else:
            too_coarse = middle
    return None if enough < 0 else enough


def _named(trial: CodingTrial) -> str:
    return "without loss" if trial.quality is None else f"quality {trial.quality}"


def _scores(
    run: Run, teacher: Teacher, transport: StageOutput[TransportUnit], synthesis: Synthesis
) -> Callable[[Coding], np.ndarray]:
    """A function from a coding to the accuracies (kinds, seeds) of students of images so coded."""
    weights = torch.cat(list(_weights(transport)))
    labels = run.labels
    students = ShortStudents(run, teacher, SHORT, "coding")

    def scores(coding: Coding) -> np.ndarray:
        images = synthesis(coding)
        pixels = torch.cat([unit.pixels for unit in images.units])

        def candidate() -> Candidate:
            return Candidate(coding.seen(pixels), labels, mean_one(weights, labels), None)

        return students.scores(candidate, len(labels), [images.key, *coding.key])

    return scores


def _weights(transport: StageOutput[TransportUnit]) -> Iterator[Tensor]:
    for unit in transport.units:
        for transported in unit.classes.values():
            yield transported.atoms.weights
