"""The page of several sets: nothing of a name is run, and sets lie over one curve."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from helpers.reports import report, report_row

from wdistill.artifact.report import Panel, Report
from wdistill.evaluation.several.page import by_size, random_rows_of, render_page
from wdistill.evaluation.several.table import Entry, SideBySide
from wdistill.evaluation.wording import COUNTED

PAIR = Panel("resnet10-w16", "hard", "AdamW")
PICTURE = np.zeros((8, 40, 3), np.uint8)


def set_report(ipc: int, others: tuple[int, ...]) -> Report:
    rows = [report_row("distilled", ipc=ipc), *(report_row("random", ipc=k) for k in others)]
    return report(rows=rows, equivalents=[], comparable="Beside <nothing>.")


def result() -> SideBySide:
    few, many = set_report(1, (1, 10)), set_report(50, (50, 10, 1))
    return SideBySide(
        (Entry("few.pt", few, None, PICTURE), Entry("<b>many</b>", many, 61.0, PICTURE))
    )


def test_the_page_has_each_set_once_and_escapes_its_name() -> None:
    page = render_page(result())
    assert "<b>many</b>" not in page
    assert "&lt;b&gt;many&lt;/b&gt;" in page
    assert page.count('alt="one image of each class of') == 2
    assert "Beside &lt;nothing&gt;." in page
    assert "1 min 01 s" in page
    assert "not known" in page
    assert COUNTED in page
    for word in ("<script", "http://", "https://cdn"):
        assert word not in page


def test_random_images_of_all_reports_make_one_curve() -> None:
    rows = random_rows_of(result(), PAIR)
    assert [row.ipc for row in rows] == [1, 10, 50]
    few, many = (entry.report for entry in result().entries)
    assert rows[0] in few.rows
    assert rows[2] in many.rows
    classes = len(result().entries[0].report.source.classes)
    for axis in ("ipc", "bits"):
        figure = by_size(result(), PAIR, axis)  # type: ignore[arg-type]
        axes = figure.axes[0]
        line = axes.lines[0]
        places = [row.ipc if axis == "ipc" else 8 * row.bytes / classes for row in rows]
        assert list(line.get_xdata()) == places
        _, names = axes.get_legend_handles_labels()
        assert names == ["random real", "few.pt", "<b>many</b>"]


def test_without_random_images_the_plot_says_so() -> None:
    alone = report(rows=[report_row("distilled")], equivalents=[])
    figure = by_size(SideBySide((replace(result().entries[0], report=alone),)), PAIR, "ipc")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["random real images were not tried"]
