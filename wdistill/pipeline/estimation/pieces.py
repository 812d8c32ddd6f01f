"""Short pieces of each stage's work, by the names of the workload, to be timed."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from wdistill.core.seeds import stream
from wdistill.data.pixels import to_float
from wdistill.evaluation.metrics import nearest_real, score_network
from wdistill.evaluation.training import Training, TrainingSet, recipe_for, train_student
from wdistill.labels.codec import encode
from wdistill.labels.soft import soft_labels
from wdistill.labels.views import ViewRecipe, label_views, rounded
from wdistill.networks.backbones import BackboneSource, load_backbone, new_network, weights_sha256
from wdistill.networks.features import FeatureNetwork
from wdistill.networks.teacher import pixel_statistics
from wdistill.networks.training import Checkpoint, train_teacher
from wdistill.pipeline.estimation.calibration import (
    Laps,
    Piece,
    Scene,
    decoded,
    now,
    random_label_views,
    surveyed,
)
from wdistill.pipeline.estimation.workload import REGIMES, Regime, Workload
from wdistill.pipeline.stages.transport import SURVEY_BATCH
from wdistill.synthesis.optimise import ClassTarget, Objective, synthesise
from wdistill.synthesis.spaces import FeatureSpace, SpaceTarget, Terms, plan_means, space_target
from wdistill.synthesis.spectrum import measure_spectrum
from wdistill.transport.barycenter import class_barycenter, groups_of
from wdistill.transport.plan import Plan

POINTS = 1000  # of a barycenter; beyond, its time is in proportion to them
THERE_AND_BACK = 3  # passes that a step with gradients amounts to
TRAINING_STEPS, SYNTHESIS_STEPS, STUDENT_STEPS = 2, 3, 4  # of the last two the first is not timed


def training_images(scene: Scene, batch: int) -> int:
    """Images of a step of the teacher's training, of ``batch`` in the run."""
    return scene.few(batch, THERE_AND_BACK * TRAINING_STEPS)


def synthesis_images(scene: Scene) -> int:
    """Images of a step of synthesis, of a whole group in the run."""
    run, spaces = scene.run, 2 if scene.pool else 1
    images = run.config.barycenter.ipc * len(run.units[0].classes)
    return scene.few(images, THERE_AND_BACK * SYNTHESIS_STEPS * spaces)


def student_images(scene: Scene, batch: int) -> int:
    """Images of a student's step, of ``batch`` in the run."""
    return scene.few(batch, THERE_AND_BACK * STUDENT_STEPS)


def pieces(scene: Scene, work: Workload) -> dict[str, Piece]:
    """One for each name in ``work.total()``."""
    makers: dict[str, Callable[[], Piece]] = {
        "network": partial(_network, scene, scene.networks.backbone),
        "statistics": partial(_statistics, scene),
        "decode": partial(_decode, scene),
        "training step": partial(_training, scene, work.training_batch),
        "test": partial(_test, scene, scene.network),
        "survey": partial(_survey, scene),
        "barycenter": partial(_barycenter, scene),
        "spectrum": partial(_spectrum, scene),
        "mean": partial(_mean, scene),
        "synthesis": partial(_synthesis, scene, ()),
        "soft label": partial(_soft_label, scene),
        "distance": partial(_distance, scene),
        "view": partial(_view, scene),
        "encoded view": partial(_encoded_view, scene),
    }
    for (source, _), space in zip(scene.networks.pool, scene.pool, strict=True):
        makers[f"network {source.name}"] = partial(_network, scene, source)
        makers[f"space {source.name}"] = partial(_target, scene, space)
        makers[f"synthesis {source.name}"] = partial(_synthesis, scene, (space,))
    for name, model in scene.students.items():
        makers[f"student {name}"] = partial(_student, scene, scene.networks.students[name])
        makers[f"test {name}"] = partial(_tested, scene, model)
        for regime in REGIMES:
            step = partial(_step, scene, model, regime, work.student_batch)
            makers[f"step {name} {regime}"] = step
    return {name: makers[name]() for name in work.total()}


def teacher_space(scene: Scene) -> FeatureSpace:
    config = scene.run.config.synthesis
    terms = Terms(config.feature_weight, 0.0, config.bn_weight, config.ce_weight)
    return FeatureSpace("teacher", scene.network, terms, "")


def _timed(scene: Scene, items: float, work: Callable[[], object]) -> Piece:
    def do() -> tuple[float, float]:
        began = now(scene.device)
        work()
        return items, now(scene.device) - began

    return do


def _network(scene: Scene, source: BackboneSource) -> Piece:
    names = scene.run.data.class_names

    def work() -> None:
        weights_sha256(load_backbone(source, names, scene.network.preprocessing, 0).model)

    return _timed(scene, 1, work)


def _statistics(scene: Scene) -> Piece:
    return _timed(scene, len(scene.store), partial(pixel_statistics, scene.store, 0))


def _decode(scene: Scene) -> Piece:
    """Worker processes are taken to share the images evenly, as far as there are cores."""
    at_once = max(1, min(scene.run.decoding.threads, os.cpu_count() or 1))
    rows = scene.rows[: max(32, len(scene.rows) // 2)]
    work = partial(decoded, scene.run, rows, scene.network.preprocessing)
    return _timed(scene, at_once * len(rows), work)


@dataclass(frozen=True)
class _Alone:
    """What training asks of an Accelerator, for this process alone: others need not take part."""

    device: torch.device
    precision: torch.dtype | None
    num_processes: ClassVar[int] = 1
    process_index: ClassVar[int] = 0
    is_main_process: ClassVar[bool] = False  # the main one writes checkpoints

    def prepare(self, *given: object) -> tuple[object, ...]:
        return given

    def unwrap_model(self, model: nn.Module) -> nn.Module:
        return model

    def autocast(self) -> AbstractContextManager[object]:
        given = self.precision
        return torch.autocast(self.device.type, dtype=given, enabled=given is not None)

    def log(self, *_: object, **__: object) -> None:
        """Trackers do not follow what is only measured."""

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]


def _training(scene: Scene, batch: int) -> Piece:
    size = training_images(scene, batch)
    store = decoded(
        scene.run, np.resize(scene.rows, TRAINING_STEPS * size), scene.network.preprocessing
    )
    model = copy.deepcopy(scene.backbone.model).requires_grad_(True)
    backbone = replace(scene.backbone, model=model)
    config = replace(scene.run.config.teacher, epochs=1, batch_size=size)
    alone = cast(Accelerator, _Alone(scene.device, scene.run.autocast))
    nowhere = scene.run.work / "no-checkpoint"
    work = partial(train_teacher, backbone, store, config, 0, alone, Checkpoint(nowhere, ""))
    return _timed(scene, TRAINING_STEPS * size / batch, work)


def _test(scene: Scene, network: FeatureNetwork) -> Piece:
    count = scene.few(256, 1)
    return _timed(scene, count, partial(score_network, network, scene.part(count)))


def _tested(scene: Scene, model: nn.Module) -> Piece:
    def do() -> tuple[float, float]:
        return _test(scene, FeatureNetwork(model, scene.network.preprocessing, scene.device))()

    return do


def _survey(scene: Scene) -> Piece:
    images = scene.pixels[: scene.few(SURVEY_BATCH, 1)]
    return _timed(scene, len(images), partial(surveyed, scene, images))


def _barycenter(scene: Scene) -> Piece:
    """Of the features of a few images and of noise around them: its time hardly depends on them."""
    run, draw = scene.run, stream(0, "calibration", "features")
    labels = run.data.train.labels
    rows = np.flatnonzero(labels == labels[scene.rows[0]])
    rows = rows[np.linspace(0, len(rows) - 1, min(POINTS, len(rows))).astype(int)]
    known = scene.survey.features
    drawn = known[torch.randint(len(known), (len(rows),), generator=draw)]
    features = drawn + known.std(0) * torch.randn(drawn.shape, generator=draw)
    config, groups = run.config.barycenter, run.data.train.groups
    own = torch.from_numpy(rows)

    def work() -> None:
        class_barycenter(
            features, config, stream(0, "calibration", "transport"), groups_of(groups, own)
        )

    return _timed(scene, len(rows), work)


def _spectrum(scene: Scene) -> Piece:
    return _timed(scene, len(scene.pixels), lambda: measure_spectrum(scene.pixels.split(100)))


def _plan(rows: int, atoms: int) -> Plan:
    owner = torch.arange(rows) % atoms
    return Plan(torch.arange(rows), owner, torch.full((rows,), 1 / rows), atoms)


def _target(scene: Scene, space: FeatureSpace) -> Piece:
    count = scene.few(SURVEY_BATCH, 2)
    plan = _plan(count, min(count, scene.run.config.barycenter.ipc))
    return _timed(scene, count, partial(space_target, space.network, scene.part(count), plan))


def _mean(scene: Scene) -> Piece:
    count = min(len(scene.store), SURVEY_BATCH)
    plan = _plan(count, min(count, scene.run.config.barycenter.ipc))
    return _timed(scene, count, lambda: plan_means(scene.store, plan))


def _synthesis(scene: Scene, pool: tuple[FeatureSpace, ...]) -> Piece:
    """A group of classes that all aim at the same."""
    run, spaces = scene.run, (teacher_space(scene), *pool)
    ipc, afforded = run.config.barycenter.ipc, synthesis_images(scene)
    ipc, classes = min(ipc, afforded), max(1, afforded // ipc)
    store, plan = scene.part(afforded), _plan(afforded, ipc)
    survey = surveyed(scene, store.get(range(afforded)))
    own = SpaceTarget(survey.features[:ipc], 1.0, survey.means, survey.variances)
    aims = [space_target(s.network, store, plan) for s in pool]
    target = ClassTarget(0, torch.full((ipc,), 1 / ipc), (own, *aims))
    start = to_float(store.get(range(ipc)), torch.device("cpu")).expand(classes, -1, -1, -1, -1)
    spectrum = measure_spectrum(scene.pixels.split(100))
    config = replace(run.config.synthesis, iterations=SYNTHESIS_STEPS)

    def do() -> tuple[float, float]:
        laps, draws = Laps(scene.device), [stream(0, "calibration", c) for c in range(classes)]
        objective = Objective(spaces, spectrum, config, run.autocast)
        synthesise(objective, [target] * classes, start, draws, laps)
        return (SYNTHESIS_STEPS - 1) * ipc * classes, laps.seconds

    return do


def _soft_label(scene: Scene) -> Piece:
    config, ipc = scene.run.config, scene.run.config.barycenter.ipc
    images = scene.pixels[: scene.few(ipc, 2)]
    relabel = replace(config.relabel, views=min(config.relabel.views, 2))

    def work() -> None:
        soft_labels(scene.network, images, relabel, stream(0, "calibration"))

    return _timed(scene, relabel.views * len(images), work)


def _distance(scene: Scene) -> Piece:
    ours = scene.pixels[: scene.run.config.barycenter.ipc]
    share = len(ours) / scene.run.config.barycenter.ipc
    work = partial(nearest_real, ours, [scene.pixels], scene.device)
    return _timed(scene, share * len(scene.pixels), work)


def _view(scene: Scene) -> Piece:
    run = scene.run
    images = scene.pixels[: scene.few(run.config.barycenter.ipc * len(run.units[0].classes), 2)]
    config = replace(run.config.label_views, count=2)
    return _timed(
        scene, 2 * len(images), lambda: label_views(scene.network, images, ViewRecipe(config))
    )


def _encoded_view(scene: Scene) -> Piece:
    views, run = random_label_views(scene), scene.run
    levels, classes = run.config.label_views.levels, len(run.data.class_names)
    return _timed(scene, len(views), lambda: encode(rounded(views, levels), classes))


def _student(scene: Scene, source: BackboneSource) -> Piece:
    run, resolution = scene.run, scene.networks.resolution
    return _timed(scene, 1, partial(new_network, source, run.data.class_names, resolution, 0))


def _step(scene: Scene, model: nn.Module, regime: Regime, batch: int) -> Piece:
    run, size = scene.run, student_images(scene, batch)
    images = scene.pixels[: size * (len(scene.pixels) // size)]
    views = None
    if regime == "replayed":
        views = label_views(
            scene.network, images, ViewRecipe(replace(run.config.label_views, count=2))
        )
    data = TrainingSet(
        images, torch.zeros(len(images), dtype=torch.int64), torch.ones(len(images)),
        soft=regime != "plain", teacher=scene.network if regime == "online" else None, views=views,
    )  # fmt: skip
    config = replace(run.config.evaluate, epochs=None, steps=STUDENT_STEPS, batch_size=size)
    recipe = recipe_for(config, len(images))

    def do() -> tuple[float, float]:
        laps = Laps(scene.device)
        preprocessing, device = scene.network.preprocessing, scene.device
        model.requires_grad_(True)
        train_student(model, data, preprocessing, Training(recipe, 0, device, run.autocast), laps)
        return (STUDENT_STEPS - 1) * size / batch, laps.seconds

    return do
