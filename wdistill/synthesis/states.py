"""ConvNets at several points of their training, as feature spaces of images made for ConvNets.

A student starts from random weights and is trained. Images that have the class means of real ones
in random networks alone teach it less than those that have them in states all along its way.
Matching such states, and the cross-entropy of the later ones, is the idea of trajectory-guided
dataset distillation (TGDD); that real and synthetic images go through one and the same augmentation
is DSA's (arXiv 2102.08259, section 3.2). Here each space keeps one operation and one sample of real
images, so that its targets are computed once, and networks are trained for minutes instead of
hours. Measured in tests/benchmarks/README.md#for-convnets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wdistill.core.seeds import stream_seed
from wdistill.core.settings import stable_hash
from wdistill.data.pixels import Preprocessing
from wdistill.networks.backbones import small_convnet, weights_sha256
from wdistill.networks.features import FeatureNetwork
from wdistill.synthesis.spaces import FeatureSpace, Terms

ARCHITECTURE = "convnet"  # the field's; half its channels: a point or two less, one trial each
NETWORKS = 2  # [own] about 65 % each on CIFAR-10, after three minutes on one core together
SHARES = (1 / 32, 1 / 8, 1 / 2, 1)  # [own] of the steps after which a state is kept
TEACHES_FROM = 1 / 2  # [own] share of the steps after which a state says what a class looks like
SPACES = 100  # [own] each with its operation and its sample of real images
RANDOM_EVERY = 4  # [own] every fourth space is a network that was not trained
CLASS_WEIGHT = 0.03  # [own] of the cross-entropy, beside 1 of the class mean


@dataclass(frozen=True)
class TrainedState:
    """share: of its training that the network has had, from 0 to 1; weights: as it then was."""

    share: float
    weights: Mapping[str, Tensor]


def states_at(steps: int) -> tuple[int, ...]:
    """After how many of ``steps`` a state is kept, without repetitions; the last is ``steps``."""
    return tuple(sorted({max(1, round(share * steps)) for share in SHARES}))


def state_spaces(
    states: Sequence[TrainedState],
    class_names: Sequence[str],
    preprocessing: Preprocessing,
    seed: int,
    device: torch.device,
    count: int,
) -> list[FeatureSpace]:
    """Feature spaces: the states in turn and, after every three of them, a random network.

    Args:
        states: Of any number of networks.
        class_names: The classes of the dataset.
        preprocessing: The networks' input.
        seed: Of the random networks and of the operations.
        device: Where the networks run.
        count: The number of spaces.
    """

    def opened(network: nn.Module) -> FeatureNetwork:
        return FeatureNetwork(network, preprocessing, device)

    def fresh(index: int) -> nn.Module:
        draw = stream_seed(seed, "random-state", index) % 2**31
        return small_convnet(class_names, preprocessing.resolution, draw, ARCHITECTURE)

    trained = []
    for state in states:
        network = fresh(0)
        network.load_state_dict(state.weights)
        trained.append((state.share, opened(network)))
    spaces = []
    for index in range(count):
        number, rest = divmod(index, RANDOM_EVERY)
        if rest == RANDOM_EVERY - 1:
            share, space = 0.0, opened(fresh(index))
        else:
            share, space = trained[((RANDOM_EVERY - 1) * number + rest) % len(trained)]
        operation = stream_seed(seed, "operation", index) % 2**31
        entropy = CLASS_WEIGHT if share >= TEACHES_FROM else 0.0
        spaces.append(
            FeatureSpace(
                name=f"{ARCHITECTURE}, {share:.0%} trained",
                network=space,
                terms=Terms(features=0.0, mean=1.0, entropy=entropy),
                key=stable_hash([weights_sha256(space.model), vars(preprocessing), operation]),
                operation=operation,
            )
        )
    return spaces
