"""Scores of networks and sets: accuracy, pixel distance, equivalent IPC, DD-Ranking."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from torch import Tensor

from wdistill.artifact.report import ResultRow, Scores
from wdistill.core.devices import Capacity
from wdistill.data.pixels import PixelStore, to_float
from wdistill.networks.features import FeatureNetwork

TOP = 5


@dataclass(frozen=True)
class Score:
    """Result of a network on test images.

    Attributes:
        confusion: (C, C) int64 counts; rows are true classes, columns predictions.
        top5: Share of images whose class is among the five highest logits; None for five classes or
            fewer.
    """

    confusion: Tensor
    top5: float | None

    @property
    def top1(self) -> float:
        """Share of images whose highest logit is that of their class."""
        return float(self.confusion.diagonal().sum()) / float(self.confusion.sum())

    @property
    def per_class(self) -> list[float]:
        """Top-1 accuracy of each class; 0 for a class without test images."""
        hits, total = self.confusion.diagonal(), self.confusion.sum(1)
        return (hits / total.clamp(min=1)).tolist()


@torch.no_grad()
def score_network(network: FeatureNetwork, store: PixelStore) -> Score:
    """Test ``network`` on all of ``store``."""
    classes = network.num_classes
    found = []  # on the device, so that the host does not wait for each batch
    for pixels in store.all_on(network.device, 256):
        logits = network(to_float(pixels, network.device), moments=False).logits
        found.append(torch.cat([logits.argmax(1, keepdim=True), _highest(logits)], 1))
    predicted = torch.cat(found).cpu() if found else torch.zeros(0, 1, dtype=torch.int64)
    true = store.labels
    confusion = torch.bincount(true * classes + predicted[:, 0], minlength=classes**2)
    hits = int((predicted[:, 1:] == true[:, None]).any(1).sum())
    return Score(confusion.view(classes, classes), hits / len(store) if classes > TOP else None)


def _highest(logits: Tensor) -> Tensor:
    """(B, TOP) classes of the highest logits; (B, 0) where all classes would be among them."""
    indices: Tensor = logits.topk(TOP if logits.shape[1] > TOP else 0).indices
    return indices


def nearest_real(
    pixels: Tensor, real: Iterable[Tensor], device: torch.device
) -> tuple[Tensor, Tensor]:
    """argmin_i and min_i RMSE(s_j, real_i) of every distilled image s_j; pixels in [0, 1].

    Args:
        pixels: (n, 3, R, R) uint8.
        real: Batches of uint8 images of the same class.
        device: Where to compute.

    Returns:
        Positions among the real images, (n,) int64, and distances, (n,) float32.
    """
    distilled = pixels.to(device).flatten(1).float() / 255
    best = torch.full((len(distilled),), math.inf, device=device)
    positions, offset = torch.zeros(len(distilled), dtype=torch.int64, device=device), 0
    capacity = Capacity()
    for batch in real:
        for nearest, distance, count in capacity.map(partial(_nearest, distilled), batch):
            positions = torch.where(distance < best, nearest + offset, positions)
            best = torch.minimum(best, distance)
            offset += count
    return positions.cpu(), best.cpu() / math.sqrt(distilled.shape[1])


def _nearest(distilled: Tensor, batch: Tensor) -> tuple[Tensor, Tensor, int]:
    real = batch.to(distilled.device).flatten(1).float() / 255
    # cdist is fast but inexact near zero, so it only selects; the distance is computed directly.
    nearest = torch.cdist(distilled, real).argmin(1)
    return nearest, (distilled - real[nearest]).norm(dim=1), len(batch)


DRAWS = 1000
Bound = Literal["interpolated", "at_least", "at_most"]


@dataclass(frozen=True)
class EquivalentIpc:
    """The number of random real images per class that reach a set's accuracy.

    Attributes:
        ipc: Images per class.
        low: Lower end of its 95 % interval; None if the spread over seeds is unknown.
        high: Upper end, likewise.
        bound: at_least or at_most if the accuracy lies above or below all measured ones; ipc is
            then the nearest measured one.
    """

    ipc: float
    low: float | None
    high: float | None
    bound: Bound


def equivalent_ipc(scores: Sequence[float], random: Mapping[int, Sequence[float]]) -> EquivalentIpc:
    """The IPC at which random real images reach the mean of ``scores``.

    The means of ``random`` are made monotone by isotonic regression and interpolated linearly in
    log IPC. The interval comes from 1,000 normal draws of all means, with the deviation pooled over
    the set and the curve, because two or three seeds say little about a single point.

    Args:
        scores: Accuracies of the set, one per seed.
        random: Accuracies of random real images, by IPC.
    """
    ipc = np.array(sorted(random), dtype=np.float64)
    groups = [np.asarray(random[int(k)], dtype=np.float64) for k in ipc]
    set_scores = np.asarray(scores, dtype=np.float64)
    means = np.array([group.mean() for group in groups])
    value = float(_inverse(set_scores.mean(), means, ipc))
    deviation = _pooled_deviation([set_scores, *groups])
    low = high = None
    if deviation is not None:
        generator = np.random.default_rng(0)
        noise = generator.standard_normal((DRAWS, 1 + len(groups))) * deviation
        noise /= np.sqrt([len(set_scores), *map(len, groups)])
        samples = [_inverse(set_scores.mean() + z[0], means + z[1:], ipc) for z in noise]
        low, high = (float(q) for q in np.quantile(samples, (0.025, 0.975)))
    smooth = isotonic_regression(means).x
    bound: Bound = "interpolated"
    if set_scores.mean() > smooth[-1]:
        bound = "at_least"
    elif set_scores.mean() < smooth[0]:
        bound = "at_most"
    return EquivalentIpc(value, low, high, bound)


def _inverse(score: float, means: NDArray[np.float64], ipc: NDArray[np.float64]) -> float:
    smooth = isotonic_regression(means).x
    if score > smooth[-1]:
        return float(ipc[-1])
    # The first of several equal points is where the accuracy is first reached.
    rising = np.concatenate([[True], np.diff(smooth) > 0])
    return float(np.exp(np.interp(score, smooth[rising], np.log(ipc[rising]))))


def _pooled_deviation(groups: Sequence[NDArray[np.float64]]) -> float | None:
    freedom = sum(len(group) - 1 for group in groups)
    if freedom == 0:
        return None
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    return float(np.sqrt(squares / freedom))


Accuracies = Mapping[tuple[str, str], float]  # by images and labels
BALANCE = 0.5  # lambda of both scores in DD-Ranking


def label_robust_score(
    improvement_over_random: float, hard_label_recovery: float, balance: float = BALANCE
) -> float:
    """sigma(lambda IOR - (1 - lambda) HLR): 1 at its best, where a set beats random real images by
    everything (IOR = acc_soft - acc_random,soft) and loses nothing to the full data with hard
    labels (HLR = acc_full,hard - acc_hard).
    """
    return _sigma(balance * improvement_over_random - (1 - balance) * hard_label_recovery)


def augmentation_robust_score(
    gain_with: float, gain_without: float, balance: float = BALANCE
) -> float:
    """sigma(lambda g + (1 - lambda) g'): g and g' are the gains over random real images with and
    without augmentation of the students' images.
    """
    return _sigma(balance * gain_with + (1 - balance) * gain_without)


def _sigma(value: float) -> float:
    """sigma(x) = (e^x - e^-1) / (e - e^-1), from [-1, 1] to [0, 1]."""
    return (math.exp(value) - math.exp(-1)) / (math.exp(1) - math.exp(-1))


def ranking_scores(rows: Sequence[ResultRow], plain: Sequence[ResultRow]) -> Iterable[Scores]:
    """DD-Ranking's scores of each student under each optimiser, in percent; None if an accuracy is
    missing.
    """
    for own in dict.fromkeys((row.student, row.optimizer) for row in rows):
        accuracy, unaugmented = (
            _accuracies([row for row in each if (row.student, row.optimizer) == own])
            for each in (rows, plain)
        )
        kinds = ("soft", "views", "teacher", "hard")
        best = next((kind for kind in kinds if _gain(accuracy, kind) is not None), "hard")
        improvement, improvement_unaugmented = _gain(accuracy, best), _gain(unaugmented, best)
        full, hard = accuracy.get(("full", "hard")), accuracy.get(("distilled", "hard"))
        recovery = None if full is None or hard is None else full - hard
        label_robust = augmentation_robust = None
        if improvement is not None and recovery is not None:
            label_robust = label_robust_score(improvement, recovery)
        if improvement is not None and improvement_unaugmented is not None:
            augmentation_robust = augmentation_robust_score(improvement, improvement_unaugmented)
        yield Scores(
            student=own[0],
            optimizer=own[1],
            improvement_over_random=_percent(improvement),
            hard_label_recovery=_percent(recovery),
            label_robust_score=_percent(label_robust),
            augmentation_robust_score=_percent(augmentation_robust),
        )


def _accuracies(rows: Sequence[ResultRow]) -> Accuracies:
    """Mean accuracies; for random real images, only those at the IPC of the set."""
    ipcs = {row.ipc for row in rows if row.images == "distilled"}
    return {
        (row.images, row.labels): row.top1_mean
        for row in rows
        if row.images != "random" or row.ipc in ipcs
    }


def _gain(accuracy: Accuracies, labels: str) -> float | None:
    distilled, random = accuracy.get(("distilled", labels)), accuracy.get(("random", labels))
    return None if distilled is None or random is None else distilled - random


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
