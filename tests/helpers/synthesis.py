"""Small networks, pictures and coordinates for the tests of synthesis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification

from wdistill.config import SynthesisConfig
from wdistill.core.seeds import stream
from wdistill.data.pixels import Preprocessing, to_uint8
from wdistill.networks.features import FeatureNetwork
from wdistill.synthesis.optimise import ClassTarget, DistilledUnit, Objective
from wdistill.synthesis.optimise import synthesise as synthesise_in
from wdistill.synthesis.spaces import FeatureSpace, SpaceTarget, Terms
from wdistill.synthesis.spectrum import Spectrum
from wdistill.transport.survey import survey_class

SIZE, CLASSES = 8, 5
CPU = torch.device("cpu")


def network_of(model: nn.Module, size: int = SIZE) -> FeatureNetwork:
    plain = Preprocessing(size, 0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return FeatureNetwork(model, plain, CPU)


def resnet(size: int = 16) -> FeatureNetwork:
    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic",
        num_labels=CLASSES,
    )  # fmt: skip
    return network_of(ResNetForImageClassification(config), size)


def uniform(*shape: int, key: str) -> Tensor:
    return torch.rand(*shape, generator=stream(0, key))


def pixels_themselves(size: int) -> Spectrum:
    """Coordinates in which a step is the same in every pixel, as in the paper."""
    shape = (3, size, size)
    return Spectrum(
        torch.eye(size), torch.eye(3), torch.zeros(shape), torch.ones(shape), torch.ones(size, size)
    )


def streams(labels: Sequence[int], seed: int = 0) -> list[torch.Generator]:
    return [stream(seed, "synthesis", label) for label in labels]


WHOLE = SynthesisConfig(iterations=200, lr=0.05, crop_min=1.0)
FEATURES = Terms(features=1.0)


class Rows(nn.Module):
    """Its features are the mean of each row and channel, (B, 24)."""

    config = SimpleNamespace(num_labels=CLASSES)

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3 * SIZE, CLASSES)

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(self.norm(x).mean(3).flatten(1)))


def rows_network() -> FeatureNetwork:
    torch.manual_seed(0)
    return network_of(Rows())


def target(network: FeatureNetwork, label: int, images: Tensor, n: int) -> ClassTarget:
    """Atoms and statistics of a class of random pictures, with unequal weights."""
    real = survey_class(network, [to_uint8(images)], torch.ones(len(images)))
    atoms = network(to_uint8(images[:n]).float() / 255).features
    weights = torch.arange(1, n + 1) / (n * (n + 1) / 2)
    return aim_of(label, atoms, weights, real.means, real.variances)


def aim_of(
    label: int,
    atoms: Tensor,
    weights: Tensor,
    means: Sequence[Tensor] = (),
    variances: Sequence[Tensor] = (),
) -> ClassTarget:
    """A target in one space, whose distances are measured per dimension."""
    space = SpaceTarget(atoms, float(atoms.shape[1]), tuple(means), tuple(variances))
    return ClassTarget(label, weights, (space,))


def space_of(network: FeatureNetwork, terms: Terms = FEATURES) -> FeatureSpace:
    return FeatureSpace("one", network, terms, "key")


def distil(
    network: FeatureNetwork,
    targets: Sequence[ClassTarget],
    start: Tensor,
    config: SynthesisConfig,
    generators: Sequence[torch.Generator],
    terms: Terms = FEATURES,
    on_step: Callable[[int], None] | None = None,
) -> DistilledUnit:
    """Synthesis in one space."""
    plain = pixels_themselves(start.shape[-1])
    objective = Objective([space_of(network, terms)], plain, config)
    return synthesise_in(objective, targets, start, generators, on_step=on_step)


def synthesise(
    network: FeatureNetwork, targets: Sequence[ClassTarget], start: Tensor, *more: Any, **named: Any
) -> Tensor:
    """The images (G, n, 3, R, R), as many of each class as in ``start``."""
    return distil(network, targets, start, *more, **named).pixels.view(start.shape)
