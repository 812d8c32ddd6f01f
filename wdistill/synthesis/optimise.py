"""Pixels towards atoms and statistics, in one or several feature spaces.

For the n images s_j of class c with weights b_j, the loss of a feature space with network f, atoms
x_j and total class variance v (section 3.3 of the paper, where the teacher is the only space):

    L_c =  alpha * sum_j b_j ||f(a(s_j)) - x_j||^2 / v
         + beta  * ||sum_j b_j (f(a(s_j)) - x_j)||^2 / v
         + lambda / L * sum_l ( ||mean_l - mean_c,l|| + ||var_l - var_c,l|| ) / sqrt(channels_l)
         + mu * sum_j b_j CE(h(f(a(s_j))), c)

mean_l and var_l are the b-weighted per-channel moments of norm layer l's input over the class's
images. Each step uses the teacher and one space of the pool, in turn. Departures from the paper:
moments are exact per class (total variance); each image has its own view a, half of them uncut,
because crops alone that are to look like whole real images make objects shrink; distances are
measured in units of the class's variance and statistics are divided by the number of layers and the
root of the number of channels, so that one set of weights suits any network; Adam moves the
coefficients of the spectrum rather than pixels, clamped to [0, 1] after each step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from wdistill.config import SynthesisConfig
from wdistill.core.memory import Capacity
from wdistill.data.augment import concatenate, random_views
from wdistill.data.pixels import to_uint8
from wdistill.errors import NumericalError
from wdistill.synthesis.gradient import Group, pixel_gradient
from wdistill.synthesis.spaces import FeatureSpace, SpaceTarget
from wdistill.synthesis.spectrum import Spectrum

LOOK_EVERY = 25  # steps between looks at the loss; each look waits for the device
TERMS = ("features", "mean", "moments", "entropy")


@dataclass(frozen=True)
class ClassTarget:
    """What the n images of one class aim at: its index, weights (n,) of sum 1, one target per
    feature space; grey: whether the images are to stay grey, as all the real ones are.
    """

    label: int
    weights: Tensor
    spaces: tuple[SpaceTarget, ...]
    grey: bool = False


@dataclass(frozen=True)
class Distilled:
    """pixels, middle: (G, n, 3, R, R) uint8, after all and after half of the steps; trace: (looks,
    1 + 4 + 4) float32: step, then the unweighted TERMS of the teacher and those of the pool.
    """

    pixels: Tensor
    middle: Tensor
    trace: Tensor


def _group(targets: Sequence[ClassTarget], space: int, device: torch.device) -> Group:
    own = [target.spaces[space] for target in targets]
    layers = range(len(own[0].means))
    ipc = len(targets[0].weights)
    return Group(
        labels=torch.tensor([t.label for t in targets], device=device).repeat_interleave(ipc),
        weights=torch.stack([t.weights for t in targets]).to(device),
        atoms=torch.cat([t.atoms for t in own]).to(device),
        scale=torch.tensor([1 / t.variance for t in own], device=device),
        means=tuple(torch.stack([t.means[i] for t in own]).to(device) for i in layers),
        variances=tuple(torch.stack([t.variances[i] for t in own]).to(device) for i in layers),
    )


def synthesise(
    spaces: Sequence[FeatureSpace],
    targets: Sequence[ClassTarget],
    start: Tensor,
    spectrum: Spectrum,
    config: SynthesisConfig,
    generators: Sequence[torch.Generator],
    autocast: torch.dtype | None = None,
    on_step: Callable[[int], object] | None = None,
    capacity: Capacity | None = None,
) -> Distilled:
    """Distil the images of a group of classes.

    spaces: the teacher first, then the pool; start: (G, n, 3, R, R) float in [0, 1]; spectrum: the
    coordinates in which the images move; generators: one CPU stream per class, which draws the
    views of its images; capacity: how many of them the device holds at once, as far as known.
    Raises NumericalError if the loss or a pixel is not finite, MemoryLimitError if one image alone
    does not fit.
    """
    capacity = capacity or Capacity()
    device = spaces[0].network.device
    groups = [_group(targets, index, device) for index in range(len(spaces))]
    ipc, count = len(targets[0].weights), start.shape[0] * start.shape[1]
    grey = torch.tensor([t.grey for t in targets], device=device).repeat_interleave(ipc)
    spectrum = spectrum.to(device)
    pixels = _greyed(start.flatten(0, 1).to(device), grey)
    coefficients = spectrum.coefficients(pixels)
    optimizer = torch.optim.Adam([coefficients], lr=config.lr, betas=(0.5, 0.9))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, config.iterations))
    looks: list[Tensor] = []
    middle = to_uint8(pixels)
    for step in range(config.iterations):
        # Never flipped, unlike in the paper: what is to look right both ways becomes symmetric, and
        # students flip images themselves. [own] It changes nothing on CIFAR-10 and Fashion-MNIST.
        drawn = [
            random_views(ipc, config.crop_min, generator, config.whole_share, flips=False)
            for generator in generators
        ]
        views = concatenate(drawn)
        turn = [0] if len(spaces) == 1 else [0, 1 + step % (len(spaces) - 1)]
        active = [(spaces[i], groups[i]) for i in turn]
        work = partial(pixel_gradient, active, pixels, views, config.space_weight, autocast)
        gradient, values = capacity.run(work, count)
        coefficients.grad = spectrum.gradient(_greyed(gradient, grey))
        optimizer.step()
        schedule.step()
        pixels = _greyed(spectrum.pixels(coefficients).clamp_(0, 1), grey)
        coefficients.copy_(spectrum.coefficients(pixels))
        if step + 1 == config.iterations // 2:
            middle = to_uint8(pixels)
        if step % LOOK_EVERY == 0 or step + 1 == config.iterations:
            looks.append(_look(step, values))
        if on_step is not None:
            on_step(count)
    if not bool(torch.isfinite(pixels).all()):
        raise NumericalError(_not_finite(config.iterations))
    return Distilled(
        pixels=to_uint8(pixels).view(start.shape).cpu(),
        middle=middle.view(start.shape).cpu(),
        trace=torch.stack(looks) if looks else torch.zeros(0, 1 + 2 * len(TERMS)),
    )


def _greyed(images: Tensor, grey: Tensor) -> Tensor:
    """images (B, 3, R, R); those marked by grey (B,) lose their colour."""
    return torch.where(grey.view(-1, 1, 1, 1), images.mean(1, keepdim=True), images)


def _look(step: int, values: Sequence[Tensor]) -> Tensor:
    if not all(bool(torch.isfinite(terms).all()) for terms in values):
        raise NumericalError(_not_finite(step))
    pool = values[1] if len(values) > 1 else torch.zeros_like(values[0])
    return torch.cat([torch.tensor([float(step)]), values[0].cpu(), pool.cpu()])


def _not_finite(step: int) -> str:
    return (
        f"the synthesis loss is not finite at step {step}; "
        "lower --bn-weight or use --mixed-precision no"
    )
