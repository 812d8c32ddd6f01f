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
coefficients of :mod:`wdistill.spectrum` rather than pixels, clamped to [0, 1] after each step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from wdistill.augment import Views, apply_views, concatenate, random_views
from wdistill.config import SynthesisConfig
from wdistill.errors import NumericalError
from wdistill.features import Activations
from wdistill.pixels import to_uint8
from wdistill.spaces import FeatureSpace, SpaceTarget
from wdistill.spectrum import Spectrum

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


@dataclass(frozen=True)
class _Group:
    """The targets of several classes in one space, on its device, class by class.

    atoms: (G * n, d); weights: (G, n); scale: (G,), 1 / variance; means, variances: (G, channels).
    """

    labels: Tensor
    weights: Tensor
    atoms: Tensor
    scale: Tensor
    means: tuple[Tensor, ...]
    variances: tuple[Tensor, ...]


def _group(targets: Sequence[ClassTarget], space: int, device: torch.device) -> _Group:
    own = [target.spaces[space] for target in targets]
    layers = range(len(own[0].means))
    ipc = len(targets[0].weights)
    return _Group(
        labels=torch.tensor([t.label for t in targets], device=device).repeat_interleave(ipc),
        weights=torch.stack([t.weights for t in targets]).to(device),
        atoms=torch.cat([t.atoms for t in own]).to(device),
        scale=torch.tensor([1 / t.variance for t in own], device=device),
        means=tuple(torch.stack([t.means[i] for t in own]).to(device) for i in layers),
        variances=tuple(torch.stack([t.variances[i] for t in own]).to(device) for i in layers),
    )


def feature_losses(features: Tensor, group: _Group) -> tuple[Tensor, Tensor]:
    """The features and the mean term, summed over classes. features: (G * n, d)."""
    difference = (features - group.atoms).view(*group.weights.shape, -1)
    weights = group.weights[:, :, None]
    single = (weights * difference**2).sum((1, 2))
    mean = ((weights * difference).sum(1) ** 2).sum(1)
    return (single * group.scale).sum(), (mean * group.scale).sum()


def moment_loss(out: Activations, group: _Group) -> Tensor:
    """Distance of weighted class moments to the real ones: mean over layers, sum over classes."""
    weights = group.weights[:, :, None]
    total = out.logits.new_zeros(())
    for layer, (mean, variance) in enumerate(zip(out.means, out.variances, strict=True)):
        m = mean.view(*group.weights.shape, -1)
        v = variance.view(*group.weights.shape, -1)
        class_mean = (weights * m).sum(1)
        class_variance = (weights * (v + (m - class_mean[:, None]) ** 2)).sum(1)
        scale = m.shape[-1] ** -0.5
        for ours, real in ((class_mean, group.means), (class_variance, group.variances)):
            # The small constant keeps the norm's gradient finite where both agree.
            total = total + scale * ((ours - real[layer]) ** 2).sum(1).add(1e-12).sqrt().sum()
    return total / max(1, len(out.means))


def _space_terms(
    space: FeatureSpace, group: _Group, images: Tensor, autocast: torch.dtype | None
) -> tuple[Tensor, Tensor]:
    """The weighted loss of one space, and its TERMS without weights, (4,); absent ones are 0."""
    terms = space.terms
    with torch.autocast(images.device.type, dtype=autocast, enabled=autocast is not None):
        out = space.network(images, moments=terms.moments > 0)
    single, mean = feature_losses(out.features, group)
    zero = torch.zeros_like(mean)
    moments = moment_loss(out, group) if terms.moments > 0 else zero
    entropy = zero
    if terms.entropy > 0:
        each = F.cross_entropy(out.logits, group.labels, reduction="none")
        entropy = (group.weights.flatten() * each).sum()
    values = torch.stack([single, mean, moments, entropy])
    weights = values.new_tensor([terms.features, terms.mean, terms.moments, terms.entropy])
    return (weights * values).sum(), values.detach()


def synthesise(
    spaces: Sequence[FeatureSpace],
    targets: Sequence[ClassTarget],
    start: Tensor,
    spectrum: Spectrum,
    config: SynthesisConfig,
    generators: Sequence[torch.Generator],
    autocast: torch.dtype | None = None,
    on_step: Callable[[int], object] | None = None,
) -> Distilled:
    """Distil the images of a group of classes.

    spaces: the teacher first, then the pool; start: (G, n, 3, R, R) float in [0, 1]; spectrum: the
    coordinates in which the images move; generators: one CPU stream per class, which draws the
    views of its images. Raises NumericalError if the loss or a pixel is not finite.
    """
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
        views = concatenate(
            [random_views(ipc, config.crop_min, g, config.whole_share) for g in generators]
        )
        turn = [0] if len(spaces) == 1 else [0, 1 + step % (len(spaces) - 1)]
        active = [(spaces[i], groups[i]) for i in turn]
        gradient, values = _pixel_gradient(active, pixels, views, config.space_weight, autocast)
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


def _pixel_gradient(
    active: Sequence[tuple[FeatureSpace, _Group]],
    pixels: Tensor,
    views: Views,
    share: float,
    autocast: torch.dtype | None,
) -> tuple[Tensor, list[Tensor]]:
    """dL/dx, and the TERMS of each active space: the teacher's, and perhaps one of the pool.

    The pool's gradient is scaled, image by image, to ``share`` times the length of the teacher's:
    features of a random network have no unit of their own.
    """
    leaf = pixels.detach().requires_grad_()
    # Outside autocast: bf16 would blur the pixels.
    images = apply_views(leaf, views)
    seen = images.detach().requires_grad_()
    gradients, values = [], []
    for space, group in active:
        loss, terms = _space_terms(space, group, seen, autocast)
        gradients.append(torch.autograd.grad(loss, seen)[0])
        values.append(terms)
    total = gradients[0]
    for gradient in gradients[1:]:
        lengths = [g.flatten(1).norm(dim=1) for g in (gradients[0], gradient)]
        scale = share * lengths[0] / lengths[1].clamp(min=1e-20)
        total = total + scale.view(-1, 1, 1, 1) * gradient
    (result,) = torch.autograd.grad(images, leaf, total)
    return result, values


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
