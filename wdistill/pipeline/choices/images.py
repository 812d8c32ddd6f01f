"""Whether synthesis pays within a budget of bytes, or real images do as well."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from wdistill.artifact.candidate import Candidate
from wdistill.artifact.records import BudgetTrial
from wdistill.core.settings import stable_hash
from wdistill.core.units import StageOutput
from wdistill.pipeline.choices import budget
from wdistill.pipeline.choices.trials import class_weights, shown
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.teacher import Teacher
from wdistill.synthesis.optimise import DistilledUnit

logger = logging.getLogger(__name__)

MOST_SYNTHESISED = 100  # [own, for the time it takes; not measured] images per class
SEEDS = 2  # of the students that compare

Kind = Literal["chosen", "distilled"]


@dataclass(frozen=True, eq=False)
class ChosenImages:
    """tried: what the choice was made from; nothing where there was none."""

    images: StageOutput[DistilledUnit]
    kind: Kind = "distilled"
    tried: tuple[BudgetTrial, ...] = ()


@dataclass(frozen=True)
class Starts(Sequence[DistilledUnit]):  # type: ignore[misc]
    """Units whose images are those that synthesis starts from."""

    units: Sequence[DistilledUnit]

    def __len__(self) -> int:
        return len(self.units)

    def __getitem__(self, index: int) -> DistilledUnit:  # type: ignore[override]
        unit = self.units[index]
        return replace(unit, pixels=unit.start, middle=unit.start)


def choose_images(
    run: Run, teacher: Teacher, synthesis: Callable[[Run], StageOutput[DistilledUnit]]
) -> ChosenImages:
    """Distilled images; within a budget, the real ones nearest to the atoms, from which synthesis
    starts, where short students learn more from them, or where there are more than
    MOST_SYNTHESISED per class.

    All processes must call it; they share the work.

    Args:
        synthesis: The images of a run.
    """
    config = run.config
    if run.budget is None or config.synthesis.init != "real" or not config.synthesis.iterations:
        return ChosenImages(synthesis(run))
    if run.ipc > MOST_SYNTHESISED:
        unchanged = replace(config, synthesis=replace(config.synthesis, iterations=0))
        if run.accelerator.is_main_process:
            logger.info(
                f"images: real ones, chosen by the transport; above {MOST_SYNTHESISED} per class "
                "distilled ones are not tried, since that takes long"
            )
        return ChosenImages(synthesis(replace(run, config=unchanged)), "chosen")
    distilled = synthesis(run)
    starts = StageOutput(stable_hash([distilled.key, "start"]), Starts(distilled.units))
    found: dict[Kind, StageOutput[DistilledUnit]] = {"chosen": starts, "distilled": distilled}
    trials = {}
    for each, images in found.items():
        pixels = torch.cat([unit.pixels for unit in images.units])
        candidate = Candidate(pixels, run.labels, class_weights(run.labels), None)
        own = shown(run, teacher, candidate, images.key)
        trials[each] = own.trial(budget.rounds(config)[-1], SEEDS, each)
    kind = max(trials, key=lambda each: (trials[each].mean, each == "distilled"))
    tried = tuple(trials.values())
    if run.accelerator.is_main_process:
        logger.info(budget.spending_table(tried))
        logger.info(f"images: {kind}")
    return ChosenImages(found[kind], kind, tried)
