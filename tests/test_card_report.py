"""The card tells what `wdistill evaluate` found, and only what is in the files."""

from __future__ import annotations

import re
from pathlib import Path

from examples import distilled_set, manifest
from report_helpers import equivalent, report, report_row

from wdistill.artifact import read_report, write_json, write_publishable
from wdistill.card import render_card
from wdistill.card_report import for_publication, report_view
from wdistill.schema import REPORT, mismatch

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


def test_a_students_name_is_literal_text(tmp_path: Path) -> None:
    rows = [report_row("distilled", student=ATTACK), report_row("random", student=ATTACK)]
    card = render_card(judged(tmp_path, report(rows=rows, equivalents=[], scores=[])))
    assert "<script>" not in card


def test_another_set_in_the_folder_loses_the_report(tmp_path: Path) -> None:
    judged(tmp_path, report())
    assert read_report(tmp_path / "ipc4") is not None
    write_publishable(tmp_path / "ipc4", distilled_set(), manifest(), None)
    assert read_report(tmp_path / "ipc4") is None
