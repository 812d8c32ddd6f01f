"""Baselines: real images selected by a rule, to compare with distilled ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from wdistill.core.seeds import stream
from wdistill.transport.kmeans import k_means

RESTARTS, ITERATIONS = 8, 100  # of k-means, as for barycenters
TILES = 2  # on a side


def herding(features: Tensor, count: int) -> Tensor:
    """Positions of ``count`` rows of features (N, d) whose running mean follows the class mean.

    Greedy: the k-th pick minimises || mu - (sum of picks) / k ||, without repetition (Welling 2009;
    as in iCaRL, Rebuffi et al. 2017, but on features as they are, not normalised).
    """
    x = features.double()
    mean, total = x.mean(0), torch.zeros(x.shape[1], dtype=torch.float64)
    available = torch.ones(len(x), dtype=torch.bool)
    picks = []
    squares = x.square().sum(1)
    for k in range(1, count + 1):
        # || k mu - total - x ||^2, up to terms that do not depend on x.
        target = k * mean - total
        distance = (squares - 2 * x @ target).masked_fill(~available, torch.inf)
        best = int(distance.argmin())
        available[best] = False
        total += x[best]
        picks.append(best)
    return torch.tensor(picks)


def random_rows(labels: Tensor, counts: Sequence[int], seed: int, draw: int) -> Tensor:
    """``counts[c]`` random rows of each class c, class by class, independent for each ``draw``.

    The rows for a smaller number are a subset of those for a larger one.
    """
    selections = []
    for label, count in enumerate(counts):
        rows = (labels == label).nonzero()[:, 0]
        order = torch.randperm(len(rows), generator=stream(seed, "random-real", draw, label))
        selections.append(rows[order[:count]])
    return torch.cat(selections)


def k_centre(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Positions of the rows of features (N, d) nearest to the centres of ``count`` clusters.

    k-means, and of each cluster the point nearest to its mean, so that no row is taken twice: the
    baseline that DC-Bench calls k-center (Cui et al., arXiv 2207.09639).
    """
    points = features.double()
    points = points - points.mean(0)
    centres, clusters = k_means(points.numpy(), count, RESTARTS, ITERATIONS, generator)
    distance = (points - torch.from_numpy(centres)[torch.as_tensor(clusters)]).square().sum(1)
    owner = torch.as_tensor(clusters)
    picks = [
        int(distance.masked_fill(owner != cluster, torch.inf).argmin()) for cluster in range(count)
    ]
    return torch.tensor(picks)


def easiest(errors: Tensor, labels: Tensor, counts: Sequence[int]) -> Tensor:
    """Rows of the smallest ``errors`` (N,), ``counts[c]`` of each class c, class by class."""
    selections = []
    for label, count in enumerate(counts):
        rows = (labels == label).nonzero()[:, 0]
        selections.append(rows[errors[rows].argsort(stable=True)[:count]])
    return torch.cat(selections)


def mosaics(images: Tensor) -> Tensor:
    """(n / 4, 3, R, R): four images after another as the tiles of one, each of half its size.

    images: (n, 3, R, R) uint8 with n divisible by 4; scaled with antialiasing (as PCA does with
    easy images, and IDC at its start).
    """
    size = images.shape[-1]
    tile = math.ceil(size / 2)
    small = F.interpolate(
        images.float(), size=(tile, tile), mode="bilinear", antialias=True, align_corners=False
    )
    groups = small.view(-1, 2, 2, *small.shape[1:])  # n / 4, row, column, 3, tile, tile
    whole = groups.permute(0, 3, 1, 4, 2, 5).reshape(-1, 3, 2 * tile, 2 * tile)
    return whole[..., :size, :size].round().clamp(0, 255).to(torch.uint8)


def noise_images(like: Tensor, seed: int, draw: int) -> Tensor:
    """Uniform noise in the shape of ``like`` (n, 3, R, R): what the labels alone bring."""
    generator = stream(seed, "noise-images", draw)
    return torch.randint(0, 256, like.shape, generator=generator, dtype=torch.uint8)
