"""One step of each stage of a run, on any device, with images that mean nothing."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from wdistill.config import LabelViewsConfig, StudentConfig, SynthesisConfig, TeacherConfig
from wdistill.core.devices import Capacity
from wdistill.core.machine.graphs import GraphSwitch
from wdistill.core.seeds import stream
from wdistill.data.content.coding import Coding
from wdistill.data.dsa import OPERATIONS
from wdistill.data.pixels import PixelStore, Preprocessing, to_float
from wdistill.data.splits import ImageSplit
from wdistill.evaluation.metrics import score_network
from wdistill.evaluation.training import Training, TrainingSet, recipe_for, train_student
from wdistill.labels.views import ViewRecipe, label_views
from wdistill.networks.backbones import Backbone, new_network
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.features import FeatureNetwork
from wdistill.networks.training import Checkpoint, train_teacher
from wdistill.synthesis.optimise import ClassTarget, DistilledUnit, Objective, synthesise
from wdistill.synthesis.spaces import FeatureSpace, SpaceTarget, Terms
from wdistill.synthesis.spectrum import measure_spectrum
from wdistill.transport.survey import survey_class

STAGES = ("synthesis", "student", "replay", "classic", "dsa", "teacher", "survey", "test")


class Stages:
    """size: of the images; images: of a step; network: a built-in name; classes: of the dataset,
    all of which are in a step of synthesis; graphs: whether to use CUDA graphs.
    """

    graphs = GraphSwitch()

    def __init__(
        self, size: int, images: int, network: str, accelerator: Accelerator, classes: int = 2
    ) -> None:
        self.size, self.images, self.accelerator = size, images, accelerator
        self.names = tuple(f"class {label}" for label in range(classes))
        bf16 = accelerator.mixed_precision == "bf16"
        self.autocast = torch.bfloat16 if bf16 else None
        self.device: torch.device = accelerator.device
        self.pixels = Preprocessing(size, 0, (0.5,) * 3, (0.25,) * 3)
        self.source = find_backbone(network, resolution=size)
        shape = (2 * images, 3, size, size)
        generator = stream(0, "pixels")
        self.real = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        self.network = self.opened(network)

    def opened(self, name: str, draw: int = 0) -> FeatureNetwork:
        source = find_backbone(name, resolution=self.size)
        model = new_network(source, self.names, self.size, draw)
        return FeatureNetwork(model, self.pixels, self.device)

    def store(self, count: int) -> PixelStore:
        """Decoded already, as after the first pass over the images of a run."""
        rows = datasets.Dataset.from_dict({"image": [0] * count})
        split = ImageSplit(np.arange(count) % 2, rows, np.arange(count), "train", "image")
        store = PixelStore(split, self.pixels)
        kept = store._kept()
        kept.pixels.copy_(self.real[:1].expand(count, -1, -1, -1))
        kept.filled.fill_(True)
        return store

    def synthesis(
        self,
        steps: int,
        capacity: Capacity | None = None,
        coding: Coding | None = None,
        pool: int = 1,
    ) -> DistilledUnit:
        terms = Terms(0.05, 0.0, 10.0, 1.0), *[Terms(1.0, 10.0)] * pool
        networks = self.network, *(self.opened("convnet-w64", draw) for draw in range(pool))
        spaces = [FeatureSpace("", n, t, "") for n, t in zip(networks, terms, strict=True)]
        classes = len(self.names)
        ipc, aims = self.images // classes, []
        with torch.no_grad():
            outs = [n(to_float(self.real[:ipc], self.device)) for n in networks]
        for label in range(classes):
            moments = outs[0].means, outs[0].variances
            of_teacher = [tuple(x.mean(0).cpu() for x in values) for values in moments]
            features = [out.features.cpu() for out in outs]
            targets = [SpaceTarget(features[0], 1.0, *of_teacher)]
            targets += [SpaceTarget(values, 1.0) for values in features[1:]]
            aims.append(ClassTarget(label, torch.full((ipc,), 1 / ipc), tuple(targets)))
        config = SynthesisConfig(iterations=steps)
        spectrum = measure_spectrum([self.real], self.device)
        coding = coding or Coding()
        objective = Objective(spaces, spectrum, config, self.autocast, coding, self.graphs)
        start = self.real[: classes * ipc].float().div(255).view(classes, ipc, 3, *[self.size] * 2)
        draws = [stream(0, label) for label in range(classes)]
        unit = synthesise(objective, aims, start, draws, capacity=capacity)
        unit.pixels.numpy(), unit.middle.numpy()  # on the host
        return unit

    def student(self, steps: int, views: bool = False) -> nn.Module:
        count = self.images
        config = StudentConfig(steps=steps, batch_size=count)
        stored = None
        if views:
            recipe = ViewRecipe(LabelViewsConfig(2))
            stored = label_views(self.network, self.real[:count], recipe)
        labels = torch.arange(count) % 2
        data = TrainingSet(self.real[:count], labels, torch.ones(count), soft=views, views=stored)
        recipe = recipe_for(config, count)
        training = Training(recipe, 0, self.device, self.autocast, self.graphs)
        return train_student(
            new_network(self.source, self.names, self.size, 0), data, self.pixels, training
        )

    def classic(self, steps: int) -> None:
        """Of recipe classic, with the operation of DSA that each step draws."""
        count = self.images
        recipe = recipe_for(StudentConfig(), count, "classic")
        recipe = recipe.model_copy(update={"steps": steps, "batch_size": count})
        labels = torch.arange(count) % 2
        data = TrainingSet(self.real[:count], labels, torch.ones(count), soft=False)
        model = new_network(self.source, self.names, self.size, 0)
        train_student(model, data, self.pixels, Training(recipe, 0, self.device, self.autocast))

    def dsa(self, steps: int) -> None:
        """A step is every operation of DSA, once."""
        images, generator = to_float(self.real, self.device), stream(0, "dsa")
        for _ in range(steps):
            for operation in OPERATIONS:
                operation(images, generator)

    def replay(self, steps: int) -> None:
        self.student(steps, views=True)

    def teacher(self, steps: int) -> None:
        model = new_network(self.source, self.names, self.size, 0)
        backbone = Backbone("teacher", model, self.pixels, "from_scratch", None)
        config = TeacherConfig(epochs=1, batch_size=self.images)
        with TemporaryDirectory() as folder:
            checkpoint = Checkpoint(Path(folder) / "epoch", "key")
            store = self.store(steps * self.images)
            train_teacher(backbone, store, config, 0, self.accelerator, checkpoint)

    def survey(self, steps: int) -> None:
        """A step is a class of three batches."""
        for _ in range(steps):
            parts = [self.real[: self.images]] * 3
            survey = survey_class(self.network, parts, torch.ones(3 * self.images))
            survey.features.numpy()  # on the host

    def test(self, steps: int) -> None:
        """A step is a batch of 256 images."""
        score_network(self.network, self.store(256 * steps))
