"""For what the host waits in a step of each stage: nothing, but at looks; see GPU in the guide."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.pretended_checks import results_of
from helpers.pretended_steps import BUDGET


@pytest.fixture(scope="module")
def steps() -> dict[str, Any]:
    return results_of("helpers.pretended_steps")


@pytest.mark.parametrize("stage", BUDGET)
def test_the_host_runs_ahead_of_the_device(stage: str, steps: dict[str, Any]) -> None:
    assert steps[stage]["kernels"] > 20
    assert sum(steps[stage]["waits"].values()) <= BUDGET[stage], steps[stage]["waits"]
