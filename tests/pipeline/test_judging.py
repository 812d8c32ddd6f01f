"""Where a report is published, its curve stands on the card, and goes with the set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from helpers.examples import distilled_set, manifest, write_set
from helpers.reports import report, run_report
from PIL import Image

from wdistill.artifact.distilled_set import remove_other_report
from wdistill.artifact.layout import CURVE_FILE
from wdistill.pipeline.judging import publish_report
from wdistill.publishing.card.card import render_card


def published(folder: Path) -> Path:
    """A run folder with a set that was not evaluated."""
    write_set(folder / "publish" / "ipc4", distilled_set(), manifest())
    (folder / "publish" / "README.md").write_text(render_card(folder / "publish"))
    return folder


def test_a_curve_is_drawn_where_there_are_several_numbers_of_real_images(tmp_path: Path) -> None:
    run = published(tmp_path)
    curve, card = run / "publish/ipc4" / CURVE_FILE, run / "publish/README.md"
    publish_report(run, run_report())
    assert not curve.exists(), "one number of real images: the table says it"
    assert CURVE_FILE not in card.read_text()
    publish_report(run, report())
    assert np.asarray(Image.open(curve).convert("L")).std() > 10
    assert f"](ipc4/{CURVE_FILE})" in card.read_text()
    first = curve.read_bytes()
    publish_report(run, report())
    assert curve.read_bytes() == first


def test_the_curve_goes_with_its_report(tmp_path: Path) -> None:
    run = published(tmp_path)
    publish_report(run, report())
    other = distilled_set()
    other = type(other)(**{**vars(other), "images": 255 - other.images})
    assert remove_other_report(run / "publish/ipc4", other, None)
    assert not (run / "publish/ipc4" / CURVE_FILE).exists()
