"""The stages of the package that PYTHONPATH names, for stages.py, which says on the standard input
what to do. It runs with older checkouts too.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import defaultdict
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from wdistill.config import DataConfig, RunConfig, StudentConfig, SynthesisConfig, TeacherConfig
from wdistill.core.devices import keep_freed_memory, open_accelerator
from wdistill.core.seeds import stream
from wdistill.data.dataset import load_data
from wdistill.data.pixels import Decoding, PixelStore, Preprocessing
from wdistill.evaluation.training import Training, TrainingSet, recipe_for, train_student
from wdistill.networks.backbones import Backbone, new_network
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.features import FeatureNetwork
from wdistill.networks.training import Checkpoint, train_teacher
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.stages import transport as stage
from wdistill.synthesis.optimise import ClassTarget, Objective, synthesise
from wdistill.synthesis.spaces import FeatureSpace, SpaceTarget, Terms
from wdistill.synthesis.spectrum import measure_spectrum
from wdistill.transport.survey import survey_class

IPC, BATCH = 10, 32


class Stages:
    """Each method does the amount of work that it is given and returns the bytes of its result."""

    def __init__(
        self, dataset: str | None, backbone: str, resolution: int, images: int, threads: int
    ) -> None:
        keep_freed_memory()
        torch.set_num_threads(threads)
        self.backbone, self.size, self.images_of_class = backbone, resolution, images
        self.accelerator = open_accelerator("no", "cpu")
        # A collection of garbage, once after a teacher's last step, is no part of its steps.
        self.accelerator.free_memory = lambda *_: ()  # type: ignore[method-assign]
        named: dict[str, Any] = {"dataset": dataset} if dataset else {}
        self.data = load_data(DataConfig(**named), 0, 1)
        self.pixels = Preprocessing(resolution, resolution, (0.5,) * 3, (0.25,) * 3)
        labels = torch.from_numpy(self.data.train.labels)
        rows = [(labels == label).nonzero()[:images, 0] for label in labels.unique()]
        self.store = PixelStore(self.data.train, self.pixels).take(torch.cat(rows))
        self.store.get(range(len(self.store)))  # decoded, as after the first pass of a run
        self.networks = [self.opened(backbone), self.opened("convnet-w64")]
        self.spectrum = measure_spectrum([self.images(10 * IPC)])
        self.targets = self.class_targets(10)
        # Processor seconds for barycenters.
        self.of_threads: defaultdict[int, float] = defaultdict(float)
        self.barycenter = vars(stage)["class_barycenter"]

    def model(self, name: str) -> Any:
        source = find_backbone(name, resolution=self.size)
        return new_network(source, self.data.class_names, self.size, 0)

    def opened(self, name: str) -> FeatureNetwork:
        return FeatureNetwork(self.model(name), self.pixels, self.accelerator.device)

    def images(self, count: int) -> Tensor:
        """(count, 3, R, R) uint8, of all classes alike."""
        order = torch.arange(len(self.store)).view(-1, self.images_of_class).T.flatten()
        return self.store.get(order[:count])

    @torch.no_grad()
    def class_targets(self, classes: int) -> list[ClassTarget]:
        pixels = self.images(classes * IPC).float() / 255
        teacher, other = (network(pixels) for network in self.networks)
        targets = []
        for label in range(classes):
            part = slice(label * IPC, (label + 1) * IPC)
            means, variances = (
                tuple(values[part].mean(0) for values in layers)
                for layers in (teacher.means, teacher.variances)
            )
            spaces = (
                SpaceTarget(teacher.features[part], 1.0, means, variances),
                SpaceTarget(other.features[part], 1.0),
            )
            targets.append(ClassTarget(label, torch.full((IPC,), 1 / IPC), spaces))
        return targets

    def synthesis(self, steps: int) -> bytes:
        """A step is one of 100 images, in the spaces of the network and of a ConvNet."""
        terms = Terms(0.05, 0.0, 10.0, 1.0), Terms(1.0, 10.0)
        spaces = [
            FeatureSpace("", network, weights, "")
            for network, weights in zip(self.networks, terms, strict=True)
        ]
        objective = Objective(spaces, self.spectrum, SynthesisConfig(iterations=steps))
        count = len(self.targets)
        start = (self.images(count * IPC).float() / 255).roll(1, 0).unflatten(0, (count, IPC))
        generators = [stream(0, label) for label in range(count)]
        return synthesise(objective, self.targets, start, generators).pixels.numpy().tobytes()

    def survey(self, images: int) -> bytes:
        shares = torch.full((images,), 1 / images)
        found = survey_class(self.networks[0], self.images(images).split(128), shares)
        return found.features.numpy().tobytes()

    def student(self, steps: int) -> bytes:
        """A step is one of 100 images."""
        count = 100
        losses: list[torch.Tensor] = []
        labels = torch.arange(count) % len(self.data.class_names)
        data = TrainingSet(self.images(count), labels, torch.ones(count), soft=False)
        recipe = recipe_for(StudentConfig(steps=steps, batch_size=count), count)
        training = Training(recipe, 0, self.accelerator.device)
        train_student(self.model(self.backbone), data, self.pixels, training, losses.append)
        return torch.stack(losses).numpy().tobytes()

    def teacher(self, steps: int) -> bytes:
        """A step is one of BATCH images, in one epoch."""
        model = self.model(self.backbone)
        order = torch.randperm(len(self.store), generator=stream(0, "order"))
        config = TeacherConfig(epochs=1, batch_size=BATCH)
        with TemporaryDirectory() as folder:
            train_teacher(
                Backbone("teacher", model, self.pixels, "from_scratch", None),
                self.store.take(order[: steps * BATCH]), config, 0, self.accelerator,
                Checkpoint(Path(folder) / "epoch", "key"),
            )  # fmt: skip
        return (
            torch.cat([v.flatten().float() for v in model.state_dict().values()]).numpy().tobytes()
        )

    def timed_barycenter(self, *arguments: Any, **options: Any) -> Any:
        began = time.thread_time()
        result = self.barycenter(*arguments, **options)
        self.of_threads[threading.get_ident()] += time.thread_time() - began
        return result

    def transport(self, classes: int) -> bytes:
        """The stage itself, survey and barycenters, with its files."""
        vars(stage)["class_barycenter"] = self.timed_barycenter
        teacher: Any = SimpleNamespace(
            images=self.store, network=self.networks[0], key="key",
            class_rows=lambda label: (self.store.labels == label).nonzero()[:, 0],
        )  # fmt: skip
        data = replace(self.data, class_names=self.data.class_names[:classes])
        result = b""
        with TemporaryDirectory() as folder:
            run = Run(RunConfig(), data, Path(folder), self.accelerator, Decoding(), quiet=True)
            run.work.mkdir()
            for unit in stage.transport_stage(run, teacher).units:
                for name, tensor in sorted(unit.to_tensors().items()):
                    result += name.encode() + tensor.numpy().tobytes()
        return result


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr
    stages = Stages(**json.loads(sys.stdin.readline()))
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        name, amount = json.loads(line)
        stages.of_threads.clear()
        wall, processor = time.perf_counter(), time.process_time()
        result = getattr(stages, name)(amount)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        others = list(stages.of_threads.values())
        answer = {
            "clock": wall, "processor": processor,
            "threads": [processor - sum(others), *others], "result": sha256(result).hexdigest(),
        }  # fmt: skip
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
