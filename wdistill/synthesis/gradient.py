"""The loss of synthesis and its gradient, for as many images at once as fit.

Classes have nothing to do with each other: where a group of them is too large, one takes some of
them at a time. The images of one class are coupled by its mean and its statistics, but only through
a few numbers u_j of each image: features, logits, and moments at norm layers. Where a class itself
is too large, two passes give the same gradient (Gao et al. 2021, "gradient cache", arXiv
2101.06983):

    1. u_j of every image, part by part, without gradients; then g_j = dL/du_j of all at once;
    2. dL/ds_j = (du_j/ds_j)^T g_j, part by part.

This is exact because networks are in evaluation mode, where u_j depends on image j alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from wdistill.data.augment import Views, apply_views
from wdistill.networks.features import Activations, joined
from wdistill.synthesis.spaces import FeatureSpace, Terms


@dataclass(frozen=True)
class Group:
    """The targets of several classes in one space, on its device, class by class.

    labels: (G * n,); weights: (G, n); atoms: (G * n, d); scale: (G,), 1 / variance; means,
    variances: (G, channels).
    """

    labels: Tensor
    weights: Tensor
    atoms: Tensor
    scale: Tensor
    means: tuple[Tensor, ...]
    variances: tuple[Tensor, ...]

    def part(self, classes: slice) -> Group:
        """Some of the classes."""
        ipc = self.weights.shape[1]
        images = slice(classes.start * ipc, classes.stop * ipc)
        return Group(
            labels=self.labels[images],
            weights=self.weights[classes],
            atoms=self.atoms[images],
            scale=self.scale[classes],
            means=tuple(mean[classes] for mean in self.means),
            variances=tuple(variance[classes] for variance in self.variances),
        )


Active = Sequence[tuple[FeatureSpace, Group]]


def feature_losses(features: Tensor, group: Group) -> tuple[Tensor, Tensor]:
    """The features and the mean term, summed over classes. features: (G * n, d)."""
    difference = (features - group.atoms).view(*group.weights.shape, -1)
    weights = group.weights[:, :, None]
    single = (weights * difference**2).sum((1, 2))
    mean = ((weights * difference).sum(1) ** 2).sum(1)
    return (single * group.scale).sum(), (mean * group.scale).sum()


def moment_loss(out: Activations, group: Group) -> Tensor:
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


def _loss(terms: Terms, group: Group, out: Activations) -> tuple[Tensor, Tensor]:
    """The weighted loss of one space, and its TERMS without weights, (4,); absent ones are 0."""
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


def pixel_gradient(
    active: Active,
    pixels: Tensor,
    views: Views,
    share: float,
    autocast: torch.dtype | None,
    most: int | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """dL/dx, and the TERMS of each active space: the teacher's, and perhaps one of the pool.

    The pool's gradient is scaled, image by image, to ``share`` times the length of the teacher's:
    features of a random network have no unit of their own. most: images at once, default all; the
    result is the same up to rounding. pixels: (G * n, 3, R, R).
    """
    ipc = active[0][1].weights.shape[1]
    at_once = (most or len(pixels)) // ipc
    if at_once == 0:
        return _two_passes(active, pixels, views, share, autocast, most or len(pixels))
    parts = []
    for first in range(0, len(pixels) // ipc, at_once):
        some = [(space, group.part(slice(first, first + at_once))) for space, group in active]
        images = slice(first * ipc, (first + at_once) * ipc)
        parts.append(_one_pass(some, pixels[images], views.part(images), share, autocast))
    if len(parts) == 1:
        return parts[0]
    sums = [torch.stack(terms).sum(0) for terms in zip(*(v for _, v in parts), strict=True)]
    return torch.cat([gradient for gradient, _ in parts]), sums


def _one_pass(
    active: Active, pixels: Tensor, views: Views, share: float, autocast: torch.dtype | None
) -> tuple[Tensor, list[Tensor]]:
    values = []

    def pulls(seen: Tensor) -> list[Tensor]:
        gradients = []
        for space, group in active:
            loss, terms = _loss(space.terms, group, _activations(space, seen, autocast))
            gradients.append(torch.autograd.grad(loss, seen)[0])
            values.append(terms)
        return gradients

    return _through_views(pulls, pixels, views, share), values


def _two_passes(
    active: Active,
    pixels: Tensor,
    views: Views,
    share: float,
    autocast: torch.dtype | None,
    most: int,
) -> tuple[Tensor, list[Tensor]]:
    parts = [slice(first, first + most) for first in range(0, len(pixels), most)]
    found: list[list[Activations]] = [[] for _ in active]
    with torch.no_grad():
        for part in parts:
            seen = apply_views(pixels[part], views.part(part))
            for (space, _), own in zip(active, found, strict=True):
                own.append(_activations(space, seen, autocast))
    given, values = [], []
    for (space, group), own in zip(active, found, strict=True):
        whole = joined(own)
        leaves = [tensor.requires_grad_() for tensor in whole.tensors]
        loss, terms = _loss(space.terms, group, whole)
        given.append(torch.autograd.grad(loss, leaves, allow_unused=True))
        values.append(terms)

    def pulls(part: slice, seen: Tensor) -> list[Tensor]:
        gradients = []
        for (space, _), wanted in zip(active, given, strict=True):
            pairs = [
                (tensor, gradient[part])
                for tensor, gradient in zip(
                    _activations(space, seen, autocast).tensors, wanted, strict=True
                )
                # Not all are in the loss, and not all need depend on the image.
                if gradient is not None and tensor.requires_grad
            ]
            out, grads = zip(*pairs, strict=True)
            gradients.append(torch.autograd.grad(out, seen, grads)[0])
        return gradients

    gradients = [
        _through_views(partial(pulls, part), pixels[part], views.part(part), share)
        for part in parts
    ]
    return torch.cat(gradients), values


def _activations(space: FeatureSpace, seen: Tensor, autocast: torch.dtype | None) -> Activations:
    with torch.autocast(seen.device.type, dtype=autocast, enabled=autocast is not None):
        return space.network(seen, moments=space.terms.moments > 0)


def _through_views(
    pulls: Callable[[Tensor], list[Tensor]], pixels: Tensor, views: Views, share: float
) -> Tensor:
    """The gradient of pixels; ``pulls`` gives each active space's, of what is seen of them."""
    leaf = pixels.detach().requires_grad_()
    # Outside autocast: bf16 would blur the pixels.
    images = apply_views(leaf, views)
    gradients = pulls(images.detach().requires_grad_())
    total = gradients[0]
    for gradient in gradients[1:]:
        lengths = [g.flatten(1).norm(dim=1) for g in (gradients[0], gradient)]
        scale = share * lengths[0] / lengths[1].clamp(min=1e-20)
        total = total + scale.view(-1, 1, 1, 1) * gradient
    (result,) = torch.autograd.grad(images, leaf, total)
    return result
