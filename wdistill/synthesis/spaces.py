"""Feature spaces: networks in which distilled images should look like the real ones they stand for.

The transport plan T of a class says which real images each atom stands for. In any network with
features Y' of the real images the matching atoms are the plan-weighted means

    X' = diag(1/b) T Y'

so one plan, computed in the teacher's features, serves many networks. Beyond the paper, which knows
the teacher alone. Random networks of the field's ConvNet are the default pool: randomly initialised
networks as feature spaces are from distribution matching (Zhao and Bilen, arXiv 2110.04181).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from wdistill.config import SynthesisConfig, stable_hash
from wdistill.core.seeds import stream_seed
from wdistill.data.pixels import PixelStore, Preprocessing, to_float
from wdistill.errors import NumericalError
from wdistill.networks.backbones import BackboneSource, load_backbone, weights_sha256
from wdistill.networks.features import FeatureNetwork
from wdistill.transport.plan import Plan

SURVEY_BATCH = 128


@dataclass(frozen=True)
class Terms:
    """What the terms of a feature space weigh in the loss of synthesis.

    features: per image, to its atom; mean: the class mean; moments: norm-layer inputs;
    entropy: cross-entropy with the class.
    """

    features: float
    mean: float = 0.0
    moments: float = 0.0
    entropy: float = 0.0


@dataclass(frozen=True)
class FeatureSpace:
    """A network and its terms. key names everything that its features depend on."""

    name: str
    network: FeatureNetwork
    terms: Terms
    key: str


@dataclass(frozen=True)
class SpaceTarget:
    """What the images of one class aim at in one space.

    atoms: (n, d); variance: E ||y - E y||^2 over the class, the unit of distances in this space;
    means, variances: per norm layer, (channels,); empty where the space has no moment term.
    """

    atoms: Tensor
    variance: float
    means: tuple[Tensor, ...] = ()
    variances: tuple[Tensor, ...] = ()


@torch.no_grad()
def space_target(network: FeatureNetwork, store: PixelStore, plan: Plan) -> SpaceTarget:
    """Plan-weighted means of the features of the real images.

    Raises NumericalError if a feature is not finite.
    """
    masses = torch.zeros(plan.atoms).index_add_(0, plan.owner, plan.mass)
    sums, squares = torch.zeros(()), 0.0
    batches = store.batches(plan.rows, SURVEY_BATCH)
    parts = zip(plan.owner.split(SURVEY_BATCH), plan.mass.split(SURVEY_BATCH), batches, strict=True)
    for owner, mass, pixels in parts:
        features = network(to_float(pixels, network.device), moments=False).features
        # A product, since index_add adds in any order on a GPU.
        masses_of = F.one_hot(owner, plan.atoms).T * mass
        sums = sums + (masses_of.to(network.device) @ features).cpu()
        squares += float(features.square().sum(1).cpu() @ mass)
    if not math.isfinite(squares):
        raise NumericalError("a feature space's features are not finite; try another one")
    variance = squares - float((sums.sum(0) ** 2).sum())
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
    """The pool: ``count`` networks of each source; one without weights is randomly initialised."""
    terms = Terms(features=1.0, mean=config.space_mean_weight)
    pool = []
    for source, count, preprocessing in sources:
        for index in range(count):
            draw = stream_seed(seed, "space", source.name, index) % 2**31
            model = load_backbone(source, class_names, preprocessing, draw).model
            network = FeatureNetwork(model, preprocessing, device)
            key = stable_hash([weights_sha256(model), vars(preprocessing)])
            pool.append(FeatureSpace(f"{source.name}:{index}", network, terms, key))
    return pool
