"""An evaluation report as one self-contained page of HTML, without network access or scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wdistill.artifact.claims.worth import why_untold
from wdistill.artifact.report import Report, optimizers_of, panel_rows, panels
from wdistill.evaluation.page.class_plots import class_gains, confusion, projection
from wdistill.evaluation.page.headline import headline
from wdistill.evaluation.page.html import html_environment, image_url, svg
from wdistill.evaluation.page.plot_style import COLOURS
from wdistill.evaluation.page.plots import (
    accuracy_by_bits,
    accuracy_by_ipc,
    learning_curves,
    panel_title,
)
from wdistill.evaluation.page.tables import (
    accuracy_words,
    equivalent_rows,
    provenance,
    results_groups,
    score_table,
    survival_table,
    tiles,
)
from wdistill.evaluation.recipes.rates import published_rates
from wdistill.evaluation.wording import COUNTED, other_optimizers, recipe_settings

MOST_CLASSES, MOST_IMAGES = 20, 10
_OPEN = 5  # classes of the gallery that are not folded away
_SHOWN = 6  # figures of one kind that are not folded away
View = dict[str, Any]  # what the template prints
Draw = Callable[[Report, str, str, str], Figure | None]


@dataclass(frozen=True)
class Gallery:
    """The evaluated images, each with its nearest real image.

    Attributes:
        images: (n, H, W, 3).
        labels: (n,).
        weights: (n,), sum 1 within each class.
        nearest: (n, H, W, 3).
        distances: (n,) root mean squared differences of pixels in [0, 1].
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    weights: NDArray[np.floating[Any]] | None = None
    nearest: NDArray[np.uint8] | None = None
    distances: NDArray[np.floating[Any]] | None = None


def render_report(report: Report, gallery: Gallery) -> str:
    """Render the page of ``report``; its names and ids are untrusted."""
    groups = results_groups(report)
    view = {
        "report": report,
        "headline": headline(report),
        "tiles": tiles(report),
        "colours": COLOURS,
        "groups": groups,
        "top5": any(row["top5"] for group in groups for row in group["rows"]),
        "survival": survival_table(report),
        "equivalents": equivalent_rows(report),
        "scores": score_table(report),
        "accuracy": _accuracy(report),
        "pictures": [*_learning(report), *_classes(report), *_features(report)],
        "gallery": _gallery_view(gallery, report.source.classes),
        "recipe": [*recipe_settings(report.recipe), *other_optimizers(report)],
        "provenance": provenance(report),
    }
    return html_environment().get_template("report.html.jinja").render(view)


def _accuracy(report: Report) -> list[View]:
    classes = len(report.source.classes)
    by_ipc = [
        svg(
            accuracy_by_ipc(report, *panel),
            f"ipc{i}",
            f"Top-1 accuracy, {', '.join(panel_title(report, *panel))}. "
            + accuracy_words(panel_rows(report, *panel), "ipc", classes),
        )
        for i, panel in enumerate(panels(report))
    ]
    several = len(optimizers_of(report.rows)) > 1
    students = dict.fromkeys((row.student, row.optimizer) for row in report.rows)
    by_bits = [
        svg(
            accuracy_by_bits(report, *own),
            f"bits{i}",
            f"Top-1 accuracy against bits per class, {', '.join(own) if several else own[0]}. "
            + accuracy_words(
                [row for row in report.rows if (row.student, row.optimizer) == own], "bits", classes
            ),
        )
        for i, own in enumerate(students)
    ]
    arrows = (
        "The arrow leads from the distilled images to the number of random real images that train "
        "a student as well. "
    )
    told = any(not why_untold(report, equivalent) for equivalent in report.equivalents)
    text = (
        "Mean over seeds; bands and bars are one standard deviation. "
        f"{arrows if told else ''}{COUNTED}"
    )
    rates = published_rates(report)
    if rates:
        text += f" Crosses are published accuracies, {rates.source}: {rates.differs}."
    return _pictures(("Accuracy", text, by_ipc + by_bits))


def _learning(report: Report) -> list[View]:
    curves = _each_panel(report, learning_curves, "Training loss over steps")
    text = "Training loss; random real images are as many per class as distilled ones."
    return _pictures(("Learning", text, curves))


def _classes(report: Report) -> list[View]:
    gains = _each_panel(report, class_gains, "Gain over random real images by class")
    matrices = _each_panel(report, confusion, "Confusion matrix of students of distilled images")
    return _pictures(
        ("Gain by class", "Accuracy on each class: distilled images less the same number of "
         "random real ones, in percentage points; blue where random ones do better.", gains),
        ("Confusion", "For students of the distilled images: of each true class, the percentage "
         "taken for each class.", matrices),
    )  # fmt: skip


def _features(report: Report) -> list[View]:
    figure = projection(report)
    figures = [svg(figure, "projection", "Features in two dimensions by class")] if figure else []
    text = (
        "Real images, the atoms that stand for them and the distilled images in two dimensions "
        "of the feature space. Distances on paper only hint at distances there."
    )
    return _pictures(("Feature space", text, figures))


def _each_panel(report: Report, draw: Draw, alt: str) -> list[Markup]:
    figures = [(panel, draw(report, *panel)) for panel in panels(report)]
    return [
        svg(figure, f"{draw.__name__}{i}", f"{alt}, {', '.join(panel_title(report, *panel))}")
        for i, (panel, figure) in enumerate(figures)
        if figure is not None
    ]


def _pictures(*kinds: tuple[str, str, Sequence[Markup]]) -> list[View]:
    """Title, text and figures; figures beyond the first few are collapsed."""
    return [
        {"title": title, "text": text, "first": figures[:_SHOWN], "folded": figures[_SHOWN:]}
        for title, text, figures in kinds
        if figures
    ]


def _gallery_view(gallery: Gallery, names: Sequence[str]) -> View:
    """The first images of each class, or of evenly spaced ones if there are too many."""
    present = np.unique(gallery.labels)
    shown = np.linspace(0, len(present) - 1, min(MOST_CLASSES, len(present))).round().astype(int)
    height, width = gallery.images.shape[1:3]
    classes = [_class_view(gallery, int(label), names[label]) for label in present[shown]]
    return {
        "classes": classes[:_OPEN],
        "folded": classes[_OPEN:],
        "more_classes": len(present) - len(shown),
        "nearest": gallery.nearest is not None,
        "weights": gallery.weights is not None,
        "size": f"{width} × {height}",
    }


def _class_view(gallery: Gallery, label: int, name: str) -> View:
    rows = np.flatnonzero(gallery.labels == label)
    return {
        "name": name,
        "images": [_image_view(gallery, row) for row in rows[:MOST_IMAGES]],
        "more": max(0, len(rows) - MOST_IMAGES),
    }


def _image_view(gallery: Gallery, row: int) -> View:
    return {
        "url": image_url(gallery.images[row]),
        "weight": None if gallery.weights is None else f"{gallery.weights[row]:.2g}",
        "nearest": None if gallery.nearest is None else image_url(gallery.nearest[row]),
        "distance": None if gallery.distances is None else f"{gallery.distances[row]:.2g}",
    }
