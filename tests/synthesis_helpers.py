"""Small networks, pictures and coordinates for the tests of synthesis."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification

from wdistill.features import FeatureNetwork
from wdistill.pixels import Preprocessing
from wdistill.seeds import stream
from wdistill.spectrum import Spectrum

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
