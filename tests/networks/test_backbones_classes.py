"""A checkpoint's classes are the dataset's, by name, or not."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.backbones import (
    NAMES,
)

from wdistill.networks.checkpoints.classes import match_classes


def match(theirs: tuple[str, ...], ours: tuple[str, ...]) -> list[int] | None:
    return match_classes(dict(enumerate(theirs)), ours)


def test_the_same_classes_in_the_same_order_stay() -> None:
    assert match(NAMES, NAMES) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(5))
def test_classes_in_another_order_are_found_by_name(seed: int) -> None:
    permutation = np.random.default_rng(seed).permutation(5)
    ours = tuple(NAMES[i] for i in permutation)
    assert match(NAMES, ours) == permutation.tolist()


def test_case_underscores_and_spacing_do_not_count() -> None:
    theirs = ("Ankle_boot", "T-shirt/top", "  great  white shark ", "STRASSE")
    ours = ("straße", "Great_White_Shark", "ankle boot", "t-shirt/top")
    assert match(theirs, ours) == [3, 2, 0, 1]


@pytest.mark.parametrize(
    "ours",
    [
        ("boot", "coat", "dress", "shirt", "hat"),
        ("boot", "coat", "dress", "shirt"),
        (*NAMES, "hat"),
        ("boot", "boot", "dress", "shirt", "bag"),
        ("boots", "coat", "dress", "shirt", "bag"),
        ("0", "1", "2", "3", "4"),
    ],
    ids=["another name", "fewer", "more", "twice", "prefix", "numbers"],
)
def test_other_classes_do_not_match(ours: tuple[str, ...]) -> None:
    assert match(NAMES, ours) is None


CRANES = ("tench", "crane", "limpkin", "crane", "goldfish")  # a bird, and a machine


@pytest.mark.parametrize("second", ["crane", "crane2", "crane bird", "Crane_(machine)"])
def test_a_repeated_name_is_settled_by_position(second: str) -> None:
    ours = ("tench", "crane", "limpkin", second, "goldfish")
    assert match(CRANES, ours) == [0, 1, 2, 3, 4]


def test_both_cranes_may_have_another_name() -> None:
    ours = ("tench", "crane bird", "limpkin", "crane2", "goldfish")
    assert match(CRANES, ours) == [0, 1, 2, 3, 4]


def test_order_is_repaired_beside_repeated_names() -> None:
    ours = ("goldfish", "crane", "tench", "crane2", "limpkin")
    assert match(CRANES, ours) == [4, 1, 0, 3, 2]


def test_a_repeated_name_elsewhere_is_not_guessed() -> None:
    """Which crane is which cannot be known once they have moved."""
    assert match(CRANES, ("crane", "tench", "limpkin", "crane2", "goldfish")) is None
