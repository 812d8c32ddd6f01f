"""Accuracies that papers report by the size of a set, as points beside those of a report."""

from __future__ import annotations

from dataclasses import dataclass

from wdistill.artifact.report import Report
from wdistill.evaluation.recipes.datasets import field_dataset


@dataclass(frozen=True)
class PublishedRates:
    """Accuracies of methods by bits per class: images, labels and what decodes them.

    Attributes:
        methods: Of each method (bits per class, accuracy in percent), in rising order.
        source: Where they stand.
        differs: What a reader must know before comparing.
    """

    dataset: str
    methods: dict[str, tuple[tuple[float, float], ...]]
    source: str
    differs: str


_FLOATS = (98e3, 983e3, 4.9e6)  # bits of 1, 10 and 50 images of 32 x 32 x 3 floats a class


def _at(*values: float, bits: tuple[float, ...] = _FLOATS) -> tuple[tuple[float, float], ...]:
    return tuple(zip(bits, values, strict=True))


RATES = (
    PublishedRates(
        "CIFAR-10",
        {
            "MTT": _at(46.3, 65.3, 71.6),
            "IDC": _at(50.0, 67.5, 74.5),
            "FreD": _at(60.6, 70.3, 75.8),
            "SPEED": _at(63.2, 73.5, 77.7),
            "DDiF": _at(66.5, 74.0, 77.5),
            "TM-RUO": _at(70.3, 77.5, 79.7, bits=(107e3, 770e3, 2.0e6)),
        },
        "read off the figure of Bao et al., arXiv 2507.17221",
        "their students are ConvNets of 128 channels under recipes of their own",
    ),
)


def published_rates(report: Report) -> PublishedRates | None:
    """The published points for the data of ``report``; None where none are known."""
    against = report.against
    known = field_dataset(against.id)
    if known is None or known.test_images != against.eval_images or report.resolution != 32:
        return None
    if known.classes != len(report.source.classes):
        return None
    return next((rates for rates in RATES if rates.dataset == known.name), None)
