"""What a run asks of a device beside its steps is what a CPU computes, and computed there."""

from __future__ import annotations

from typing import Any

import pytest
from accelerate import Accelerator
from helpers.pretended_checks import results_of
from helpers.pretended_parts import PARTS, Parts

ON_THE_HOST = {"targets": 13}  # operations of one pass of the network, as it is opened


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return results_of("helpers.pretended_parts")


@pytest.mark.parametrize("name", PARTS)
def test_the_device_computes_what_a_cpu_computes(name: str, found: dict[str, Any]) -> None:
    """But for rounding; no network computes on the host, but to see what images it accepts."""
    expected = getattr(Parts(Accelerator(cpu=True)), name)()
    assert found[name]["values"] == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert found[name]["kernels"] > 20
    assert sum(found[name]["host"].values()) == ON_THE_HOST.get(name, 0)
