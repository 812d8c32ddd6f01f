"""What further ideas are worth beside the default: networks, starts, layers, candidates, tiles.

    python -m tests.benchmarks.levers --dataset cifar10 --teacher RUN/teacher -o levers.json

Rows, students, steps and options are those of the ablation; each setting changes the default
(uniform weights) in one thing:

- *more ConvNets*, or more real images that each of them looks at;
- *confident starts*: of the eight real images nearest to an atom that it stands for, the one in
  whose class the teacher believes most;
- *all stages*: the teacher's features are the pooled outputs of all its stages, each in units of
  its deviation, and so are the atoms (plan-weighted means);
- *candidates*: four syntheses with other views; of each class the images whose features have the
  smallest exact W2² to the real ones;
- *tiles*: each image is four of half the side, each with an atom of its own.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import ot
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.benchmarks.ablation import distilled, measured
from tests.benchmarks.distilling import CPU, DEFAULT, Bench, Setting
from wdistill.data.pixels import to_float, to_uint8
from wdistill.networks.features import Activations, FeatureNetwork
from wdistill.synthesis.spaces import FeatureSpace, Terms, space_targets
from wdistill.synthesis.spectrum import Spectrum
from wdistill.synthesis.targets import SPACE_SAMPLE

UNIFORM = Setting(weights="uniform")
CANDIDATES, NEAR, SIDE, BATCH = 4, 8, 2, 128


def confident(bench: Bench, seed: int) -> tuple[Tensor, Tensor]:
    problem = bench.problem(UNIFORM, seed)
    starts = []
    for c, found in enumerate(bench.transport("uniform", seed)):
        features, free = bench.surveys[c].features, torch.ones(len(bench.rows(c)), dtype=torch.bool)
        belief = _belief(bench, c)
        for atom in range(bench.ipc):
            mine = found.rows[found.owner == atom]
            mine = mine[free[mine]]
            distance = (features[mine] - found.atoms[atom]).square().sum(1)
            near = mine[distance.argsort()[:NEAR]]
            chosen = near[belief[near].argmax()]
            free[chosen] = False
            starts.append(bench.rows(c)[chosen])
    pixels = to_float(bench.train.get(torch.stack(starts)), CPU)
    problem = replace(problem, start=pixels.view(problem.start.shape))
    return bench.synthesise(problem, DEFAULT, seed), problem.weights


@torch.no_grad()
def _belief(bench: Bench, label: int) -> Tensor:
    """(N_c,) log-probability of the class."""
    batches = bench.train.batches(bench.rows(label), BATCH)
    logits = torch.cat([bench.network(to_float(b, CPU), moments=False).logits for b in batches])
    return logits.log_softmax(1)[:, label]


class Stages(FeatureNetwork):
    """A ResNet whose features are the pooled outputs of all stages, each divided by its scale."""

    def __init__(self, network: FeatureNetwork) -> None:
        model: Any = copy.deepcopy(network.model)
        super().__init__(model, network.preprocessing, network.device)
        self.outputs: dict[int, Tensor] = {}
        for index, stage in enumerate(model.resnet.encoder.stages):
            stage.register_forward_hook(partial(self._keep, index))
        self.scales: list[float] = []

    def _keep(self, index: int, _: nn.Module, given: Any, output: Tensor) -> None:
        self.outputs[index] = output.mean((2, 3))

    def measure(self, pixels: Tensor) -> None:
        """The scale of a stage is its root total variance over ``pixels``."""
        super().__call__(pixels, moments=False)
        self.scales = [float(out.var(0).sum().sqrt()) for out in self.outputs.values()]

    def __call__(self, pixels: Tensor, moments: bool = True) -> Activations:
        out = super().__call__(pixels, moments)
        scaled = [
            out / scale for out, scale in zip(self.outputs.values(), self.scales, strict=True)
        ]
        return replace(out, features=torch.cat(scaled, 1) / len(scaled) ** 0.5)


def all_stages(bench: Bench, seed: int) -> tuple[Tensor, Tensor]:
    problem = bench.problem(UNIFORM, seed)
    network = Stages(bench.network)
    rows = torch.randperm(len(bench.train), generator=torch.Generator().manual_seed(seed))[:1000]
    with torch.no_grad():
        network.measure(to_float(bench.train.get(rows), CPU))
    space, targets = FeatureSpace("", network, Terms(1.0), ""), []
    for c, (target, found) in enumerate(
        zip(problem.targets, bench.transport("uniform", seed), strict=True)
    ):
        wide = space_targets([space], bench.train, bench.plan(c, found))[0]
        own = target.spaces[0]
        first = replace(wide, means=own.means, variances=own.variances)
        targets.append(replace(target, spaces=(first, *target.spaces[1:])))
    spaces = [replace(problem.spaces[0], network=network), *problem.spaces[1:]]
    changed = replace(problem, spaces=spaces, targets=tuple(targets))
    return bench.synthesise(changed, DEFAULT, seed), problem.weights


def candidates(bench: Bench, seed: int) -> tuple[Tensor, Tensor]:
    problem = bench.problem(UNIFORM, seed)
    best: list[tuple[float, Tensor]] = [(float("inf"), torch.empty(0))] * bench.classes
    for candidate in range(CANDIDATES):
        images = bench.synthesise(problem, DEFAULT, seed + 1000 * candidate)
        for c, own in enumerate(images.split(bench.ipc)):
            with torch.no_grad():
                ours = bench.network(to_float(own, CPU), moments=False).features
            cost = torch.cdist(ours.double(), bench.surveys[c].features.double()).square()
            masses = (np.full(size, 1 / size) for size in cost.shape)
            w2 = ot.emd2(*masses, cost.numpy())
            best[c] = min(best[c], (float(w2), own), key=lambda found: found[0])
    return torch.cat([own for _, own in best]), problem.weights


def tiles(bench: Bench, seed: int) -> tuple[Tensor, Tensor]:
    many = copy.copy(bench)
    many.ipc, many._transport = SIDE**2 * bench.ipc, {}
    problem = many.problem(UNIFORM, seed)
    coarse, size = lowest(bench.spectrum, SIDE), bench.pixels.resolution
    start = coarse.pixels(coarse.coefficients(problem.start.flatten(0, 1)))
    problem = replace(problem, start=start.clamp(0, 1).view(problem.start.shape))
    images = to_float(many.synthesise(problem, DEFAULT, seed, coarse), CPU)
    small = F.avg_pool2d(images, SIDE).view(-1, SIDE, SIDE, 3, size // SIDE, size // SIDE)
    joined = small.permute(0, 3, 1, 4, 2, 5).reshape(-1, 3, size, size)
    return to_uint8(joined), torch.ones(len(joined))


@dataclass(frozen=True)
class Coarse(Spectrum):
    """A spectrum without the high frequencies. kept: (R, R), 1 and 0."""

    kept: Tensor

    def coefficients(self, pixels: Tensor) -> Tensor:
        return super().coefficients(pixels) * self.kept

    def gradient(self, pixel_gradient: Tensor) -> Tensor:
        return super().gradient(pixel_gradient) * self.kept

    def to(self, device: torch.device) -> Coarse:
        return Coarse(*(value.to(device) for value in vars(self).values()))


def lowest(spectrum: Spectrum, factor: int) -> Coarse:
    """What images of a ``factor`` smaller side can show; all places count the same."""
    size = len(spectrum.places)
    kept = torch.zeros(size, size)
    kept[: size // factor, : size // factor] = 1
    mean, ones = spectrum.mean * kept, torch.ones(size, size)
    return Coarse(spectrum.transform, spectrum.colours, mean, spectrum.deviation, ones, kept)


def changed(sample: int = SPACE_SAMPLE, **values: Any) -> Setting:
    return replace(UNIFORM, synthesis=replace(DEFAULT, **values), sample=sample)


FIFTY = ("convnet-w64:50",)
LEVERS = {
    "default": UNIFORM,
    "start: mean": changed(init="mean"),
    "50 random ConvNets": changed(feature_spaces=FIFTY),
    "ConvNets see 1,000 real images": changed(1000),
    "50 random ConvNets see 1,000 real images": changed(1000, feature_spaces=FIFTY),
    "pull of ConvNets x 2": changed(space_weight=2 * DEFAULT.space_weight),
    "pull of ConvNets x 4": changed(space_weight=4 * DEFAULT.space_weight),
    "class mean in ConvNets x 10": changed(space_mean_weight=10 * DEFAULT.space_mean_weight),
    "learning rate x 2": changed(lr=2 * DEFAULT.lr),
    "learning rate x 4": changed(lr=4 * DEFAULT.lr),
    "learning rate x 2, pull x 2": changed(
        lr=2 * DEFAULT.lr, space_weight=2 * DEFAULT.space_weight
    ),
    "learning rate x 2, 24 random ConvNets": changed(
        lr=2 * DEFAULT.lr, feature_spaces=("convnet-w64:24",)
    ),
    "statistics x 3": changed(bn_weight=3 * DEFAULT.bn_weight),
    "statistics / 3": changed(bn_weight=DEFAULT.bn_weight / 3),
    "cross-entropy x 3": changed(ce_weight=3 * DEFAULT.ce_weight),
    "features x 3": changed(feature_weight=3 * DEFAULT.feature_weight),
    "crops from 20 %": changed(crop_min=0.2),
    "crops from 70 %": changed(crop_min=0.7),
}
main = measured(
    {
        **{name: partial(distilled, setting) for name, setting in LEVERS.items()},
        "confident starts": confident,
        "all stages": all_stages,
        "candidates": candidates,
        "tiles": tiles,
    }
)

if __name__ == "__main__":
    main()
