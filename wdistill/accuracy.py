"""A network's score on test images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wdistill.features import FeatureNetwork
from wdistill.pixels import PixelStore, to_float

TOP = 5


@dataclass(frozen=True)
class Score:
    """confusion: (C, C) int64 counts, row: true class, column: answer; top5: share of images whose
    class is among the five highest logits, None where there are no more than five classes.
    """

    confusion: Tensor
    top5: float | None

    @property
    def top1(self) -> float:
        """Share of images whose highest logit is their class."""
        return float(self.confusion.diagonal().sum()) / float(self.confusion.sum())

    @property
    def per_class(self) -> list[float]:
        """Top-1 accuracy of each class; 0 for a class without test images."""
        hits, total = self.confusion.diagonal(), self.confusion.sum(1)
        return (hits / total.clamp(min=1)).tolist()


@torch.no_grad()
def score_network(network: FeatureNetwork, store: PixelStore) -> Score:
    """Test ``network`` on all of ``store``."""
    classes, rows = network.num_classes, torch.arange(len(store))
    confusion = torch.zeros(classes * classes, dtype=torch.int64)
    among = 0
    for chunk, pixels in zip(rows.split(256), store.batches(rows, 256), strict=True):
        logits = network(to_float(pixels, network.device), moments=False).logits.cpu()
        true = store.labels[chunk]
        confusion += torch.bincount(true * classes + logits.argmax(1), minlength=classes**2)
        if classes > TOP:
            among += int((logits.topk(TOP).indices == true[:, None]).any(1).sum())
    top5 = among / len(store) if classes > TOP else None
    return Score(confusion.view(classes, classes), top5)
