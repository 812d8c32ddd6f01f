"""The card tells what `wdistill evaluate` found, and only what is in the files."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.examples import distilled_set, manifest, results
from helpers.reports import equivalent, report, report_row

from wdistill.artifact.distilled_set import (
    DistilledSet,
    read_report,
    read_results,
    write_publishable,
)
from wdistill.artifact.schema import REPORT, mismatch
from wdistill.core.files import write_json
from wdistill.evaluation.page.words import report_table
from wdistill.labels.views import LabelViews, join, view_shapes
from wdistill.publishing.card.card import render_card
from wdistill.publishing.card.report import for_publication, report_view

ATTACK = "</table><script>alert(1)</script>|"


def judged(folder: Path, found: dict) -> Path:
    """A published folder whose set was judged."""
    write_publishable(folder / "ipc4", distilled_set(), manifest(), None)
    told = {**for_publication(found), "format_version": 1}
    write_json(folder / "ipc4" / "report.json", told)
    return folder


def test_what_is_published_is_small_and_still_a_report() -> None:
    found = for_publication(report())
    assert mismatch(found, REPORT) is None
    assert found["projection"] is None
    assert all(row["confusion"] is None for row in found["rows"])


def test_every_set_and_the_worth_are_in_the_table(tmp_path: Path) -> None:
    found = report()
    card = render_card(judged(tmp_path, found))
    table = card.partition("| Student | Labels | Distilled |")[2].partition("\n\n")[0]
    assert "Random real | Nearest real | Herding | All real images | Worth |" in table
    own = next(r for r in found["rows"] if (r["images"], r["labels"]) == ("distilled", "hard"))
    assert f"{100 * own['top1_mean']:.1f} ± {100 * own['top1_std']:.1f} %" in table
    assert "| 23 (19 to 28) |" in table
    assert "not evaluated" not in card
    known = {
        f"{100 * value:.1f}"
        for row in found["rows"]
        for value in (row["top1_mean"], row["top1_std"])
    } | {"23", "19", "28", "10", "16"}
    assert set(re.findall(r"\d+(?:\.\d+)?", table)) <= known


def test_random_images_are_those_of_the_same_number() -> None:
    rows = [report_row("distilled"), report_row("random", ipc=50), report_row("random", ipc=10)]
    view = report_view(report(rows=rows, equivalents=[]))
    mean = 100 * rows[2]["top1_mean"]
    assert view["rows"][0]["cells"][1].startswith(f"{mean:.1f}")
    assert view["rows"][0]["worth"] == ""


def test_a_bound_is_called_one() -> None:
    found = report(equivalents=[equivalent(bound="at_least", ipc=160, low=None, high=None)])
    assert report_view(found)["rows"][0]["worth"] == "at least 160"


@pytest.mark.parametrize(
    ("low", "high", "card", "terminal"),
    [
        (4.0, 50.0, "50 (4 to 50 or more)", "worth 50 random real images per class (95 %: 4 to 50 or more), no clear difference"),  # noqa: E501
        (20.0, 50 - 1e-9, "at least 50 (20 to 50 or more)", "worth at least 50 random real images per class (95 %: 20 to 50 or more)"),  # noqa: E501
        (50.0, 50.0, "at least 50 (50 or more)", "worth at least 50 random real images per class (95 %: 50 or more)"),  # noqa: E501
    ],
)  # fmt: skip
def test_the_most_that_were_tried_is_no_upper_end(
    low: float, high: float, card: str, terminal: str
) -> None:
    """The set has 10 images per class; 50 random ones are the most that were tried."""
    found = report(equivalents=[equivalent(bound="at_least", ipc=50, low=low, high=high)])
    assert report_view(found)["rows"][0]["worth"] == card
    assert report_table(found).splitlines()[-1] == f"resnet10-w16, hard labels: {terminal}"


def test_a_students_name_is_literal_text(tmp_path: Path) -> None:
    rows = [report_row("distilled", student=ATTACK), report_row("random", student=ATTACK)]
    card = render_card(judged(tmp_path, report(rows=rows, equivalents=[], scores=[])))
    assert "<script>" not in card


def test_students_from_local_folders_are_described(tmp_path: Path) -> None:
    told = {"local_students": {"net": "vit, 64 channels", ATTACK: ATTACK}}
    card = render_card(judged(tmp_path, report(**told)))
    assert "|\n\nStudent net has the architecture of a local folder: vit, 64 channels.\n" in card
    assert "<script>" not in card


def test_another_set_in_the_folder_loses_the_report(tmp_path: Path) -> None:
    folder = judged(tmp_path, report()) / "ipc4"
    write_json(folder / "results.json", results())
    assert write_publishable(folder, distilled_set(), manifest(), None) == []
    assert read_report(folder) is not None
    assert read_results(folder) is not None
    other = replace(distilled_set(), soft_labels=np.full((12, 3), 1 / 3, np.float32))
    removed = write_publishable(folder, other, manifest(), None)
    assert removed == ["results.json", "report.json"]
    assert read_report(folder) is None
    assert read_results(folder) is None


@pytest.mark.parametrize(("labels", "gone"), [("soft", []), ("views", ["report.json"])])
def test_new_label_views_outdate_only_a_report_about_views(
    labels: str, gone: list[str], tmp_path: Path
) -> None:
    rows = [report_row("distilled", labels), report_row("random", labels)]
    folder = judged(tmp_path, report(rows=rows, equivalents=[], scores=[])) / "ipc4"
    views = label_views_of(distilled_set())
    assert write_publishable(folder, distilled_set(), manifest(), None, views) == gone
    write_json(folder / "report.json", for_publication(report(rows=rows)) | {"format_version": 1})
    assert write_publishable(folder, distilled_set(), manifest(), None, views) == []
    assert read_report(folder) is not None


def label_views_of(images: DistilledSet) -> LabelViews:
    """Two views of each image, all logits zero."""
    shown = [view_shapes(len(images), 28, view, 0.4, seed=0) for view in range(2)]
    classes = torch.arange(3).expand(len(images), 3)
    zero = torch.zeros(len(images), 3)
    return join([replace(each, logits=zero, classes=classes) for each in shown])
