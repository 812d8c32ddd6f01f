"""The card tells what `wdistill evaluate` found, and only what is in the files."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.examples import distilled_set, manifest, write_set
from helpers.reports import equivalent, report, report_row

from wdistill.artifact.distilled_set import DistilledSet, read_report
from wdistill.artifact.report import Report
from wdistill.config import RATES
from wdistill.labels.views import LabelViews, join, view_shapes
from wdistill.publishing.card.card import render_card
from wdistill.publishing.card.report import report_view

ATTACK = "</table><script>alert(1)</script>|"


def judged(folder: Path, found: Report) -> Path:
    """A published folder whose set was evaluated."""
    write_set(folder / "ipc4", distilled_set(), manifest())
    found.for_publication().write(folder / "ipc4" / "report.json")
    return folder


def test_every_set_and_its_equivalent_are_in_the_table(tmp_path: Path) -> None:
    found = report()
    card = render_card(judged(tmp_path, found))
    table = card.partition("| Student | Labels | IPC | Distilled |")[2].partition("\n\n")[0]
    assert "| Nearest real | Herding | All real images | Distilled − random | Worth |" in table
    rows = [row for row in found.rows if row.images != "random" or row.ipc == 10]
    own = next(row for row in rows if (row.images, row.labels) == ("distilled", "hard"))
    assert f"{100 * own.top1_mean:.1f} ± {100 * own.top1_std:.1f} % (n = 3)" in table
    assert "| 23 (19 to 28) |" in table
    assert "not evaluated" not in card
    means = {(row.images, row.labels): row.top1_mean for row in rows}
    gains = [means["distilled", kind] - means["random", kind] for kind in ("hard", "soft")]
    known = {f"{100 * value:.1f}" for row in rows for value in (row.top1_mean, row.top1_std)}
    known |= {"3", "23", "19", "28", "10", "16", *(f"{abs(100 * gain):.1f}" for gain in gains)}
    assert set(re.findall(r"\d+(?:\.\d+)?", table)) <= known


def test_random_images_are_those_of_the_same_number() -> None:
    rows = [report_row("distilled"), report_row("random", ipc=50), report_row("random", ipc=10)]
    view = report_view(report(rows=rows, equivalents=[]))
    mean = 100 * rows[2].top1_mean
    assert view.rows[0].cells[1].startswith(f"{mean:.1f}")
    assert view.rows[0].equivalent == ""
    assert not view.equivalents


def test_a_worth_that_would_mislead_is_unknown_for_a_reason() -> None:
    view = report_view(report(n=1))
    assert {row.equivalent for row in view.rows} == {"unknown"}
    assert all("worth unknown: one seed does not show" in line for line in view.verdicts)


def test_a_bound_is_called_one() -> None:
    found = report(equivalents=[equivalent(bound="at_least", ipc=160, low=None, high=None)])
    assert report_view(found).rows[0].equivalent == "at least 160"


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
    assert report_view(found).rows[0].equivalent == card
    assert str(found).splitlines()[-1] == f"resnet10-w16, hard labels: {terminal}"


def test_the_students_of_the_headline_can_be_trained_again() -> None:
    found = report()
    first = next(row for row in found.rows if row.images == "distilled")
    command = shlex.split(report_view(found, "you/set", seed=5).again)
    assert command[:3] == ["wdistill", "evaluate", "you/set"]
    options = dict(zip(command[3::2], command[4::2], strict=True))
    assert options["--student"] == first.student
    assert options["--labels"] == first.labels
    assert options["--steps"] == str(first.steps)
    assert options["--seed"] == "5"
    assert options["--baselines"] == "none"
    assert not {"--config", "settings.yaml"} & set(command)
    assert not {"--optimizer", "--lr", "--weight-decay"} & set(options), "the usual ones"


def test_students_of_sgd_are_trained_again_by_sgd() -> None:
    rows = [report_row("distilled", optimizer="SGD"), report_row("random", optimizer="SGD")]
    lr, decay = RATES["sgd"]
    sgd = report().recipe.model_copy(
        update={"optimizer": "SGD", "lr": lr, "weight_decay": decay, "momentum": 0.9}
    )
    command = report_view(report(rows=rows, recipe=sgd)).again
    assert command.endswith("--optimizer sgd --temperature 20.0 --baselines none")
    faster = sgd.model_copy(update={"lr": 0.2})
    assert "--optimizer sgd --lr 0.2" in report_view(report(rows=rows, recipe=faster)).again
    foreign = sgd.model_copy(update={"optimizer": "LARS"})
    assert report_view(report(rows=rows, recipe=foreign)).again == ""


@pytest.mark.parametrize(
    "change",
    [
        {"local_students": {"resnet10-w16": "resnet"}},
        {"recipe": report().recipe.model_copy(update={"crop_min": 0.08})},
        {"recipe": report().recipe.model_copy(update={"changed": ("epochs 5",)})},
        {"rows": [report_row("distilled", student="../net")]},
    ],
)
def test_no_command_is_shown_that_a_stranger_cannot_run(change: dict[str, Any]) -> None:
    assert report_view(report(**change)).again == ""
    assert report_view(report(), None).again == ""


def test_a_students_name_is_literal_text(tmp_path: Path) -> None:
    rows = [report_row("distilled", student=ATTACK), report_row("random", student=ATTACK)]
    card = render_card(judged(tmp_path, report(rows=rows, equivalents=[], scores=[])))
    assert "<script>" not in card


def test_students_from_local_folders_are_described(tmp_path: Path) -> None:
    students = {"net": "vit, 64 channels", ATTACK: ATTACK}
    card = render_card(judged(tmp_path, report(local_students=students)))
    assert "\n\nStudent net has the architecture of a local folder: vit, 64 channels.\n" in card
    assert "<script>" not in card


def test_another_set_in_the_folder_loses_the_report(tmp_path: Path) -> None:
    folder = judged(tmp_path, report()) / "ipc4"
    assert not write_set(folder, distilled_set(), manifest())
    assert read_report(folder) is not None
    other = replace(distilled_set(), soft_labels=np.full((12, 3), 1 / 3, np.float32))
    assert write_set(folder, other, manifest())
    assert read_report(folder) is None


@pytest.mark.parametrize(("labels", "gone"), [("soft", False), ("views", True)])
def test_new_label_views_outdate_only_a_report_about_views(
    labels: str, gone: bool, tmp_path: Path
) -> None:
    rows = [report_row("distilled", labels), report_row("random", labels)]
    found = report(rows=rows, equivalents=[], scores=[])
    folder = judged(tmp_path, found) / "ipc4"
    views = label_views_of(distilled_set())
    assert write_set(folder, distilled_set(), manifest(), views) == gone
    found.write(folder / "report.json")
    assert not write_set(folder, distilled_set(), manifest(), views)
    assert read_report(folder) is not None


def label_views_of(images: DistilledSet) -> LabelViews:
    """Two views of each image, all logits zero."""
    shown = [view_shapes(len(images), 28, view, 0.4, seed=0) for view in range(2)]
    classes = torch.arange(3).expand(len(images), 3)
    zero = torch.zeros(len(images), 3)
    return join([replace(each, logits=zero, classes=classes) for each in shown])
