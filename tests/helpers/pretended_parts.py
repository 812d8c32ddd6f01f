"""What a run asks of a device beside the steps of its stages, in small: numbers by name, as JSON.

python -m helpers.pretended_parts
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from helpers.pretend import NAME, install, pretended
from helpers.stages import Stages
from wdistill.artifact.candidate import Candidate
from wdistill.config import RelabelConfig, RunConfig, StudentConfig, SynthesisConfig
from wdistill.core.seeds import stream
from wdistill.data.content.coding import Coding
from wdistill.data.pixels import PixelStore
from wdistill.evaluation.metrics import nearest_real
from wdistill.evaluation.sets import early
from wdistill.evaluation.students import Job, StudentSetting, run_job
from wdistill.evaluation.training import recipe_for
from wdistill.labels.committee import member_file, open_committee, save_member
from wdistill.labels.soft import soft_labels
from wdistill.networks.backbones import SMALL, Backbone, new_network, weights_sha256
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.training import _freeze_unused, measure_accuracy
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.stages.synthesis import real_spectrum
from wdistill.pipeline.teacher import Teacher
from wdistill.synthesis.spaces import open_spaces
from wdistill.synthesis.targets import class_target
from wdistill.transport.plan import Atoms, ClassTransport, Plan

SIZE, IMAGES = 16, 8
Values = list[float]


class Parts(Stages):
    """Each method is a part; its values lie on the host."""

    def __init__(self, accelerator: Accelerator) -> None:
        super().__init__(SIZE, IMAGES, SMALL, accelerator)

    def different(self, count: int) -> PixelStore:
        """Decoded images, not all alike."""
        store = self.store(count)
        store._kept().pixels.copy_(self.real[torch.arange(count) % len(self.real)])
        return store

    def soft(self) -> Values:
        config, generator = RelabelConfig(views=2), stream(0, "soft")
        return values(soft_labels(self.network, self.real, config, generator))

    def committee(self) -> Values:
        member = new_network(self.source, self.names, SIZE, 1).to(self.device)
        with TemporaryDirectory() as folder:
            save_member(member, member_file(Path(folder)), "key")
            both = open_committee(self.network, Path(folder), self.names, self.pixels)
        return values(soft_labels(both, self.real, RelabelConfig(views=1), stream(0, "soft")))

    def nearest(self) -> Values:
        rows, distances = nearest_real(self.real[:4], self.real[4:].split(5), self.device)
        return [*values(rows), *values(distances)]

    def easy(self) -> Values:
        early.STEPS = 2
        return values(early.early_errors(self.different(12), self.names, 0, self.device))

    def job(self) -> Values:
        labels = torch.arange(IMAGES) % 2
        candidate = Candidate(self.real[:IMAGES], labels, torch.ones(IMAGES), None)
        recipe = recipe_for(StudentConfig(steps=2, batch_size=4), IMAGES)
        store = self.different(12)
        with TemporaryDirectory() as folder:
            setting = StudentSetting(
                lambda: candidate, self.names, store, store, None, recipe, RelabelConfig(), 0,
                self.device, Path(folder),
            )  # fmt: skip
            outcome = run_job(setting, Job(SMALL, "distilled", "hard", 4, 0), self.source)
        return [*outcome.per_class, *outcome.curve.loss]

    def targets(self) -> Values:
        source = find_backbone("resnet10-w16", resolution=SIZE)
        spaces = open_spaces(
            [(source, 1, self.pixels)], SynthesisConfig(), self.names, 0, self.device
        )
        rows = torch.arange(12)
        plan = Plan(rows, rows % 2, torch.full((12,), 1 / 12), 2)
        atoms = Atoms(torch.zeros(2, 4), torch.full((2,), 0.5), rows[:2])
        transport = ClassTransport(atoms, plan, 1.0, (), (), False, 0.0, 0.0)
        target = class_target(self.different(12), spaces, transport, 0, 0).spaces[1]
        return [*values(target.atoms), target.variance]

    def spectrum(self) -> Values:
        """Of the real images of a run, which is computed where the teacher is."""
        run = cast(Run, SimpleNamespace(config=RunConfig()))
        teacher = cast(Teacher, SimpleNamespace(images=self.different(12), network=self.network))
        spectrum = real_spectrum(run, teacher)
        return [*values(spectrum.mean), *values(spectrum.deviation), *values(spectrum.places)]

    def decoded(self) -> Values:
        """Synthesis that sees images as they will be decoded."""
        return values(self.synthesis(2, coding=Coding("webp", 20)).trace[:, 1:])

    def accuracy(self) -> Values:
        model = new_network(self.source, self.names, SIZE, 0)
        digest = int(weights_sha256(model.to(self.device))[:6], 16)
        _freeze_unused(Backbone("teacher", model, self.pixels, "from_scratch", None))
        learnt = sum(parameter.requires_grad for parameter in model.parameters())
        accuracy = measure_accuracy(self.network, self.different(12), self.accelerator, 5)
        return [digest, learnt, accuracy]


PARTS = (
    "soft", "committee", "nearest", "easy", "job", "targets", "spectrum", "decoded", "accuracy",
)  # fmt: skip


def values(tensor: Tensor) -> Values:
    """Refused where the tensor is on a device."""
    return np.asarray(tensor.numpy(), dtype=np.float64).ravel().tolist()


def part(name: str) -> dict[str, Any]:
    """On the pretended device: the values, how many operations it computed, and those of networks
    on the host.
    """
    os.environ["ACCELERATE_TORCH_DEVICE"] = f"{NAME}:0"
    with pretended() as seen:
        found = getattr(Parts(Accelerator()), name)()
    return {
        "values": found,
        "kernels": sum(seen.kernels.values()),
        "host": {" at ".join(key): n for key, n in seen.host.items()},
    }


def main() -> None:
    install()
    print(json.dumps({name: part(name) for name in PARTS}))
    sys.stdout.flush()
    os._exit(0)  # PyTorch ends badly with tensors of a backend in Python


if __name__ == "__main__":
    main()
