"""Label views: crops and mixes of the distilled images, each with the logits of whoever labels.

One averaged label per image loses the output for individual views. Storing the views (as
FKD does; Shen and Xing, arXiv 2112.01528) keeps it: a student sees exactly what was labelled.
View v crops all images alike, and pastes the same box of image i + s_v into image i (CutMix). So
only the logits differ from row to row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wdistill.config import LabelViewsConfig
from wdistill.core.machine.transfer import to_device
from wdistill.core.seeds import stream
from wdistill.core.units import Tensors
from wdistill.data.augment import Views, apply_views, random_mix, random_views
from wdistill.data.pixels import to_float
from wdistill.errors import NumericalError
from wdistill.labels.committee import LabelGiver

BATCH = 256


@dataclass(frozen=True, eq=False)
class LabelViews:
    """M views. Row m is image ``image[m]`` with a box of image ``partner[m]`` pasted in.

    Attributes:
        image: (M,) int64, row of the image in the set.
        partner: (M,) int64, row of its partner.
        view: (M,) int64, the number of the view.
        crop: (M, 4) float32, (top, left, height, width) of both images, as fractions of the side.
        flip: (M,) bool, whether both images are mirrored after the crop.
        mix: (M, 4) int64, (top, left, bottom, right) of the box in pixels after crop and flip.
        logits: (M, K) float32, the giver's logits of ``classes``.
        classes: (M, K) int64.
        rest: (M,) float32, the logit of each class that is not among ``classes``.
    """

    image: Tensor
    partner: Tensor
    view: Tensor
    crop: Tensor
    flip: Tensor
    mix: Tensor
    logits: Tensor
    classes: Tensor
    rest: Tensor

    def __len__(self) -> int:
        return len(self.image)

    @property
    def count(self) -> int:
        """Views per image."""
        return int(self.view.max()) + 1

    def rows(self, index: Tensor | slice) -> LabelViews:
        return LabelViews(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def to_tensors(self) -> Tensors:
        return dict(vars(self))

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> LabelViews:
        return cls(**tensors)

    def first(self, views: int) -> LabelViews:
        """The first ``views`` views of each image."""
        return self.rows((self.view < views).nonzero()[:, 0])


def view_shapes(images: int, size: int, view: int, crop_min: float, seed: int) -> LabelViews:
    """View number ``view`` of all images, without logits.

    It does not depend on the number of views, so that fewer views are a prefix of more.
    """
    generator = stream(seed, "label-view", view)
    views = random_views(1, crop_min, generator)
    mix = random_mix(1, size, generator)
    shift = int(torch.randint(1, max(2, images), (), generator=generator))
    image = torch.arange(images)
    return LabelViews(
        image=image,
        partner=(image + shift) % images,
        view=torch.full((images,), view),
        crop=views.box.expand(images, 4),
        flip=views.flip.expand(images),
        mix=torch.tensor(mix.box).expand(images, 4),
        logits=torch.zeros(images, 0),
        classes=torch.zeros(images, 0, dtype=torch.int64),
        rest=torch.zeros(images),
    )


def render(images: Tensor, partners: Tensor, views: LabelViews) -> Tensor:
    """Each image cropped and flipped, with a box of its partner pasted in.

    images, partners: (B, 3, R, R) float, those that ``views`` names row by row.
    """
    crops = Views(views.crop, views.flip)
    base, overlay = apply_views(images, crops), apply_views(partners, crops)
    box = to_device(views.mix, images.device)[:, :, None, None]
    y = torch.arange(images.shape[2], device=images.device)[None, :, None]
    x = torch.arange(images.shape[3], device=images.device)[None, None, :]
    inside = (y >= box[:, 0]) & (y < box[:, 2]) & (x >= box[:, 1]) & (x < box[:, 3])
    return torch.where(inside[:, None], overlay, base)


def render_views(views: LabelViews, pixels: Tensor, device: torch.device) -> Tensor:
    """Render ``views`` of a set: (B, 3, R, R) float in [0, 1] on ``device``.

    pixels: (N, 3, R, R) uint8, all images of the set.
    """
    rows = (to_device(i, pixels.device) for i in (views.image, views.partner))
    images, partners = (to_float(pixels[i], device) for i in rows)
    return render(images, partners, views)


def image_share(views: LabelViews, size: int) -> Tensor:
    """(B,) share of the area that shows the image and not its partner; size: pixels of a side."""
    top, left, bottom, right = views.mix.unbind(1)
    return 1 - ((bottom - top) * (right - left)).float() / size**2


def view_weights(views: LabelViews, weights: Tensor, size: int) -> Tensor:
    """(B,) area-weighted means of the weights of image and partner in each view."""
    share = image_share(views, size)
    return share * weights[views.image] + (1 - share) * weights[views.partner]


@dataclass(frozen=True)
class ViewRecipe:
    """How views are drawn and labelled.

    Attributes:
        config: Number of views, their crops, and the number of logits kept per view.
        temperature: Temperature at which the omitted logits are merged.
        seed: Seed of the crops and mixes.
    """

    config: LabelViewsConfig
    temperature: float = 20.0  # [official]
    seed: int = 0


@torch.no_grad()
def label_views(
    giver: LabelGiver,
    pixels: Tensor,
    recipe: ViewRecipe,
    rows: Tensor | None = None,
    on_view: Callable[[], object] = lambda: None,
) -> LabelViews:
    """Views of each image with the giver's logits.

    Args:
        giver: The network or committee that gives the labels.
        pixels: (N, 3, R, R) uint8, all images of the set, because each is mixed with another.
        recipe: How views are drawn and labelled.
        rows: The images to label; None for all.
        on_view: Called after each view of all images.

    Raises:
        NumericalError: A logit is not finite.
    """
    config = recipe.config
    size, device = pixels.shape[-1], giver.device
    rows = torch.arange(len(pixels)) if rows is None else rows
    parts = []
    for number in range(config.count or 0):
        all_shapes = view_shapes(len(pixels), size, number, config.crop_min, recipe.seed)
        shapes = all_shapes.rows(rows)
        for index in torch.arange(len(rows)).split(BATCH):
            part = shapes.rows(index)
            images = render_views(part, pixels, device)
            logits = giver.logits(images).float().cpu()
            if not bool(torch.isfinite(logits).all()):
                raise NumericalError(
                    "the labels of the views are not finite; try another precision"
                )
            parts.append(_with_logits(part, logits, config.topk, recipe.temperature))
        on_view()
    return join(parts)


def join(parts: list[LabelViews]) -> LabelViews:
    """All rows, ordered by view and then by image."""
    views = LabelViews(
        **{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(LabelViews)}
    )
    order = torch.argsort(views.view * (int(views.image.max()) + 1) + views.image)
    return views.rows(order)


def reindex(views: LabelViews, order: NDArray[np.int64], classes: NDArray[np.int64]) -> LabelViews:
    """Views of a set whose images are put in ``order`` and whose class c becomes ``classes[c]``."""
    place = torch.from_numpy(np.argsort(order))
    image, partner = place[views.image], place[views.partner]
    names = torch.from_numpy(classes)[views.classes]
    return replace(views, image=image, partner=partner, classes=names)


def _with_logits(
    views: LabelViews, logits: Tensor, topk: int | None, temperature: float
) -> LabelViews:
    """Keep the ``topk`` largest logits; None keeps all.

    The n others are replaced by one value: equal logits with the same total probability at
    ``temperature``,  T (logsumexp(z / T) - log n).
    """
    logits = logits - logits.mean(1, keepdim=True)
    count = min(topk or logits.shape[1], logits.shape[1])
    largest, classes = logits.topk(count, dim=1)
    rest = torch.zeros(len(logits))
    if count < logits.shape[1]:
        others = logits.scatter(1, classes, float("-inf"))
        count_left = torch.tensor(float(logits.shape[1] - count))
        rest = temperature * ((others / temperature).logsumexp(1) - count_left.log())
    else:
        classes, order = classes.sort(dim=1)
        largest = largest.gather(1, order)
    return replace(views, logits=largest, classes=classes, rest=rest)


def all_logits(views: LabelViews, classes: int) -> Tensor:
    """(B, classes): the stored logits, and ``rest`` for all other classes."""
    full: Tensor = views.rest[:, None].expand(-1, classes).scatter(1, views.classes, views.logits)
    return full


@dataclass(frozen=True, eq=False)
class ViewedImages:
    """The images of a set and their label views, for training a student.

    Attributes:
        views: All views of the set.
        pixels: (N, 3, R, R) uint8, on the device where the student is trained.
        weights: (N,) float32 on the CPU, mean 1.
        classes: The number of classes.
    """

    views: LabelViews
    pixels: Tensor
    weights: Tensor
    classes: int


def replay(
    images: ViewedImages, temperature: float, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Infinite batches of views with targets (B, classes) and weights (B,).

    Each epoch shows all rows in random order. Half of the batches are mirrored, which the stored
    views do not determine.
    """
    views, pixels, device = images.views, images.pixels, images.pixels.device
    while True:
        order = torch.randperm(len(views), generator=generator)
        for index in torch.tensor_split(order, math.ceil(len(views) / batch_size)):
            part = views.rows(index)
            batch = render_views(part, pixels, device)
            if bool(torch.rand((), generator=generator) < 0.5):
                batch = batch.flip(3)
            share = view_weights(part, images.weights, pixels.shape[-1])
            target = (all_logits(part, images.classes) / temperature).softmax(1)
            yield batch, to_device(target, device), to_device(share, device)
