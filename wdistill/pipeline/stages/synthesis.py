"""Synthesise the images of each unit from the targets of the transport stage."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache

import torch

from wdistill.core.devices import Capacity
from wdistill.core.seeds import stream
from wdistill.core.settings import stable_hash
from wdistill.core.units import Advance, Stage, StageOutput, Unit
from wdistill.data.content.coding import Coding
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.teacher import Teacher
from wdistill.synthesis.optimise import DistilledUnit, Objective, synthesise
from wdistill.synthesis.spaces import FeatureSpace, Terms
from wdistill.synthesis.spectrum import Spectrum, measure_spectrum
from wdistill.synthesis.targets import class_start, class_target
from wdistill.transport.plan import TransportUnit

logger = logging.getLogger(__name__)

SPECTRUM_SAMPLE = 2000  # real images; estimates each standard deviation to about 2 %


def real_spectrum(run: Run, teacher: Teacher) -> Spectrum:
    """The spectrum of a seeded sample of the training images."""
    order = torch.randperm(len(teacher.images), generator=stream(run.config.seed, "spectrum"))
    sample = teacher.images.get(order[:SPECTRUM_SAMPLE].sort().values)
    return measure_spectrum(sample.split(100), teacher.network.device)


def synthesis_stage(
    run: Run,
    teacher: Teacher,
    pool: Sequence[FeatureSpace],
    transport: StageOutput[TransportUnit],
    coding: Coding,
) -> StageOutput[DistilledUnit]:
    """Distil the images of each unit, as they are before they are coded. Those that coding changes
    much are made for it, and have files of their own.
    """
    config, seed = run.config.synthesis, run.config.seed
    seen = coding if coding.is_coarse else Coding()
    inputs = [seed, run.config.mixed_precision, [space.key for space in pool]]
    key = stable_hash([transport.key, vars(config), inputs, *seen.key, "synthesis in rows"])
    terms = Terms(config.feature_weight, 0.0, config.bn_weight, config.ce_weight)
    spaces = [FeatureSpace("teacher", teacher.network, terms, teacher.key), *pool]
    capacity = Capacity()

    @cache  # computed only if a unit is missing
    def objective() -> Objective:
        spectrum = real_spectrum(run, teacher)
        return Objective(spaces, spectrum, config, run.autocast, seen, run.graphs)

    def compute(unit: Unit, advance: Advance) -> DistilledUnit:
        classes, spectrum = transport.units[unit.index].classes, objective().spectrum
        starts, targets, real = [], [], teacher.images
        for label in unit.classes:
            plan = classes[label]
            starts.append(class_start(real, spectrum, config.init, plan, label, seed))
            targets.append(class_target(real, pool, plan, label, seed))
        generators = [stream(seed, "synthesis", label) for label in unit.classes]
        ticks = run.ipc * len(unit.classes)  # as if all classes had as many images
        return synthesise(
            objective(), targets, starts, generators, lambda _: advance(ticks), capacity
        )

    steps = config.iterations * run.ipc
    name = "synthesis" if seen.is_lossless else f"synthesis-q{seen.quality}"
    output = run.compute(Stage(name, key, DistilledUnit, steps, "img"), compute)
    if capacity.limit is not None:
        logger.info(
            f"synthesis: the device's memory holds {capacity.limit} images at once; steps of more "
            "were taken in parts, which is the same up to rounding"
        )
    return output
