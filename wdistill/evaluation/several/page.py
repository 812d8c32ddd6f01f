"""Several sets on one page of HTML, without network access or scripts."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from wdistill.artifact.report import Panel, ResultRow, panel_of, panel_rows, row_of
from wdistill.core.text import human_bytes
from wdistill.evaluation.page.html import html_environment, image_url, svg
from wdistill.evaluation.page.plot_style import (
    COLOURS,
    INK,
    SMALL,
    TEN,
    legend,
    log_axis,
    name_axes,
    panel,
    plain,
    share_axis,
    share_limits,
)
from wdistill.evaluation.page.plots import Axis, panel_title, place_of
from wdistill.evaluation.several.table import SideBySide
from wdistill.evaluation.wording import COUNTED, other_optimizers, percent, recipe_settings

_MARKS = "o^Dvp*hXP<>"


def render_page(result: SideBySide) -> str:
    """Render the page; names are untrusted."""
    first = result.entries[0].report
    panels = result.panels()
    view = {
        "against": first.against,
        "colours": COLOURS,
        "groups": [
            {"title": ", ".join(panel_title(first, *each)), "rows": _rows(result, each)}
            for each in panels
        ],
        "survivals": any(line.survival for line in result.lines()),
        "plots": [
            svg(by_size(result, each, axis), f"{axis}{place}", _words(result, each, axis))
            for place, each in enumerate(panels)
            for axis in ("ipc", "bits")
        ],
        "pictures": [
            {
                "name": entry.name,
                "url": image_url(entry.picture),
                "notes": entry.report.source.notes,
            }
            for entry in result.entries
            if entry.picture is not None
        ],
        "recipe": [*recipe_settings(first.recipe), *other_optimizers(first)],
        "comparable": result.comparable(),
        "counted": COUNTED,
        "command": first.command,
    }
    return html_environment().get_template("comparison.html.jinja").render(view)


def _rows(result: SideBySide, own: Panel) -> list[dict[str, str]]:
    return [
        {
            "name": line.name,
            "ipc": f"{line.row.ipc:,}",
            "top1": line.accuracy,
            "seeds": ", ".join(map(str, line.row.seeds)),
            "over_random": line.over_random,
            "survives": line.survival.word if line.survival else "",
            "bytes": human_bytes(line.row.bytes),
            "bits": f"{line.bits:,}",
            "steps": f"{line.row.steps:,}",
            "cost": line.cost or "not known",
        }
        for line in result.lines()
        if panel_of(line.row) == own
    ]


def by_size(result: SideBySide, own: Panel, axis: Axis) -> Figure:
    """The sets as points over the curve of random real images, by their number or by their bits."""
    figure, axes = panel(panel_title(result.entries[0].report, *own))
    random, classes = random_rows_of(result, own), classes_of(result)
    places = [place_of(row, axis, classes) for row in random]
    axes.errorbar(
        places, [100 * row.top1_mean for row in random], [100 * row.top1_std for row in random],
        color=COLOURS["random"], marker="s", markersize=3.5, linewidth=1.5, label="random real",
    )  # fmt: skip
    shown = [*random]
    for number, entry in enumerate(result.entries):
        rows = [row for row in panel_rows(entry.report, *own) if row.images == "distilled"]
        for row in rows:
            axes.errorbar(
                place_of(row, axis, classes), 100 * row.top1_mean, 100 * row.top1_std,
                color=TEN[number % len(TEN)], marker=_MARKS[number % len(_MARKS)], markersize=6,
                linestyle="", label=plain(entry.name, 30),
            )  # fmt: skip
        shown += rows
    log_axis(axes, [place_of(row, axis, classes) for row in shown])
    share_axis(axes, share_limits(shown))
    words = "images per class" if axis == "ipc" else "bits per class, images and labels"
    name_axes(axes, words, "top-1 accuracy (%)")
    legend(figure, columns=2)
    if not random:
        axes.text(
            0.02, 0.02, "random real images were not tried", transform=axes.transAxes,
            fontsize=SMALL, color=INK,
        )  # fmt: skip
    return figure


def classes_of(result: SideBySide) -> int:
    return len(result.entries[0].report.source.classes)


def random_rows_of(result: SideBySide, panel: Panel) -> list[ResultRow]:
    """Rows of random real images of all reports, one for each number of images.

    Where a set has that number, it is the row beside that set, which was trained in the same steps.
    """
    rows: dict[int, ResultRow] = {}
    beside: dict[int, ResultRow] = {}
    for entry in result.entries:
        all_rows = panel_rows(entry.report, *panel)
        rows |= {row.ipc: row for row in all_rows if row.images == "random"}
        own = row_of(all_rows, "random")
        if own is not None:
            beside[own.ipc] = own
    rows |= beside
    return [rows[ipc] for ipc in sorted(rows)]


def _words(result: SideBySide, own: Panel, axis: Axis) -> str:
    """Alternative text of a plot."""
    parts: list[str] = []
    for line in result.lines():
        if panel_of(line.row) == own:
            parts.append(_point(line.name, [line.row], axis, classes_of(result)))
    parts.append(_point("random real", random_rows_of(result, own), axis, classes_of(result)))
    words = "images per class" if axis == "ipc" else "bits per class"
    title = ", ".join(panel_title(result.entries[0].report, *own))
    return f"Top-1 accuracy over {words}, {title}. {'; '.join(parts)}"


def _point(name: str, rows: Sequence[ResultRow], axis: Axis, classes: int) -> str:
    return f"{name}: " + ", ".join(
        f"{percent(row.top1_mean)} at {place_of(row, axis, classes):,.0f}" for row in rows
    )
