"""The barycenter of each class: survey of its real images, then transport."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace

from wdistill.core.machine.resources import own_cores
from wdistill.core.seeds import stream
from wdistill.core.units import Advance, Stage, StageOutput, Unit
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.teacher import Teacher
from wdistill.transport.barycenter import class_barycenter, groups_of, image_shares
from wdistill.transport.plan import (
    STAGE,
    ClassTransport,
    TransportUnit,
    class_transport,
    transport_key,
)
from wdistill.transport.pool import BarycenterPool
from wdistill.transport.survey import ClassSurvey, survey_classes

SURVEY_BATCH = 128


def transport_stage(run: Run, teacher: Teacher) -> StageOutput[TransportUnit]:
    """Survey the real images of each class and compute its barycenter."""
    config, seed = run.config.barycenter, run.config.seed
    groups = teacher.images.split.groups

    begun: dict[Unit, list[Future[ClassTransport]]] = {}

    def begin(unit: Unit) -> None:
        members = [teacher.class_rows(label) for label in unit.classes]
        class_groups = [groups_of(groups, rows) for rows in members]
        shares = [
            image_shares(len(rows), image_groups, config.group_weights)
            for rows, image_groups in zip(members, class_groups, strict=True)
        ]

        def transport(index: int, survey: ClassSurvey) -> ClassTransport:
            generator = stream(seed, "transport", unit.classes[index])
            own = replace(config, ipc=run.counts[unit.classes[index]])
            barycenter = class_barycenter(survey.features, own, generator, class_groups[index])
            return class_transport(survey, barycenter, members[index], shares[index])

        parts = zip(teacher.images.parts(members, SURVEY_BATCH), shares, strict=True)
        begun[unit] = survey_classes(teacher.network, parts, transport, pool)

    def compute(unit: Unit, advance: Advance) -> TransportUnit:
        classes = {}
        for label, result in zip(unit.classes, begun.pop(unit), strict=True):
            classes[label] = result.result()
            advance(1)
        return TransportUnit(classes)

    key = transport_key(teacher.key, config, run.counts, seed, groups)
    with BarycenterPool(own_cores(run.accelerator)) as pool:
        return run.compute(Stage(STAGE, key, TransportUnit), compute, begin)
