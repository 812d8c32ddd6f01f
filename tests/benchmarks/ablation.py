"""What each part of synthesis is worth: one change at a time from the defaults with free weights,
students on real data.

    python -m tests.benchmarks.ablation --dataset cifar10 --teacher RUN/teacher -o ablation.json

For every setting and seed a set is distilled and students are trained on it: with hard labels each
--student, with a teacher that labels every batch the first one. Random real images, drawn anew per
seed, get the same students, steps and seeds, also at two and four times the images per class: the
equivalent number of random images is read off that curve. Rows are written as they are found; the
same command goes on where it was. `--only NAME` computes a part, `--show` prints the table.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from wdistill.accuracy import score_network
from wdistill.artifact import write_json
from wdistill.backbone import find_backbone, load_backbone, new_network
from wdistill.barycenter import Barycenter, barycenter
from wdistill.config import BarycenterConfig, DataConfig, EvalConfig, SynthesisConfig
from wdistill.data import load_data
from wdistill.evaluate import random_rows
from wdistill.features import FeatureNetwork
from wdistill.manifest import device_name, versions
from wdistill.memory import keep_freed_memory
from wdistill.pixels import PixelStore, to_float
from wdistill.processors import preprocessing_for, working_resolution
from wdistill.seeds import stream, stream_seed
from wdistill.spaces import (
    FeatureSpace,
    Plan,
    SpaceTarget,
    Terms,
    open_spaces,
    plan_means,
    space_target,
)
from wdistill.spectrum import Spectrum, measure_spectrum
from wdistill.student import TrainingSet, train_student
from wdistill.survey import survey_class
from wdistill.synthesis import ClassTarget, synthesise

CPU = torch.device("cpu")
DEFAULT = SynthesisConfig()


@dataclass(frozen=True)
class Setting:
    """One way to distil. spectrum: whether Adam moves natural coefficients, else pixels;
    whole: statistics of all classes together, else per class.
    """

    synthesis: SynthesisConfig = DEFAULT
    weights: str = "free"
    spectrum: bool = True
    whole: bool = False


NONE = ("none",)
PAPER = replace(
    DEFAULT, init="noise", feature_spaces=NONE, ce_weight=0, whole_share=0, lr=0.1, iterations=1000
)
PLAIN = replace(DEFAULT, feature_spaces=NONE, ce_weight=0)
SETTINGS = {
    "base: free weights": Setting(),
    "default: uniform weights": Setting(weights="uniform"),
    "0 steps: the medoids": Setting(replace(DEFAULT, iterations=0)),
    "start: mean": Setting(replace(DEFAULT, init="mean")),
    "start: noise": Setting(replace(DEFAULT, init="noise")),
    "no random ConvNets": Setting(replace(DEFAULT, feature_spaces=NONE)),
    "50 steps": Setting(replace(DEFAULT, iterations=50)),
    "no statistics": Setting(replace(DEFAULT, bn_weight=0)),
    "no cross-entropy": Setting(replace(DEFAULT, ce_weight=0)),
    "crops alone": Setting(replace(DEFAULT, whole_share=0)),
    "pixels, lr 0.01": Setting(replace(DEFAULT, lr=0.01), spectrum=False),
    "paper: noise, uniform, pixels, no cross-entropy, lr 0.1, 1000 steps": Setting(
        PAPER, "uniform", False
    ),
    "1000 steps": Setting(replace(DEFAULT, iterations=1000)),
    "no random ConvNets, no cross-entropy": Setting(PLAIN),
    "no random ConvNets, no cross-entropy, statistics of all classes together": Setting(
        PLAIN, whole=True
    ),
}


class Bench:
    """A dataset, its teacher, and what settings share."""

    def __init__(self, dataset: str, teacher: str, ipc: int, device: torch.device) -> None:
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
        self.train.preload()
        self.test.preload()
        self._transport: dict[tuple[str, int], list[Barycenter]] = {}

    def rows(self, label: int) -> Tensor:
        return (self.train.labels == label).nonzero()[:, 0]

    @cached_property
    def features(self) -> list[Tensor]:
        parts = [self.train.batches(self.rows(c), 128) for c in range(self.classes)]
        return [survey_class(self.network, part).features for part in parts]

    @cached_property
    def spectrum(self) -> Spectrum:
        order = torch.randperm(len(self.train), generator=stream(0, "spectrum"))
        return measure_spectrum(self.train.get(order[:2000]).split(100))

    def transport(self, weights: str, seed: int) -> list[Barycenter]:
        if (weights, seed) not in self._transport:
            config = BarycenterConfig(ipc=self.ipc, weights=weights)  # type: ignore[arg-type]
            self._transport[weights, seed] = [
                barycenter(self.features[c], config, stream(seed, "transport", c))
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
        self, label: int, found: Barycenter, spaces: list[FeatureSpace], seed: int
    ) -> ClassTarget:
        whole = self.plan(label, found)
        part = whole.sample(300, stream(seed, "space-rows", label))
        draws = [stream(seed, "space", s.name, label) for s in spaces]
        aims = tuple(
            space_target(
                s.network,
                self.train,
                whole if i == 0 else part,
                draws[i],
                s.terms.moments > 0,
            )
            for i, s in enumerate(spaces)
        )
        rows = self.rows(label)
        grey = all(bool((b == b[:, :1]).all()) for b in self.train.batches(rows, 512))
        return ClassTarget(label, found.weights, aims, grey)

    def distil(self, setting: Setting, seed: int) -> tuple[Tensor, Tensor]:
        """Pixels (C * n, 3, R, R) and weights (C * n,), mean 1."""
        config = setting.synthesis
        found = self.transport(setting.weights, seed)
        sources = [
            (find_backbone(n, resolution=self.pixels.resolution), k) for n, k in config.pool()
        ]
        given = (self.pixels.mean, self.pixels.std)
        described = [
            (s, k, preprocessing_for(s, self.pixels.resolution, given)) for s, k in sources
        ]
        pool = open_spaces(described, config, self.data.class_names, seed, self.device)
        terms = Terms(config.feature_weight, 0.0, config.bn_weight, config.ce_weight)
        spaces = [FeatureSpace("teacher", self.network, terms, ""), *pool]
        targets = [self.target(c, found[c], spaces, seed) for c in range(self.classes)]
        start = self.start(config.init, found, seed)
        streams = [stream(seed, "synthesis", c) for c in range(self.classes)]
        if setting.whole:
            targets, start = [merged(targets)], start.flatten(0, 1)[None]
            streams = streams[:1]
        size = self.pixels.resolution
        one = torch.ones(())
        flat = Spectrum(torch.eye(size), torch.eye(3), 0 * one, one, one)
        moved = self.spectrum if setting.spectrum else flat
        done = synthesise(spaces, targets, start, moved, config, streams)
        return done.pixels.flatten(0, 1), torch.cat([f.weights for f in found]) * self.ipc

    def random(self, ipc: int, seed: int) -> tuple[Tensor, Tensor]:
        rows = random_rows(self.train.labels, self.classes, ipc, 0, seed)
        return self.train.get(rows), torch.ones(len(rows))

    def score(
        self, images: Tensor, weights: Tensor, student: str, teacher: bool, config: EvalConfig,
        seed: int,
    ) -> float:  # fmt: skip
        labels = torch.arange(self.classes).repeat_interleave(len(images) // self.classes)
        hard = torch.nn.functional.one_hot(labels, self.classes).float()
        data = TrainingSet(images, hard, weights, teacher, self.network if teacher else None)
        draw = stream_seed(0, "student", student, seed) % 2**31
        source = find_backbone(student, resolution=self.pixels.resolution)
        model = new_network(source, self.data.class_names, self.pixels.resolution, draw)
        train_student(model, data, self.pixels, config, draw, self.device)
        return score_network(FeatureNetwork(model, self.pixels, self.device), self.test).top1


def merged(targets: list[ClassTarget]) -> ClassTarget:
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


@dataclass(frozen=True)
class Budget:
    """Optimiser steps of a student with hard labels and with a teacher, and its learning rates."""

    hard: int
    online: int
    lr: float
    online_lr: float

    def config(self, images: int, teacher: bool) -> EvalConfig:
        size = min(32, images)
        steps = self.online if teacher else self.hard
        epochs = max(1, round(steps / math.ceil(images / size)))
        return EvalConfig(epochs=epochs, batch_size=size, lr=self.online_lr if teacher else self.lr)


def contests(students: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    """(student, teacher online) of every regime."""
    yield from ((student, False) for student in students)
    yield students[0], True


def equivalent(score: float, curve: dict[int, float]) -> str:
    """The IPC at which random real images reach ``score``, by interpolation in log IPC."""
    known = sorted(curve.items())
    if score < known[0][1]:
        return f"< {known[0][0]} random"
    for (low, a), (high, b) in pairwise(known):
        if score < b:
            return f"= {low * (high / low) ** ((score - a) / (b - a)):.0f} random"
    return f"> {known[-1][0]} random"


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: mean and standard deviation per setting and regime, and equivalent numbers."""
    groups: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        regime = f"{row['student']}, {'teacher' if row['teacher'] else 'hard'}"
        groups.setdefault(row["setting"], {}).setdefault(regime, []).append(100 * row["top1"])
    regimes = sorted({regime for group in groups.values() for regime in group})
    lines = ["| images | " + " | ".join(regimes) + " |", "|---|" + "---:|" * len(regimes)]
    curves: dict[str, dict[int, float]] = {regime: {} for regime in regimes}
    for name, group in groups.items():
        if name.startswith("random, IPC "):
            for regime, values in group.items():
                curves[regime][int(name.split()[-1])] = float(np.mean(values))
    for name, group in groups.items():
        cells = []
        for regime in regimes:
            values = group.get(regime, [])
            spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
            worth = ""
            if values and not name.startswith("random") and len(curves[regime]) > 1:
                worth = f" ({equivalent(float(np.mean(values)), curves[regime])})"
            cells.append(f"{np.mean(values):.1f}{spread}{worth}" if values else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@click.command()
@click.option("--dataset", required=True)
@click.option("--teacher", required=True, help="checkpoint folder of a run")
@click.option("--ipc", default=10, show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--first-seed", default=0, show_default=True)
@click.option("--student", "students", multiple=True, default=("resnet10-w16", "convnet"))
@click.option("--steps", default=400, show_default=True, help="of a student with hard labels")
@click.option("--online-steps", default=1000, show_default=True)
@click.option("--lr", default=1e-3, show_default=True)
@click.option("--online-lr", default=3e-3, show_default=True)
@click.option("--only", multiple=True, help="names of settings, or 'random'")
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", type=int, help="[default: PyTorch's]")
@click.option("--show", is_flag=True, help="print the table of --output and stop")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(
    dataset: str, teacher: str, ipc: int, seeds: int, first_seed: int, students: tuple[str, ...],
    steps: int, online_steps: int, lr: float, online_lr: float, only: tuple[str, ...], device: str,
    threads: int | None, show: bool, output: Path,
) -> None:  # fmt: skip
    known = json.loads(output.read_text()) if output.exists() else {"rows": []}
    if show:
        click.echo(table(known["rows"]))
        return
    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    bench = Bench(dataset, teacher, ipc, torch.device(device))
    budget = Budget(steps, online_steps, lr, online_lr)
    done = {(r["setting"], r["seed"], r["student"], r["teacher"]) for r in known["rows"]}
    names = [*(f"random, IPC {k * ipc}" for k in (1, 2, 4)), *SETTINGS]
    wanted = [n for n in names if not only or n in only or ("random" in only and "random, " in n)]
    jobs = [
        (name, seed)
        for seed in range(first_seed, first_seed + seeds)
        for name in wanted
        if any((name, seed, *contest) not in done for contest in contests(students))
    ]
    header = {
        "dataset": Path(dataset).name, "ipc": ipc, "budget": vars(budget),
        "device": device_name(bench.device), "threads": torch.get_num_threads(),
        "versions": versions(),
    }  # fmt: skip
    for name, seed in tqdm(jobs, unit="set"):
        began = time.perf_counter()
        if name in SETTINGS:
            images, weights = bench.distil(SETTINGS[name], seed)
        else:
            images, weights = bench.random(int(name.split()[-1]), seed)
        seconds = time.perf_counter() - began
        for student, online in contests(students):
            if (name, seed, student, online) in done:
                continue
            config = budget.config(len(images), online)
            top1 = bench.score(images, weights, student, online, config, seed)
            row = {"setting": name, "seed": seed, "student": student, "teacher": online}
            known["rows"].append({**row, "top1": top1, "seconds": round(seconds, 1)})
            write_json(output, {**header, "rows": known["rows"]})
    click.echo(table(known["rows"]))


if __name__ == "__main__":
    main()
