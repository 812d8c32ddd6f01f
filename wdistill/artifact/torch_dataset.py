"""A published set as a PyTorch dataset: what a student sees, and what the teacher says to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from wdistill.artifact.candidate import candidate
from wdistill.artifact.reading import PublishedSet, open_published
from wdistill.data.pixels import to_float
from wdistill.errors import OptionError
from wdistill.labels.soft import soften
from wdistill.labels.views import LabelViews, all_logits, render_views, view_weights

CPU = torch.device("cpu")


class DistilledImages(Dataset[dict[str, Tensor]]):
    """Items ``{"image", "target", "weight", "label"}``, which a DataLoader batches as they are.

    image: (3, R, R) float32 in [0, 1], not normalised; target: (C,) float32, the label giver's
    probabilities at ``temperature``; weight: () float32, of mean 1, with the same sum
    for each class; label: () int64.

    With stored views an item is a view as it was labelled: a crop of an image with a box of
    another one pasted in. ``weight`` is then that of both, by area, and ``label`` the image's
    alone. Without, an item is an image and the averaged answer to it.

    views: number of views per image, 0 if none are stored. A student learns from
    ``weight * KL(target || softmax(logits / temperature))``.
    """

    def __init__(self, published: PublishedSet, temperature: float) -> None:
        if not 0 < temperature < math.inf:
            raise OptionError(f"temperature is {temperature}; give a finite number above 0")
        self.class_names = published.distilled.class_names
        self.temperature = temperature
        self.views = 0 if published.views is None else published.views.count
        self._set = candidate(published.distilled, published.views)
        self._soft = soften(torch.from_numpy(published.distilled.soft_labels), temperature)

    def __len__(self) -> int:
        return len(self._set.labels if self._set.views is None else self._set.views)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Tensor]]:
        """Several items at once, as a DataLoader asks for them: views are rendered together."""
        rows = torch.tensor([range(len(self))[index] for index in indices], dtype=torch.int64)
        views = self._set.views
        parts = self._images(rows) if views is None else self._shown(views.rows(rows))
        names = ("image", "target", "weight", "label")
        return [dict(zip(names, item, strict=True)) for item in zip(*parts, strict=True)]

    def _images(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        pixels = to_float(self._set.pixels[rows], CPU)
        return pixels, self._soft[rows], self._set.weights[rows], self._set.labels[rows]

    def _shown(self, views: LabelViews) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        target = (all_logits(views, len(self.class_names)) / self.temperature).softmax(1)
        weight = view_weights(views, self._set.weights, self._set.pixels.shape[-1])
        return (
            render_views(views, self._set.pixels, CPU),
            target,
            weight,
            self._set.labels[views.image],
        )


def load(
    source: str | Path, *, revision: str | None = None, temperature: float | None = None
) -> DistilledImages:
    """A published set, ready to train on.

    Args:
        source: Id of a dataset on the Hub, a published folder or a run folder.
        revision: Branch, tag or commit on the Hub.
        temperature: Of the targets; by default the one that the set was made for.

    Returns:
        Images or views with targets, weights and labels, one item for each.

    Raises:
        WdistillError: Anything that the caller can mend, in one line.
    """
    published = open_published(source, revision)
    if temperature is None:
        temperature = published.manifest.temperature
    return DistilledImages(published, float(temperature))
