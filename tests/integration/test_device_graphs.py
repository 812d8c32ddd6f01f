"""Steps that are recorded once and replayed are those that the host starts one by one."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.pretended_checks import results_of
from helpers.pretended_graphs import FAILING, STUDENTS, SYNTHESES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return results_of("helpers.pretended_graphs")


@pytest.mark.parametrize("name", sorted({*STUDENTS, *SYNTHESES, *FAILING}))
def test_nothing_differs_with_graphs(name: str, found: dict[str, Any]) -> None:
    """To the last bit: images and trace; weights, running statistics and losses."""
    assert found[name]["apart"]
    assert all(apart == 0 for apart in found[name]["apart"].values()), found[name]["apart"]


@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_is_recorded_for_each_size_of_its_batches(
    name: str, found: dict[str, Any]
) -> None:
    """The first of each size is an ordinary step, the second is recorded and replayed."""
    assert found[name]["graphs"] == 6 - 2
    assert found[name]["said"] == []


def test_batches_are_counted_once(found: dict[str, Any]) -> None:
    """A step that is recorded updates running statistics when it is replayed, not before."""
    for name in ("BatchNorm", "views", "student, no room"):
        assert set(found[name]["tracked"]) == {6}


def test_temperatures_are_not_those_of_the_student_before(found: dict[str, Any]) -> None:
    first, second = (found[f"SGD, temperature {t}"]["losses"] for t in (2, 4))
    assert first != second


def test_synthesis_is_recorded_for_each_turn(found: dict[str, Any]) -> None:
    assert found["synthesis"]["graphs"] == 8 - 2


def test_what_does_not_fit_at_once_is_not_recorded(found: dict[str, Any]) -> None:
    assert found["synthesis, little memory"]["memory"] > 0
    assert found["synthesis, little memory"]["graphs"] == 0
    assert found["synthesis, little memory"]["said"] == []


@pytest.mark.parametrize("name", FAILING)
def test_a_recording_that_fails_is_told_once_and_not_tried_again(
    name: str, found: dict[str, Any]
) -> None:
    """One line, also after further work that could be recorded."""
    (line,) = found[name]["said"]
    reason = "out of memory" if "room" in name else "not permitted when stream is capturing"
    assert line.startswith("warning: CUDA graphs are not used, results are the same (")
    assert reason in line
    assert "\n" not in line
    assert found[name]["graphs"] == found[name]["again"] == 0


def test_the_host_starts_a_step_as_one(found: dict[str, Any]) -> None:
    """Besides it copies its inputs, and does what is not recorded: coefficients and optimisers."""
    operations, rest = found["started"]["synthesis"]
    assert rest < operations / 8
    operations, rest = found["started"]["student"]
    assert rest < operations - 100
