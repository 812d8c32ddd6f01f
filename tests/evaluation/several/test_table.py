"""Several sets in one table, with the spread that says whether a difference is one."""

from __future__ import annotations

import json

import pytest
from helpers.reports import report, report_row

from wdistill.artifact.report import Report
from wdistill.evaluation.several.table import Entry, SideBySide


def set_report(top1: float, ipc: int = 10, std: float = 0.004, n: int = 3) -> Report:
    shared = {"student": "convnet-3", "n": n, "ipc": ipc}
    own = report_row("distilled", **shared, top1_mean=top1, top1_std=std, top1=(top1,) * n)
    random = report_row("random", **shared, top1_mean=0.45, top1_std=std, top1=(0.45,) * n)
    return report(rows=[own, random], equivalents=[], comparable="Only beside its like.")


def result(**accuracies: float) -> SideBySide:
    return SideBySide(tuple(Entry(name, set_report(top1)) for name, top1 in accuracies.items()))


def test_the_best_set_is_on_top() -> None:
    lines = result(dm=0.48, ours=0.52, noise=0.30).lines()
    assert [line.name for line in lines] == ["ours", "dm", "noise"]
    assert [line.over_random for line in lines] == ["+7.0", "+3.0", "−15.0"]


def test_a_difference_within_the_spread_stands_in_brackets() -> None:
    """Random images that are called distilled must not look like a gain."""
    (line,) = result(same=0.457).lines()
    assert line.over_random == "(+0.7)"
    alone = SideBySide((Entry("one", set_report(0.457, n=1)),))
    (line,) = alone.lines()
    assert (line.over_random, line.accuracy) == ("+0.7", "45.7 % (n = 1)")


def test_the_cost_is_told_where_it_is_known() -> None:
    known = Entry("ours", set_report(0.5), seconds=754.0)
    both = SideBySide((known, Entry("theirs", set_report(0.4))))
    assert [line.cost for line in both.lines()] == ["12 min 34 s", ""]
    text = str(both)
    assert "12 min 34 s" in text
    assert text.count("Only beside its like.") == 1
    assert text.splitlines()[0] == "convnet-3, hard labels, 2,000 steps"


@pytest.mark.parametrize("classes", [10])
def test_the_numbers_are_those_of_the_reports(classes: int) -> None:
    made = result(a=0.5, b=0.4)
    first = json.loads(json.dumps(made.numbers()))[0]
    assert (first["set"], first["ipc"], first["top1"]) == ("a", 10, [0.5] * 3)
    assert first["top1_random"] == [0.45] * 3
    assert first["bits_per_class"] == 8 * first["bytes"] // classes
    assert first["construction_seconds"] is None
