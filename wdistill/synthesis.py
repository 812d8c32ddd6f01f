"""Pixels towards atoms and statistics.

For the n images s_j of class c, with atoms x_j and weights b_j (section 3.3 of the paper):

    L_c = sum_j b_j ||f(a(s_j)) - x_j||^2 / d
        + lambda / L * sum_l ( ||mean_l - mean_c,l|| + ||var_l - var_c,l|| ) / sqrt(channels_l)
        + mu * sum_j b_j CE(h(f(a(s_j))), c)

mean_l and var_l are the b-weighted per-channel moments of norm layer l's input over the class's
images. Departures from the paper: moments are exact per class (total variance), each image has its
own view a, the feature term is divided by the feature dimension d and each statistic by the number
of layers and the root of the number of channels, so that one lambda suits any backbone, and pixels
are clamped to [0, 1] after each step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from wdistill.augment import apply_views, concatenate, random_views
from wdistill.config import SynthesisConfig
from wdistill.errors import NumericalError
from wdistill.features import Activations, FeatureNetwork
from wdistill.pixels import to_uint8

CHECK_EVERY = 25  # steps between looks at the loss; each look waits for the device


@dataclass(frozen=True)
class ClassTarget:
    """What the n images of one class aim at.

    label: class index; atoms: (n, d); weights: (n,), sum 1; means, variances: per norm layer,
    (channels,).
    """

    label: int
    atoms: Tensor
    weights: Tensor
    means: tuple[Tensor, ...]
    variances: tuple[Tensor, ...]


@dataclass(frozen=True)
class _Group:
    """The targets of several classes on the device; images are ordered class by class."""

    classes: int
    ipc: int
    labels: Tensor
    atoms: Tensor
    weights: Tensor
    means: tuple[Tensor, ...]
    variances: tuple[Tensor, ...]


def _group(targets: Sequence[ClassTarget], device: torch.device) -> _Group:
    layers = range(len(targets[0].means))
    ipc = len(targets[0].weights)
    return _Group(
        classes=len(targets),
        ipc=ipc,
        labels=torch.tensor([t.label for t in targets], device=device).repeat_interleave(ipc),
        atoms=torch.cat([t.atoms for t in targets]).to(device),
        weights=torch.stack([t.weights for t in targets]).to(device),
        means=tuple(torch.stack([t.means[i] for t in targets]).to(device) for i in layers),
        variances=tuple(torch.stack([t.variances[i] for t in targets]).to(device) for i in layers),
    )


def feature_loss(features: Tensor, atoms: Tensor, weights: Tensor) -> Tensor:
    """sum_j b_j ||f_j - x_j||^2 / d over all classes. features, atoms: (Gn, d); weights: (G, n)."""
    return (weights.flatten() * ((features - atoms) ** 2).mean(1)).sum()


def moment_loss(out: Activations, group: _Group) -> Tensor:
    """Distance of weighted class moments to the real ones: mean over layers, sum over classes."""
    weights = group.weights[:, :, None]
    total = out.logits.new_zeros(())
    for layer, (mean, variance) in enumerate(zip(out.means, out.variances, strict=True)):
        m = mean.view(group.classes, group.ipc, -1)
        v = variance.view(group.classes, group.ipc, -1)
        class_mean = (weights * m).sum(1)
        class_variance = (weights * (v + (m - class_mean[:, None]) ** 2)).sum(1)
        scale = m.shape[-1] ** -0.5
        for ours, real in ((class_mean, group.means), (class_variance, group.variances)):
            # The small constant keeps the norm's gradient finite where both agree.
            total = total + scale * ((ours - real[layer]) ** 2).sum(1).add(1e-12).sqrt().sum()
    return total / max(1, len(out.means))


def synthesise(
    network: FeatureNetwork,
    targets: Sequence[ClassTarget],
    start: Tensor,
    config: SynthesisConfig,
    generators: Sequence[torch.Generator],
    autocast: torch.dtype | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Distil the images of a group of classes.

    start: (G, n, 3, R, R) float in [0, 1]; generators: one CPU stream per class, which draws the
    views of its images. Returns uint8 of start's shape. Raises NumericalError if the loss or a
    pixel is not finite.
    """
    device = network.device
    group = _group(targets, device)
    pixels = start.flatten(0, 1).to(device).clone().requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=config.lr, betas=(0.5, 0.9))
    steps = max(1, config.iterations)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(config.iterations):
        views = concatenate([random_views(group.ipc, config.crop_min, g) for g in generators])
        images = apply_views(pixels, views)  # outside autocast: bf16 would blur the pixels
        with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            out = network(images, moments=config.bn_weight > 0)
        loss = feature_loss(out.features, group.atoms, group.weights)
        if config.bn_weight > 0:
            loss = loss + config.bn_weight * moment_loss(out, group)
        if config.ce_weight > 0:
            entropy = F.cross_entropy(out.logits, group.labels, reduction="none")
            loss = loss + config.ce_weight * (group.weights.flatten() * entropy).sum()
        (pixels.grad,) = torch.autograd.grad(loss, pixels)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
        if step % CHECK_EVERY == 0 and not bool(torch.isfinite(loss)):
            raise NumericalError(_not_finite(step))
        if on_step is not None:
            on_step(group.classes * group.ipc)
    if not bool(torch.isfinite(pixels).all()):
        raise NumericalError(_not_finite(config.iterations))
    return to_uint8(pixels).view(start.shape).cpu()


def _not_finite(step: int) -> str:
    return (
        f"the synthesis loss is not finite at step {step}; "
        "lower --bn-weight or use --mixed-precision no"
    )
