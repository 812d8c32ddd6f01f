"""Gallery of images and two-dimensional projection of their features for the report page."""

from __future__ import annotations

import torch
from torch import Tensor

from wdistill.artifact.report import Point, Projection
from wdistill.core.seeds import stream
from wdistill.data.pixels import to_float
from wdistill.evaluation.comparison import Comparison
from wdistill.evaluation.metrics import nearest_real
from wdistill.evaluation.page.report import Gallery

SHOWN_CLASSES, SHOWN_REAL = 10, 150  # in the projection


@torch.no_grad()
def projection(comparison: Comparison) -> Projection | None:
    """Real images, atoms and the set on the first two principal axes of the real features. None
    without a teacher.
    """
    if comparison.teacher is None:
        return None
    network, candidate = comparison.teacher.network, comparison.candidate
    classes = range(min(SHOWN_CLASSES, comparison.classes))
    real, draw = [], stream(comparison.data_seed, "projection")
    for c in classes:
        order = torch.randperm(len(comparison.features[c]), generator=draw)
        real.append(comparison.features[c][order[:SHOWN_REAL]])
    features = torch.cat(real).double()
    centre = features.mean(0)
    axes = torch.linalg.svd(features - centre, full_matrices=False)[2][:2]
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()

    def points(parts: list[Tensor]) -> tuple[Point, ...]:
        return tuple(
            (round(float(x), 4), round(float(y), 4), c)
            for c, part in zip(classes, parts, strict=True)
            for x, y in (part.double() - centre) @ axes.T
        )

    outputs = [
        network(to_float(candidate.pixels[candidate.labels == c], network.device), False)
        for c in classes
    ]
    return Projection(
        method="principal components of the teacher's features of real images",
        real=points(real),
        atoms=points([comparison.transport[c].positions for c in classes]),
        distilled=points([activations.features.cpu() for activations in outputs]),
    )


def gallery(comparison: Comparison) -> Gallery:
    """The images of the set, each with the nearest real image of its class."""
    candidate = comparison.candidate
    nearest = torch.zeros_like(candidate.pixels)
    distances = torch.zeros(len(candidate.labels))
    for c in range(comparison.classes):
        members, rows = (candidate.labels == c).nonzero()[:, 0], comparison.rows(c)
        real = comparison.train.batches(rows, 512)
        places, distance = nearest_real(
            candidate.pixels[members], real, comparison.accelerator.device
        )
        nearest[members], distances[members] = comparison.train.get(rows[places]), distance
    shares = candidate.weights * (len(candidate.labels.unique()) / len(candidate.labels))
    return Gallery(
        images=candidate.pixels.permute(0, 2, 3, 1).contiguous().numpy(),
        labels=candidate.labels.numpy(),
        weights=shares.numpy() if comparison.weighted else None,
        nearest=nearest.permute(0, 2, 3, 1).contiguous().numpy(),
        distances=distances.numpy(),
    )
