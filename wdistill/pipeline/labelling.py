"""Who labels the images, and the images and their labels put together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch

from wdistill.artifact.candidate import candidate
from wdistill.artifact.distilled_set import DistilledSet
from wdistill.core.files import on_disk
from wdistill.core.settings import stable_hash
from wdistill.core.units import StageOutput
from wdistill.data.content.coding import Coding
from wdistill.pipeline.choices.budget import FOR_VIEWS
from wdistill.pipeline.choices.givers import (
    ChosenLabels,
    Giver,
    Labelled,
    choose_giver,
    open_givers,
)
from wdistill.pipeline.choices.prices import finest_coding, written
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.stages.files import CodedImages, code_images, remove_other_files
from wdistill.pipeline.stages.finish import hard_set
from wdistill.pipeline.stages.labels import (
    Decoded,
    PackedViews,
    remove_other_packed,
    soft_stage,
    views_stage,
)
from wdistill.pipeline.teacher import Teacher
from wdistill.synthesis.optimise import DistilledUnit
from wdistill.transport.plan import TransportUnit


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """coding: of the images, which a budget may have changed; key: of what they depend on."""

    labels: ChosenLabels
    distilled: DistilledSet
    views: PackedViews | None
    coding: Coding
    key: str


def label_images(
    run: Run,
    teacher: Teacher,
    transport: StageOutput[TransportUnit],
    images: StageOutput[DistilledUnit],
    coding: Coding,
) -> LabelledImages:
    """Choose who labels the images, and put images and labels together. What the folder had of
    other codings and views is then removed.
    """
    codings: list[Coding] = []

    @cache
    def coded_as(coding: Coding) -> tuple[CodedImages, DistilledSet]:
        codings.append(coding)
        coded = code_images(run, images, coding)
        return coded, hard_set(run, transport, coded)

    def size(quality: int) -> int:
        return written(coded_as(Coding("webp", quality))[1], run.work)

    budget, room = run.budget, None
    if budget is not None:
        room = budget - written(coded_as(coding)[1], run.work)
        if room < FOR_VIEWS * budget and run.config.label_views.count:
            coding = finest_coding(size, round((1 - FOR_VIEWS) * budget))
            room = budget - written(coded_as(coding)[1], run.work)
    coded, hard = coded_as(coding)
    decoded = Decoded(coded.pixels, sum(coded.files.sizes), coded.key)

    @cache
    def packed_views(giver: Giver, temperature: float) -> PackedViews | None:
        return views_stage(run.at(temperature), giver, decoded, room)

    @cache
    def labelled(giver: Giver, temperature: float) -> Labelled:
        soft, packed = soft_stage(run, giver, decoded), packed_views(giver, temperature)
        views = packed.views if packed else None
        key = stable_hash([soft.key, views.count if views else 0, vars(run.config.label_views)])
        shape = (len(decoded.pixels), len(run.data.class_names))
        parts = (unit.values.numpy() for unit in soft.units)
        rows = torch.from_numpy(on_disk(parts, shape, np.float32, run.work))
        return Labelled(rows, views, key)

    givers = open_givers(run, teacher)
    chosen = choose_giver(run, teacher, givers, candidate(hard), labelled)
    given = labelled(chosen.giver, chosen.temperature) if chosen.giver else None
    views = packed_views(chosen.giver, chosen.temperature) if chosen.giver else None
    if budget is not None and views is None:
        coding = finest_coding(size, budget)
        coded, hard = coded_as(coding)
    if given is not None and chosen.soft_helps:
        hard = replace(hard, soft_labels=given.soft.numpy())
    remove_other_files(run, codings)
    remove_other_packed(run)
    return LabelledImages(chosen, hard, views, coding, coded.key)
