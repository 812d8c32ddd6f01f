"""The distilled images of each unit, from the targets that transport has found."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache

import torch

from wdistill.config import stable_hash
from wdistill.core.memory import Capacity
from wdistill.core.seeds import stream
from wdistill.core.units import StoredUnits, Tensors, Unit, run_units
from wdistill.data.pixels import to_uint8
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.teacher import Teacher
from wdistill.synthesis.optimise import synthesise
from wdistill.synthesis.spaces import FeatureSpace, Terms
from wdistill.synthesis.spectrum import Spectrum, measure_spectrum
from wdistill.synthesis.targets import class_start, class_target, rows_seen

logger = logging.getLogger(__name__)

SPECTRUM_SAMPLE = 2000  # real images; each deviation is then known to about 2 %


def real_spectrum(run: Run, teacher: Teacher) -> Spectrum:
    """The spectrum of a seeded sample of the training images."""
    order = torch.randperm(len(teacher.train), generator=stream(run.config.seed, "spectrum"))
    return measure_spectrum(teacher.train.get(order[:SPECTRUM_SAMPLE].sort().values).split(100))


def synthesis_stage(
    run: Run, teacher: Teacher, pool: Sequence[FeatureSpace], key: str, targets: Sequence[Tensors]
) -> tuple[str, Sequence[Tensors]]:
    """Distil the images of each unit. Returns the stage's key and its units.

    Units hold ``pixels``, ``start`` and ``middle`` (uint8) and ``trace``, see :class:`Distilled`.
    """
    config, seed = run.config.synthesis, run.config.seed
    drawn = [seed, run.config.mixed_precision, [space.key for space in pool]]
    key = stable_hash([key, vars(config), drawn, "synthesis"])
    terms = Terms(config.feature_weight, 0.0, config.bn_weight, config.ce_weight)
    spaces = [FeatureSpace("teacher", teacher.network, terms, teacher.key), *pool]
    measured = cache(lambda: real_spectrum(run, teacher))  # not before a unit is missing
    capacity = Capacity()

    def compute(unit: Unit, advance: Callable[[int], object]) -> Tensors:
        tensors, spectrum = targets[unit.index], measured()
        starts, aims = [], []
        for label in unit.classes:
            store = teacher.train.held(rows_seen(config, bool(pool), tensors, label, seed))
            starts.append(class_start(store, spectrum, config, tensors, label, seed))
            aims.append(class_target(store, pool, tensors, label, seed))
        start = torch.stack(starts)
        done = synthesise(
            spaces,
            aims,
            start,
            spectrum,
            config,
            [stream(seed, "synthesis", label) for label in unit.classes],
            run.autocast,
            advance,
            capacity,
        )
        return {"start": to_uint8(start), **vars(done)}

    steps = config.iterations * run.config.barycenter.ipc
    run_units(
        "synthesis", run.mine, run.work, key, compute, steps, "img", run.accelerator, run.quiet
    )
    if capacity.most is not None:
        logger.info(
            f"synthesis: the device's memory holds {capacity.most} images at once; steps of more "
            "were taken in parts, which is the same up to rounding"
        )
    return key, StoredUnits(run.work, "synthesis", run.units, key)
