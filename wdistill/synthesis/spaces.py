"""Feature spaces: networks in whose features distilled images should match real ones.

The transport plan T of a class says which real images each atom represents. In any network with
features Y' of the real images, the matching atoms are the plan-weighted means

    X' = diag(1/b) T Y'

so one plan, computed in the teacher's features, applies to any network. This extends the paper,
where the teacher is the only network. The default pool consists of randomly initialised ConvNets;
using such networks as feature spaces comes from distribution matching (Zhao and Bilen, arXiv
2110.04181).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from wdistill.config import SynthesisConfig
from wdistill.core.machine.transfer import to_device
from wdistill.core.seeds import stream_seed
from wdistill.core.settings import stable_hash
from wdistill.data.dsa import shared_operation
from wdistill.data.pixels import PixelStore, Preprocessing, to_float
from wdistill.errors import NumericalError
from wdistill.networks.backbones import load_backbone, weights_sha256
from wdistill.networks.checkpoints.source import BackboneSource
from wdistill.networks.features import FeatureNetwork
from wdistill.networks.teacher import check_accepts
from wdistill.transport.plan import Plan

SURVEY_BATCH = 128


@dataclass(frozen=True)
class Terms:
    """The weights of a feature space's terms in the loss of synthesis.

    Attributes:
        features: Distance of each image to its atom.
        mean: Distance of the class means.
        moments: Distance of the moments at the inputs of norm layers.
        entropy: Cross-entropy with the class.
    """

    features: float
    mean: float = 0.0
    moments: float = 0.0
    entropy: float = 0.0


@dataclass(frozen=True)
class FeatureSpace:
    """A network and the weights of its terms.

    Attributes:
        key: A hash of what its features depend on.
        operation: Seed of an operation of DSA through which its network sees all images, real and
            synthetic; None for images as they are.
    """

    name: str
    network: FeatureNetwork
    terms: Terms
    key: str
    operation: int | None = None

    def seen(self, images: Tensor) -> Tensor:
        """The images (B, 3, R, R) in [0, 1] as they enter the network; some values may then be
        outside.
        """
        if self.operation is None:
            return images
        mean, std = self.network.mean, self.network.std
        return shared_operation((images - mean) / std, self.operation) * std + mean


@dataclass(frozen=True)
class SpaceTarget:
    """The target of the images of one class in one space.

    Attributes:
        atoms: (n, d) float32.
        variance: E ||y - E y||^2 over the class, the unit of squared distances in this space.
        means: Per norm layer (channels,) float32; empty if the space has no moment term.
        variances: Likewise.
    """

    atoms: Tensor
    variance: float
    means: tuple[Tensor, ...] = ()
    variances: tuple[Tensor, ...] = ()


@torch.no_grad()
def space_targets(
    spaces: Sequence[FeatureSpace], store: PixelStore, plan: Plan
) -> list[SpaceTarget]:
    """Plan-weighted means of the features of the real images, in each space. The images travel to
    the device once for all of them.

    Raises:
        NumericalError: A feature is not finite.
    """
    if not spaces:
        return []
    device = spaces[0].network.device
    sums = [torch.zeros((), device=device) for _ in spaces]
    squares = list(sums)
    batches = store.batches(plan.rows, SURVEY_BATCH)
    parts = zip(plan.owner.split(SURVEY_BATCH), plan.mass.split(SURVEY_BATCH), batches, strict=True)
    for owner, mass, pixels in parts:
        images, masses = to_float(pixels, device), to_device(mass, device)
        # A matrix product, because index_add is not deterministic on a GPU.
        part = to_device(F.one_hot(owner, plan.atoms).T * mass, device)
        for index, space in enumerate(spaces):
            features = space.network(space.seen(images), moments=False).features
            sums[index] = sums[index] + part @ features
            squares[index] = squares[index] + features.square().sum(1) @ masses
    masses = torch.zeros(plan.atoms).index_add_(0, plan.owner, plan.mass)
    return [_target(*values, masses) for values in zip(sums, squares, strict=True)]


def _target(sums: Tensor, squares: Tensor, masses: Tensor) -> SpaceTarget:
    sums, square = sums.cpu(), float(squares)
    if not math.isfinite(square):
        raise NumericalError("a feature space's features are not finite; try another one")
    variance = square - float((sums.sum(0) ** 2).sum())
    return SpaceTarget(sums / masses[:, None], max(variance, 1e-12))


def plan_means(store: PixelStore, plan: Plan) -> Tensor:
    """diag(1/b) T Y in pixel space: the mean real image of each atom, (n, 3, R, R) in [0, 1]."""
    size = store.preprocessing.resolution
    sums = torch.zeros(plan.atoms, 3, size, size, dtype=torch.float64)
    parts = zip(
        plan.owner.split(SURVEY_BATCH),
        plan.mass.double().split(SURVEY_BATCH),
        store.batches(plan.rows, SURVEY_BATCH),
        strict=True,
    )
    for owner, mass, pixels in parts:
        sums.index_add_(0, owner, pixels.double().div(255) * mass.view(-1, 1, 1, 1))
    masses = torch.zeros(plan.atoms, dtype=torch.float64)
    masses.index_add_(0, plan.owner, plan.mass.double())
    return (sums / masses.view(-1, 1, 1, 1)).float().clamp(0, 1)


def open_spaces(
    sources: Sequence[tuple[BackboneSource, int, Preprocessing]],
    config: SynthesisConfig,
    class_names: Sequence[str],
    seed: int,
    device: torch.device,
) -> list[FeatureSpace]:
    """The pool of feature spaces besides the teacher.

    Args:
        sources: Networks, the number of each, and the normalisation of their input. Networks
            without weights are randomly initialised, each differently.
        config: The weights of the terms.
        class_names: The classes of the dataset.
        seed: Seed of the random weights.
        device: Where the networks run.
    """
    terms = Terms(features=1.0, mean=config.space_mean_weight)
    pool = []
    for source, count, preprocessing in sources:
        for index in range(count):
            draw = stream_seed(seed, "space", source.name, index) % 2**31
            backbone = load_backbone(source, class_names, preprocessing, draw)
            check_accepts(backbone, source.setting)
            model = backbone.model
            network = FeatureNetwork(model, preprocessing, device)
            key = stable_hash([weights_sha256(model), vars(preprocessing)])
            pool.append(FeatureSpace(f"{source.name}:{index}", network, terms, key))
    return pool
