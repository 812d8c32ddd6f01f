"""The barycenter of each class: survey of its real images, then transport."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wdistill.core.seeds import stream
from wdistill.core.units import StoredUnits, Tensors, Unit, run_units
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.stages.labels import class_rows
from wdistill.pipeline.teacher import Teacher
from wdistill.synthesis.targets import class_tensors
from wdistill.transport.atoms import STAGE, class_barycenter, row_shares, transport_key
from wdistill.transport.survey import ClassSurvey, surveyed

SURVEY_BATCH = 128


def transport_stage(run: Run, teacher: Teacher) -> tuple[str, Sequence[Tensors]]:
    """Survey each class and compute its barycenter. Returns the stage's key and its units."""
    config, seed = run.config.barycenter, run.config.seed
    groups = run.data.train.groups
    key = transport_key(teacher.key, config, seed, groups)

    def compute(unit: Unit, advance: Callable[[int], object]) -> Tensors:
        members = [class_rows(teacher.train, label) for label in unit.classes]
        shares = [row_shares(rows, groups, config) for rows in members]

        def located(index: int, survey: ClassSurvey) -> Tensors:
            label, rows = unit.classes[index], members[index]
            draw = stream(seed, "transport", label)
            found = class_barycenter(survey.features, rows, groups, config, draw)
            return class_tensors(label, survey, found, rows, shares[index])

        parts = zip(teacher.train.parts(members, SURVEY_BATCH), shares, strict=True)
        tensors: Tensors = {}
        for found in surveyed(teacher.network, parts, located):
            tensors |= found
            advance(1)
        return tensors

    run_units(STAGE, run.mine, run.work, key, compute, 1, "class", run.accelerator, run.quiet)
    return key, StoredUnits(run.work, STAGE, run.units, key)
