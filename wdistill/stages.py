"""The stages after the teacher: each computes the units that are missing and reads the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wdistill import evaluate
from wdistill.artifact import DistilledSet
from wdistill.atoms import STAGE, class_barycenter, row_shares, transport_key
from wdistill.config import stable_hash
from wdistill.distances import nearest_real
from wdistill.files import on_disk
from wdistill.jobs import Jobs, job_key, run_jobs
from wdistill.label_files import fit
from wdistill.label_views import LabelViews, join, label_views, rounded
from wdistill.manifest import displayed
from wdistill.pixels import PixelStore, to_uint8
from wdistill.published import human_bytes
from wdistill.relabel import soft_labels
from wdistill.run_folder import Run
from wdistill.seeds import stream
from wdistill.spaces import FeatureSpace, Terms
from wdistill.spectrum import Spectrum, measure_spectrum
from wdistill.splitting import Capacity
from wdistill.survey import ClassSurvey, surveyed
from wdistill.synthesis import synthesise
from wdistill.targets import class_start, class_target, class_tensors, rows_seen
from wdistill.teacher import Networks, Teacher
from wdistill.units import StoredUnits, Tensors, Unit, run_units

SURVEY_BATCH = 128
SPECTRUM_SAMPLE = 2000  # real images; each deviation is then known to about 2 %


def class_rows(store: PixelStore, label: int) -> Tensor:
    return (store.labels == label).nonzero()[:, 0]


def transport(run: Run, ready: Teacher) -> tuple[str, Sequence[Tensors]]:
    """Survey each class and compute its barycenter. Returns the stage's key and its units."""
    config, seed = run.config.barycenter, run.config.seed
    groups = run.data.train.groups
    key = transport_key(ready.key, config, seed, groups)

    def compute(unit: Unit, advance: Callable[[int], object]) -> Tensors:
        members = [class_rows(ready.train, label) for label in unit.classes]
        shares = [row_shares(rows, groups, config) for rows in members]

        def located(index: int, survey: ClassSurvey) -> Tensors:
            label, rows = unit.classes[index], members[index]
            draw = stream(seed, "transport", label)
            found = class_barycenter(survey.features, rows, groups, config, draw)
            return class_tensors(label, survey, found, rows, shares[index])

        parts = zip(ready.train.parts(members, SURVEY_BATCH), shares, strict=True)
        tensors: Tensors = {}
        for found in surveyed(ready.network, parts, located):
            tensors |= found
            advance(1)
        return tensors

    run_units(STAGE, run.mine, run.work, key, compute, 1, "class", run.accelerator, run.quiet)
    return key, StoredUnits(run.work, STAGE, run.units, key)


def real_spectrum(run: Run, ready: Teacher) -> Spectrum:
    """The spectrum of a seeded sample of the training images."""
    order = torch.randperm(len(ready.train), generator=stream(run.config.seed, "spectrum"))
    return measure_spectrum(ready.train.get(order[:SPECTRUM_SAMPLE].sort().values).split(100))


def synthesis(
    run: Run, ready: Teacher, pool: Sequence[FeatureSpace], key: str, targets: Sequence[Tensors]
) -> tuple[str, Sequence[Tensors]]:
    """Distil the images of each unit. Returns the stage's key and its units.

    Units hold ``pixels``, ``start`` and ``middle`` (uint8) and ``trace``, see :class:`Distilled`.
    """
    config, seed = run.config.synthesis, run.config.seed
    drawn = [seed, run.config.mixed_precision, [space.key for space in pool]]
    key = stable_hash([key, vars(config), drawn, "synthesis"])
    terms = Terms(config.feature_weight, 0.0, config.bn_weight, config.ce_weight)
    spaces = [FeatureSpace("teacher", ready.network, terms, ready.key), *pool]
    measured = cache(lambda: real_spectrum(run, ready))  # not before a unit is missing
    capacity = Capacity()

    def compute(unit: Unit, advance: Callable[[int], object]) -> Tensors:
        tensors, spectrum = targets[unit.index], measured()
        starts, aims = [], []
        for label in unit.classes:
            store = ready.train.held(rows_seen(config, bool(pool), tensors, label, seed))
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
        run.echo(
            f"synthesis: the device's memory holds {capacity.most} images at once; steps of more "
            "were taken in parts, which is the same up to rounding"
        )
    return key, StoredUnits(run.work, "synthesis", run.units, key)


def relabel(
    run: Run, ready: Teacher, key: str, images: Sequence[Tensors]
) -> tuple[str, Sequence[Tensors]]:
    """Label each unit's images, and measure how close they are to real ones.

    Units hold ``soft_labels`` (G * n, C) and ``nearest`` (G, n), see :func:`nearest_real`.
    """
    key = stable_hash([key, vars(run.config.relabel), "relabel"])

    def compute(unit: Unit, advance: Callable[[int], object]) -> Tensors:
        labels, nearest = [], []
        for label, pixels in zip(unit.classes, images[unit.index]["pixels"], strict=True):
            generator = stream(run.config.seed, "relabel", label)
            labels.append(soft_labels(ready.network, pixels, run.config.relabel, generator))
            real = ready.train.batches(class_rows(ready.train, label), 512)
            nearest.append(nearest_real(pixels, real, ready.network.device)[1])
            advance(1)
        return {
            "soft_labels": torch.cat(labels),
            "nearest": torch.stack(nearest),
        }

    run_units("relabel", run.mine, run.work, key, compute, 1, "class", run.accelerator, run.quiet)
    return key, StoredUnits(run.work, "relabel", run.units, key)


def views(
    run: Run, ready: Teacher, key: str, images: Sequence[Tensors], temperature: float
) -> tuple[str, LabelViews | None]:
    """The key of the labels of single views, and the labels; None if none are wanted."""
    config, classes = run.config.label_views, len(run.data.class_names)
    if config.count == 0:
        return "", None
    made = {name: value for name, value in vars(config).items() if name != "budget"}
    units_key = stable_hash([key, made, temperature, "views"])
    side = ready.train.preprocessing.resolution

    @cache  # not before a unit is missing
    def pixels() -> Tensor:
        shape = (run.config.barycenter.ipc * classes, 3, side, side)
        parts = (unit["pixels"].flatten(0, 1).numpy() for unit in images)
        return torch.from_numpy(on_disk(parts, shape, np.uint8, run.work))

    def compute(unit: Unit, advance: Callable[[int], object]) -> Tensors:
        ipc = run.config.barycenter.ipc
        rows = torch.arange(unit.classes[0] * ipc, (unit.classes[-1] + 1) * ipc)
        seed, ticks = run.config.seed, len(unit.classes)
        found = label_views(
            ready.network, pixels(), config, seed, rows, temperature, lambda: advance(ticks)
        )
        return dict(vars(found))

    ticks = config.count
    run_units(
        "views", run.units, run.work, units_key, compute, ticks, "view", run.accelerator, run.quiet
    )
    found = StoredUnits(run.work, "views", run.units, units_key)
    every = rounded(join([LabelViews(**unit) for unit in found]), config.levels)
    kept, size = fit(every, classes, config.budget)
    run.echo(
        f"label views: {kept.count} of each image, {kept.logits.shape[1]} logits a view: "
        f"{human_bytes(size)}"
    )
    return stable_hash([units_key, kept.count]), kept


def evaluation(
    run: Run,
    ready: Teacher,
    networks: Networks,
    key: str,
    views_key: str,
    distilled: DistilledSet,
    stored: LabelViews | None,
) -> dict[str, Any] | None:
    """Train and test the students, each job once; None with --no-evaluate. Only those that see
    label views depend on ``views_key``.
    """
    config = run.config.evaluate
    if not config.enabled:
        return None
    sources = networks.students
    judged = evaluate.candidate(distilled, stored)
    fixed = config.fixed(len(judged.labels))
    contest = evaluate.Contest(
        judged, distilled.class_names, ready.train, ready.test, ready.network, fixed,
        run.config.relabel, run.config.seed, run.accelerator.device, run.work,
        run.autocast,
    )  # fmt: skip
    ready.test.preload()
    every = evaluate.jobs(config, list(sources), run.config.barycenter.ipc)

    def depends(job: evaluate.Job) -> str:
        own = [views_key] if job.labels == "views" else []
        return stable_hash([key, job_key(contest, job, sources[job.student]), *own])

    keys = {job: depends(job) for job in every}
    place = Jobs(run.work / "evaluate", run.accelerator, run.quiet)
    outcomes = run_jobs(place, contest, every, keys, sources)
    names = displayed(sources)
    return evaluate.summarise(
        [{**outcome, "student": names[outcome["student"]]} for outcome in outcomes],
        fixed,
        len(judged.labels),
        ready.accuracy,
        len(ready.test),
    )
