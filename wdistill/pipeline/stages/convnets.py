"""Small ConvNets that are trained briefly on the real images: for labels and as feature spaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from wdistill.artifact.report import Recipe
from wdistill.config import StudentConfig
from wdistill.core.files import has_tensors, read_tensors, write_tensors
from wdistill.core.processes import Work, share_out
from wdistill.core.seeds import stream_seed
from wdistill.core.settings import stable_hash
from wdistill.evaluation.training import Training, TrainingSet, recipe_for, train_student
from wdistill.networks.backbones import SMALL, SMALL_SIDE, small_convnet
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.teacher import Teacher
from wdistill.synthesis.spaces import FeatureSpace
from wdistill.synthesis.states import (
    ARCHITECTURE,
    NETWORKS,
    SPACES,
    TrainedState,
    state_spaces,
    states_at,
)

BATCH = 128  # [own] see tests/benchmarks/README.md#labels-that-help


@dataclass(frozen=True)
class BriefTraining:
    """Of ConvNets on all training images as they are, each in one process, so that it does not
    depend on their number. Crops and CutMix would pay only after more steps: with them a network
    learns much less in these.
    """

    run: Run
    teacher: Teacher
    steps: int
    architecture: str = SMALL

    @property
    def key(self) -> str:
        """A hash of everything that the weights depend on but the seed of the network."""
        run, train = self.run, self.teacher.train
        return stable_hash(
            [run.data.source.fingerprint, run.data.stored, run.data.eval_split, run.config.seed,
             run.config.mixed_precision, vars(train.preprocessing), self._recipe.model_dump(),
             self.architecture, SMALL_SIDE, "not augmented"]
        )  # fmt: skip

    @property
    def _recipe(self) -> Recipe:
        count = len(self.teacher.train)
        return recipe_for(StudentConfig(steps=self.steps, batch_size=min(BATCH, count)), count)

    def network(self, seed: int, on_step: Callable[[nn.Module], object]) -> nn.Module:
        """A trained network. ``on_step`` is called with it after each step."""
        run, train = self.run, self.teacher.train
        side, names = train.preprocessing.resolution, run.data.class_names
        network = small_convnet(names, side, seed, self.architecture)
        data = TrainingSet(train, train.labels, torch.ones(len(train)), soft=False, augment=False)
        device = run.accelerator.device
        training = Training(self._recipe, seed, device, run.autocast, run.graphs)
        train_student(network, data, train.preprocessing, training, lambda _: on_step(network))
        return network


def state_pool(run: Run, teacher: Teacher) -> list[FeatureSpace]:
    """The feature spaces of images that are made for ConvNets. Networks whose states are not there
    yet are trained; the processes share them.
    """
    count = min(SPACES, run.config.synthesis.iterations)
    if count == 0:
        return []
    training = BriefTraining(run, teacher, run.config.synthesis.state_steps, ARCHITECTURE)
    moments, seed = states_at(training.steps), run.config.seed
    key = stable_hash([training.key, moments])
    paths = [run.work / f"states-{index}.safetensors" for index in range(NETWORKS)]

    def compute(index: int, advance: Callable[[int], object]) -> None:
        kept: dict[str, Tensor] = {}
        step = 0

        def after(network: nn.Module) -> None:
            nonlocal step
            step += 1
            if step in moments:
                state = network.state_dict().items()
                kept.update({f"{step}.{name}": value.detach().clone() for name, value in state})
            advance(1)

        training.network(stream_seed(seed, "states", index) % 2**31, after)
        write_tensors(
            paths[index], {n: v.cpu().contiguous() for n, v in kept.items()}, {"key": key}
        )

    work = Work(
        name="states",
        paths=paths,
        valid=lambda index: has_tensors(paths[index], key),
        compute=compute,
        ticks=lambda _: training.steps,
        tick_name="step",
    )
    share_out(work, run.accelerator, run.quiet)
    states = [state for path in paths for state in _read(path, moments)]
    return state_spaces(
        states,
        run.data.class_names,
        teacher.train.preprocessing,
        seed,
        run.accelerator.device,
        count,
    )


def _read(path: Path, moments: tuple[int, ...]) -> list[TrainedState]:
    tensors, _ = read_tensors(path)
    return [
        TrainedState(
            share=moment / moments[-1],
            weights={
                name.removeprefix(f"{moment}."): value
                for name, value in tensors.items()
                if name.startswith(f"{moment}.")
            },
        )
        for moment in moments
    ]
