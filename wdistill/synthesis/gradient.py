"""The synthesis loss and its gradient, for as many images at once as fit into memory.

Classes are independent of each other, so a group that is too large is processed in parts. The
images of one class are coupled by its mean and its statistics, but only through a few numbers u_j
per image: features, logits, and moments at norm layers. If a single class is too large, two passes
give the same gradient (Gao et al. 2021, "gradient cache", arXiv 2101.06983):

    1. u_j of every image, part by part, without gradients; then g_j = dL/du_j, all at once;
    2. dL/ds_j = (du_j/ds_j)^T g_j, part by part.

This is exact because networks are in evaluation mode, where u_j depends on image j alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from wdistill.core.machine.numerics import network_precision
from wdistill.data.augment import Views, apply_views
from wdistill.networks.features import Activations, joined
from wdistill.synthesis.spaces import FeatureSpace, Terms


@dataclass(frozen=True)
class LayerMoments:
    """The moments of G classes at L norm layers, whose channels stand side by side: S in all.

    Attributes:
        mean: (G, S) float32.
        variance: Likewise.
        layer: (S, L), 1 where a channel belongs to a layer, else 0.
        scale: (L,), 1 / sqrt(channels).
    """

    mean: Tensor
    variance: Tensor
    layer: Tensor
    scale: Tensor

    @classmethod
    def of(
        cls, classes: Sequence[tuple[Sequence[Tensor], Sequence[Tensor]]], device: torch.device
    ) -> LayerMoments | None:
        """Of the means and variances, layer by layer, of each class; None without norm layers."""
        means, _ = classes[0]
        if not means:
            return None
        channels = torch.tensor([len(mean) for mean in means])
        return cls(
            mean=torch.stack([torch.cat(list(m)) for m, _ in classes]).to(device),
            variance=torch.stack([torch.cat(list(v)) for _, v in classes]).to(device),
            layer=torch.eye(len(means)).repeat_interleave(channels, 0).to(device, means[0].dtype),
            scale=(channels.to(means[0].dtype) ** -0.5).to(device),
        )

    def part(self, classes: slice) -> LayerMoments:
        return replace(self, mean=self.mean[classes], variance=self.variance[classes])


@dataclass(frozen=True)
class Unequal:
    """Classes of different sizes, of which n is the largest.

    Attributes:
        counts: Images of each of the G classes; M in all.
        places: (M,) int64, where each image stands among the G * n, class by class.
    """

    counts: tuple[int, ...]
    places: Tensor

    @classmethod
    def of(cls, counts: Sequence[int], device: torch.device) -> Unequal | None:
        """None if all classes have the same size."""
        if len(set(counts)) == 1:
            return None
        present = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
        return cls(tuple(counts), present.flatten().nonzero()[:, 0].to(device))


@dataclass(frozen=True)
class Group:
    """The targets of G classes in one space, on its device, class by class.

    Attributes:
        labels: (M,) int64, of all images.
        weights: (G, n) float32, n being the images of the largest class; 0 where a class has fewer.
        atoms: (M, d) float32.
        scale: (G,) float32, 1 / variance.
        moments: At the norm layers; None without them.
        unequal: The sizes of the classes; None if each has n images.
    """

    labels: Tensor
    weights: Tensor
    atoms: Tensor
    scale: Tensor
    moments: LayerMoments | None
    unequal: Unequal | None = None

    @property
    def counts(self) -> tuple[int, ...]:
        """Images of each class."""
        classes, ipc = self.weights.shape
        return self.unequal.counts if self.unequal else (ipc,) * classes

    def by_class(self, values: Tensor) -> Tensor:
        """(G, n, ...) from the values (M, ...) of all images; 0 where a class has fewer than n."""
        if self.unequal is not None:
            room = values.new_zeros(self.weights.numel(), *values.shape[1:])
            values = room.index_copy(0, self.unequal.places, values)
        return values.view(*self.weights.shape, *values.shape[1:])

    def part(self, classes: slice) -> Group:
        """Some of the classes."""
        images, unequal = rows_of(self.counts, classes), self.unequal
        if unequal is not None:
            first = classes.start * self.weights.shape[1]
            unequal = Unequal(unequal.counts[classes], unequal.places[images] - first)
        return Group(
            labels=self.labels[images],
            weights=self.weights[classes],
            atoms=self.atoms[images],
            scale=self.scale[classes],
            moments=self.moments and self.moments.part(classes),
            unequal=unequal,
        )


def rows_of(counts: Sequence[int], classes: slice) -> slice:
    """The images of consecutive classes, of which each has so many."""
    start = sum(counts[: classes.start])
    return slice(start, start + sum(counts[classes]))


Active = Sequence[tuple[FeatureSpace, Group]]


def feature_losses(features: Tensor, group: Group) -> tuple[Tensor, Tensor]:
    """The feature term and the mean term, summed over classes. features: (M, d)."""
    difference = group.by_class(features - group.atoms)
    weights = group.weights[:, :, None]
    single = (weights * difference**2).sum((1, 2))
    mean = ((weights * difference).sum(1) ** 2).sum(1)
    return (single * group.scale).sum(), (mean * group.scale).sum()


def moment_loss(out: Activations, group: Group) -> Tensor:
    """Distance of weighted class moments to the real ones: mean over layers, sum over classes.

    All layers at once: on a GPU most of its time would go to starting small operations.
    """
    real = group.moments
    if real is None:
        return torch.zeros_like(group.scale).sum()
    weights = group.weights[:, :, None]
    means, variances = (group.by_class(torch.cat(x, 1)) for x in (out.means, out.variances))
    mean = (weights * means).sum(1)
    variance = (weights * (variances + (means - mean[:, None]) ** 2)).sum(1)
    squares = torch.stack([mean - real.mean, variance - real.variance]).square() @ real.layer
    # The small constant keeps the norm's gradient finite where both agree.
    return (squares.add(1e-12).sqrt() * real.scale).sum() / len(real.scale)


def _loss(terms: Terms, group: Group, out: Activations) -> tuple[Tensor, Tensor]:
    """The weighted loss of one space, and its unweighted TERMS, (4,); inactive ones are 0."""
    single, mean = feature_losses(out.features, group)
    zero = torch.zeros_like(mean)
    moments = moment_loss(out, group) if terms.moments > 0 else zero
    entropy = zero
    if terms.entropy > 0:
        losses = F.cross_entropy(out.logits, group.labels, reduction="none")
        entropy = (group.weights * group.by_class(losses)).sum()
    # A tensor of the weights would be a copy to the device, for which the host waits.
    loss = terms.features * single + terms.mean * mean
    loss = loss + terms.moments * moments + terms.entropy * entropy
    return loss, torch.stack([single, mean, moments, entropy]).detach()


def _output_gradients(
    terms: Terms, group: Group, out: Activations
) -> tuple[list[Tensor | None], Tensor]:
    """dL/du of every output, None for those that are not in the loss; and the loss's terms.

    Features are an output and the input of the logits as well; here each counts by itself.
    """
    leaves = out.map(lambda tensor: tensor.detach().requires_grad_())
    loss, values = _loss(terms, group, leaves)
    return list(torch.autograd.grad(loss, leaves.tensors, allow_unused=True)), values


def _image_gradient(out: Activations, gradients: Sequence[Tensor | None], images: Tensor) -> Tensor:
    """dL/dx of the images from dL/du of the outputs."""
    pairs = [
        (tensor, gradient)
        for tensor, gradient in zip(out.tensors, gradients, strict=True)
        # Some outputs are not in the loss, or do not depend on the image.
        if gradient is not None and tensor.requires_grad
    ]
    tensors, of_tensors = zip(*pairs, strict=True)
    with network_precision(images.device):
        return torch.autograd.grad(tensors, images, of_tensors)[0]


def pixel_gradient(
    active: Active,
    pixels: Tensor,
    views: Views,
    share: float,
    autocast: torch.dtype | None,
    limit: int | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """dL/dx of a group of classes.

    The gradient of the pool's space is scaled, per image, to ``share`` times the norm of the
    teacher's, because the features of a random network have no natural scale.

    Args:
        active: The teacher's space, one of the pool, or both in this order, with their targets.
        pixels: (M, 3, R, R) float in [0, 1].
        views: One view of each image.
        share: Norm of the pool's gradient relative to the teacher's, where both are active.
        autocast: The dtype of the networks' passes; None for float32.
        limit: The number of images at once; None for all. The result is the same up to rounding.

    Returns:
        The gradient, with the shape of ``pixels``, and the unweighted TERMS of each active space.
    """
    counts, limit = active[0][1].counts, limit or len(pixels)
    if max(counts) > limit:
        return _two_passes(active, pixels, views, share, autocast, limit)
    parts = []
    for classes in _whole_classes(counts, limit):
        active_part = [(space, group.part(classes)) for space, group in active]
        images = rows_of(counts, classes)
        parts.append(_one_pass(active_part, pixels[images], views.part(images), share, autocast))
    if len(parts) == 1:
        return parts[0]
    sums = [torch.stack(terms).sum(0) for terms in zip(*(v for _, v in parts), strict=True)]
    return torch.cat([gradient for gradient, _ in parts]), sums


def _whole_classes(counts: Sequence[int], limit: int) -> list[slice]:
    """Consecutive classes with at most ``limit`` images in each part; no class has more."""
    parts, start = [], 0
    for stop in range(1, len(counts) + 1):
        if stop == len(counts) or sum(counts[start : stop + 1]) > limit:
            parts.append(slice(start, stop))
            start = stop
    return parts


def _one_pass(
    active: Active, pixels: Tensor, views: Views, share: float, autocast: torch.dtype | None
) -> tuple[Tensor, list[Tensor]]:
    values = []

    def view_gradients(images: Tensor) -> list[Tensor]:
        gradients = []
        for space, group in active:
            out = _activations(space, images, autocast)
            of_outputs, terms = _output_gradients(space.terms, group, out)
            gradients.append(_image_gradient(out, of_outputs, images))
            values.append(terms)
        return gradients

    return _through_views(view_gradients, pixels, views, share), values


def _two_passes(
    active: Active,
    pixels: Tensor,
    views: Views,
    share: float,
    autocast: torch.dtype | None,
    limit: int,
) -> tuple[Tensor, list[Tensor]]:
    parts = [slice(start, start + limit) for start in range(0, len(pixels), limit)]
    outputs: list[list[Activations]] = [[] for _ in active]
    with torch.no_grad():
        for part in parts:
            images = apply_views(pixels[part], views.part(part))
            for (space, _), of_space in zip(active, outputs, strict=True):
                of_space.append(_activations(space, images, autocast))
    output_gradients, values = [], []
    for (space, group), of_space in zip(active, outputs, strict=True):
        of_outputs, terms = _output_gradients(space.terms, group, joined(of_space))
        output_gradients.append(of_outputs)
        values.append(terms)

    def view_gradients(part: slice, images: Tensor) -> list[Tensor]:
        gradients = []
        for (space, _), of_space in zip(active, output_gradients, strict=True):
            of_part = [None if gradient is None else gradient[part] for gradient in of_space]
            gradients.append(
                _image_gradient(_activations(space, images, autocast), of_part, images)
            )
        return gradients

    gradients = [
        _through_views(partial(view_gradients, part), pixels[part], views.part(part), share)
        for part in parts
    ]
    return torch.cat(gradients), values


def _activations(space: FeatureSpace, images: Tensor, autocast: torch.dtype | None) -> Activations:
    images = space.seen(images)
    with torch.autocast(images.device.type, dtype=autocast, enabled=autocast is not None):
        return space.network(images, moments=space.terms.moments > 0)


def _through_views(
    view_gradients: Callable[[Tensor], list[Tensor]], pixels: Tensor, views: Views, share: float
) -> Tensor:
    """The gradient with respect to the pixels; ``view_gradients`` returns the gradients of each
    active space with respect to the augmented views.
    """
    leaf = pixels.detach().requires_grad_()
    # Outside autocast: bf16 would blur the pixels.
    images = apply_views(leaf, views)
    gradients = view_gradients(images.detach().requires_grad_())
    total = gradients[0]
    for gradient in gradients[1:]:
        lengths = [g.flatten(1).norm(dim=1) for g in (gradients[0], gradient)]
        scale = share * lengths[0] / lengths[1].clamp(min=1e-20)
        total = total + scale.view(-1, 1, 1, 1) * gradient
    (result,) = torch.autograd.grad(images, leaf, total)
    return result
