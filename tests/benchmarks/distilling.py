"""A dataset, its teacher, and sets distilled with any settings: what the measurements of synthesis
share.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from wdistill.config import BarycenterConfig, DataConfig, StudentConfig, SynthesisConfig
from wdistill.core.devices import device_name, keep_freed_memory, versions
from wdistill.core.seeds import stream, stream_seed
from wdistill.data.content.coding import Coding
from wdistill.data.dataset import load_data
from wdistill.data.pixels import PixelStore, to_float
from wdistill.evaluation.metrics import score_network
from wdistill.evaluation.sets.baselines import random_rows
from wdistill.evaluation.training import Training, TrainingSet, recipe_for, train_student
from wdistill.networks.backbones import load_backbone, new_network
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.features import Activations, FeatureNetwork
from wdistill.networks.preprocessing import preprocessing_for, working_resolution
from wdistill.synthesis.optimise import ClassTarget, Objective, synthesise
from wdistill.synthesis.spaces import (
    FeatureSpace,
    SpaceTarget,
    Terms,
    open_spaces,
    plan_means,
    space_targets,
)
from wdistill.synthesis.spectrum import Spectrum, measure_spectrum
from wdistill.synthesis.targets import SPACE_SAMPLE, class_target
from wdistill.transport.barycenter import Barycenter, class_barycenter
from wdistill.transport.plan import Plan, class_transport
from wdistill.transport.survey import ClassSurvey, survey_class

CPU = torch.device("cpu")
PNG = Coding()
DEFAULT = SynthesisConfig()


@dataclass(frozen=True)
class Setting:
    """One way to distil. spectrum: whether Adam moves natural coefficients, else pixels;
    whole: statistics of all classes together, else per class; sample: real images per class that
    each network of the pool looks at.
    """

    synthesis: SynthesisConfig = DEFAULT
    weights: str = "free"
    spectrum: bool = True
    whole: bool = False
    sample: int = SPACE_SAMPLE


@dataclass(frozen=True)
class Problem:
    """What is handed to synthesis: spaces, one target per class, start (C, n, 3, R, R) in [0, 1],
    and weights (C * n,), mean 1.
    """

    spaces: list[FeatureSpace]
    targets: tuple[ClassTarget, ...]
    start: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Budget:
    """Optimiser steps of a student with hard labels and with a teacher, and its learning rates."""

    hard: int
    online: int
    lr: float
    online_lr: float

    def config(self, images: int, teacher: bool) -> StudentConfig:
        size = min(32, images)
        steps = self.online if teacher else self.hard
        epochs = max(1, round(steps / math.ceil(images / size)))
        return StudentConfig(
            epochs=epochs, batch_size=size, lr=self.online_lr if teacher else self.lr
        )


COMMAND = (
    click.option("--dataset", required=True),
    click.option("--teacher", required=True, help="checkpoint folder of a run"),
    click.option("--ipc", default=10, show_default=True),
    click.option("--device", default="cpu", show_default=True),
    click.option("--threads", type=int, help="[default: PyTorch's]"),
    click.option("--show", is_flag=True, help="print what --output holds and stop"),
    click.option("-o", "--output", type=click.Path(path_type=Path), required=True),
)


def command(function: Callable[..., None]) -> click.Command:
    """``function`` as a command with the options that these measurements share."""
    for option in reversed(COMMAND):
        function = option(function)
    return click.command()(function)


def known_rows(output: Path) -> list[dict[str, Any]]:
    """What an earlier start has written."""
    return json.loads(output.read_text())["rows"] if output.exists() else []


def opened(dataset: str, teacher: str, ipc: int, device: str, threads: int | None) -> Bench:
    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    return Bench(dataset, teacher, ipc, torch.device(device))


class Bench:
    """A dataset, its teacher, and what settings share."""

    def __init__(self, dataset: str, teacher: str, ipc: int, device: torch.device) -> None:
        self.name = Path(dataset).name
        self.data = load_data(DataConfig(dataset=dataset), 0, ipc)
        self.ipc, self.device = ipc, device
        self.classes = len(self.data.class_names)
        source = find_backbone(teacher, resolution=self.data.native_size)
        size = working_resolution(source, None, self.data.native_size)
        self.pixels = preprocessing_for(source, size, ((0.0,) * 3, (1.0,) * 3))
        model = load_backbone(source, self.data.class_names, self.pixels, 0).model
        self.network = FeatureNetwork(model, self.pixels, device)
        self.train = PixelStore(self.data.train, self.pixels)
        self.test = PixelStore(self.data.eval, self.pixels)
        self._transport: dict[tuple[str, int], list[Barycenter]] = {}

    def header(self, **told: Any) -> dict[str, Any]:
        """What stands above the rows of a measurement."""
        return {
            "dataset": self.name, "ipc": self.ipc, **told, "device": device_name(self.device),
            "threads": torch.get_num_threads(), "versions": versions(),
        }  # fmt: skip

    def rows(self, label: int) -> Tensor:
        return (self.train.labels == label).nonzero()[:, 0]

    @cached_property
    def surveys(self) -> list[ClassSurvey]:
        found = []
        for c in range(self.classes):
            rows = self.rows(c)
            shares = torch.full((len(rows),), 1 / len(rows))
            found.append(survey_class(self.network, self.train.batches(rows, 128), shares))
        return found

    @cached_property
    def spectrum(self) -> Spectrum:
        order = torch.randperm(len(self.train), generator=stream(0, "spectrum"))
        return measure_spectrum(self.train.get(order[:2000]).split(100))

    def transport(self, weights: str, seed: int) -> list[Barycenter]:
        if (weights, seed) not in self._transport:
            config = BarycenterConfig(ipc=self.ipc, weights=weights)  # type: ignore[arg-type]
            self._transport[weights, seed] = [
                class_barycenter(self.surveys[c].features, config, stream(seed, "transport", c))
                for c in range(self.classes)
            ]
        return self._transport[weights, seed]

    def start(self, init: str, found: list[Barycenter], seed: int) -> Tensor:
        size = self.pixels.resolution
        if init == "noise":
            noise = torch.randn(
                self.classes, self.ipc, 3, size, size, generator=stream(seed, "noise")
            )
            return self.spectrum.pixels(noise.flatten(0, 1)).clamp(0, 1).view(noise.shape)
        if init == "mean":
            plans = [self.plan(c, found[c]) for c in range(self.classes)]
            return torch.stack([plan_means(self.train, plan) for plan in plans])
        rows = torch.cat([self.rows(c)[found[c].nearest] for c in range(self.classes)])
        return to_float(self.train.get(rows), CPU).view(self.classes, self.ipc, 3, size, size)

    def plan(self, label: int, found: Barycenter) -> Plan:
        return Plan(self.rows(label)[found.rows], found.owner, found.mass, self.ipc)

    def target(
        self, label: int, found: Barycenter, spaces: list[FeatureSpace], seed: int,
        sample: int = SPACE_SAMPLE,
    ) -> ClassTarget:  # fmt: skip
        rows, survey = self.rows(label), self.surveys[label]
        shares = torch.full((len(rows),), 1 / len(rows))
        transport = class_transport(survey, found, rows, shares)
        part = transport.plan.sample(sample, stream(seed, "space-rows", label))
        own = class_target(self.train, (), transport, label, seed)
        aims = tuple(space_targets(spaces[1:], self.train, part))
        return replace(own, spaces=own.spaces + aims)

    def spaces(self, config: SynthesisConfig, seed: int) -> list[FeatureSpace]:
        sources = [
            (find_backbone(n, resolution=self.pixels.resolution), k) for n, k in config.pool()
        ]
        given = (self.pixels.mean, self.pixels.std)
        described = [
            (s, k, preprocessing_for(s, self.pixels.resolution, given)) for s, k in sources
        ]
        pool = open_spaces(described, config, self.data.class_names, seed, self.device)
        terms = Terms(config.feature_weight, 0.0, config.bn_weight, config.ce_weight)
        return [FeatureSpace("teacher", self.network, terms, ""), *pool]

    def problem(self, setting: Setting, seed: int) -> Problem:
        config = setting.synthesis
        found = self.transport(setting.weights, seed)
        spaces = self.spaces(config, seed)
        targets = tuple(
            self.target(c, found[c], spaces, seed, setting.sample) for c in range(self.classes)
        )
        weights = torch.cat([f.weights for f in found]) * self.ipc
        return Problem(spaces, targets, self.start(config.init, found, seed), weights)

    def synthesise(
        self, problem: Problem, config: SynthesisConfig, seed: int,
        spectrum: Spectrum | None = None, coding: Coding = PNG,
    ) -> Tensor:  # fmt: skip
        """Pixels (C * n, 3, R, R) uint8. spectrum: in place of the usual."""
        streams = [stream(seed, "synthesis", c) for c in range(len(problem.targets))]
        moved = spectrum or self.spectrum
        objective = Objective(problem.spaces, moved, config, coding=coding)
        done = synthesise(objective, problem.targets, [*problem.start], streams)
        return done.pixels

    def distil(self, setting: Setting, seed: int) -> tuple[Tensor, Tensor]:
        """Pixels (C * n, 3, R, R) and weights (C * n,), mean 1."""
        problem = self.problem(setting, seed)
        if setting.whole:
            own = torch.arange(self.classes).repeat_interleave(self.ipc)
            first = replace(problem.spaces[0], network=OwnClassFirst(self.network, own))
            problem = replace(
                problem, spaces=[first], targets=(merged(problem.targets),),
                start=problem.start.flatten(0, 1)[None],
            )  # fmt: skip
        one, size = torch.ones(()), self.pixels.resolution
        flat = Spectrum(torch.eye(size), torch.eye(3), 0 * one, one, one)
        moved = self.spectrum if setting.spectrum else flat
        return self.synthesise(problem, setting.synthesis, seed, moved), problem.weights

    def random(self, ipc: int, seed: int) -> tuple[Tensor, Tensor]:
        rows = random_rows(self.train.labels, [ipc] * self.classes, 0, seed)
        return self.train.get(rows), torch.ones(len(rows))

    def score(
        self, images: Tensor, weights: Tensor, student: str, teacher: bool, config: StudentConfig,
        seed: int,
    ) -> float:  # fmt: skip
        labels = torch.arange(self.classes).repeat_interleave(len(images) // self.classes)
        hard = torch.nn.functional.one_hot(labels, self.classes).float()
        data = TrainingSet(images, hard, weights, teacher, self.network if teacher else None)
        draw = stream_seed(0, "student", student, seed) % 2**31
        source = find_backbone(student, resolution=self.pixels.resolution)
        model = new_network(source, self.data.class_names, self.pixels.resolution, draw)
        training = Training(recipe_for(config, len(weights)), draw, self.device)
        train_student(model, data, self.pixels, training)
        return score_network(FeatureNetwork(model, self.pixels, self.device), self.test).top1


class OwnClassFirst(FeatureNetwork):
    """The teacher, with the logit of each image's own class moved to the front, so that images of
    all classes can be one group of class 0. own: (B,) classes of the batch.
    """

    def __init__(self, network: FeatureNetwork, own: Tensor) -> None:
        super().__init__(network.model, network.preprocessing, network.device)
        order = own[:, None] + torch.arange(network.num_classes)
        self._order = (order % network.num_classes).to(network.device)

    def __call__(self, pixels: Tensor, moments: bool = True) -> Activations:
        out = super().__call__(pixels, moments)
        return replace(out, logits=out.logits.gather(1, self._order))


def merged(targets: Sequence[ClassTarget]) -> ClassTarget:
    """All classes as one: statistics of all images together, by the law of total variance."""
    own = [target.spaces[0] for target in targets]
    means = [torch.stack(layer) for layer in zip(*(s.means for s in own), strict=True)]
    within = [torch.stack(layer) for layer in zip(*(s.variances for s in own), strict=True)]
    space = SpaceTarget(
        torch.cat([s.atoms for s in own]),
        float(np.mean([s.variance for s in own])),
        tuple(m.mean(0) for m in means),
        tuple((v + (m - m.mean(0)) ** 2).mean(0) for m, v in zip(means, within, strict=True)),
    )
    weights = torch.cat([target.weights for target in targets]) / len(targets)
    return ClassTarget(0, weights, (space,), all(target.grey for target in targets))
