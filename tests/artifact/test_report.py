"""A report as it is stored: whole, immutable, and read back as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.reports import report
from pydantic import ValidationError

from wdistill.artifact.report import Report
from wdistill.errors import RunFolderError


def test_a_report_is_read_back_as_it_was_written() -> None:
    stored = report()
    assert Report.model_validate_json(stored.model_dump_json()) == stored
    with pytest.raises(ValidationError, match="frozen"):
        stored.device = "other"  # type: ignore[misc]


def test_a_field_of_another_type_is_named() -> None:
    content = report().model_dump(mode="json")
    path = Path("report.json")
    assert Report.parse(content, path) == report()
    content["rows"][3]["confusion"] = [[0.5]]
    with pytest.raises(
        RunFolderError, match=r"rows\.3\.confusion\.0\.0 is float instead of a whole"
    ):
        Report.parse(content, path)
    content = report().model_dump(mode="json")
    del content["teacher"]["accuracy"]
    with pytest.raises(RunFolderError, match=r"teacher\.accuracy is missing"):
        Report.parse(content, path)


def test_what_is_published_is_the_report_without_what_only_its_page_shows() -> None:
    whole = report()
    published = whole.for_publication()
    assert published.projection is None
    assert all(row.confusion is None and row.curve.step == () for row in published.rows)
    assert [row.top1 for row in published.rows] == [row.top1 for row in whole.rows]
    assert whole.projection is not None


def test_the_table_begins_with_the_labels_that_the_report_begins_with() -> None:
    """Those that are published, whatever they are called."""
    stored = report()
    kinds = list(dict.fromkeys(row.labels for row in stored.rows))
    assert len(kinds) > 1
    for order in (kinds, kinds[::-1]):
        rows = sorted(stored.rows, key=lambda row: order.index(row.labels))
        lines = str(stored.model_copy(update={"rows": tuple(rows)})).splitlines()[1:]
        shown = [line.split()[1] for line in lines if line.startswith("resnet") and "," not in line]
        assert list(dict.fromkeys(shown)) == order
