"""The images of a set as students see them: tensors, with weights of mean 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wdistill.artifact.distilled_set import DistilledSet
from wdistill.labels.views import LabelViews


@dataclass(frozen=True)
class Candidate:
    """The images that are evaluated.

    pixels: (n, 3, R, R) uint8; labels: (n,) int64; weights: (n,) float32, mean 1, those of a run
    with the same sum for each class;
    soft: (n, C) float32 probabilities, or None if there are none; views: likewise.
    """

    pixels: Tensor
    labels: Tensor
    weights: Tensor
    soft: Tensor | None
    views: LabelViews | None = None

    @property
    def ipc(self) -> int:
        """Images per class, rounded where classes differ."""
        return max(1, round(len(self.labels) / (int(self.labels.max()) + 1)))


def weights_alike(given: Candidate, labels: Tensor) -> Tensor:
    """(n,) weights of other images of classes ``labels``: the means of those of the set's."""
    sums = torch.bincount(given.labels, given.weights, minlength=int(labels.max()) + 1)
    counts = torch.bincount(given.labels, minlength=len(sums))
    return (sums / counts.clamp(min=1))[labels].float()


def mean_one(weights: Tensor, labels: Tensor) -> Tensor:
    """Rescale weights (n,) from sum 1 within each class to mean 1. The classes still have equal
    sums, so that one with more images does not count for more.
    """
    return weights * (len(labels) / len(labels.unique()))


def candidate(distilled: DistilledSet, views: LabelViews | None = None) -> Candidate:
    labels = torch.from_numpy(distilled.labels)
    return Candidate(
        pixels=torch.from_numpy(distilled.images).permute(0, 3, 1, 2),
        labels=labels,
        weights=mean_one(torch.from_numpy(distilled.weights), labels),
        soft=torch.from_numpy(distilled.soft_labels),
        views=views,
    )
