"""What a set is worth in random real images per class: words for terminal, card and page alike.

Pure functions of a report and one of its equivalents, whose ``ipc`` is known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Json = dict[str, Any]

_BOUNDS = {"at_least": "at least ", "at_most": "at most "}
_ROUNDING = 1e-6  # a bound is read off logarithms


def tried(report: Json, worth: Json, images: str) -> list[int]:
    """Images per class of every row of ``images`` that ``worth``'s student and labels have."""
    pair = worth["student"], worth["labels"], images
    rows = report["rows"]
    return [r["ipc"] for r in rows if (r["student"], r["labels"], r["images"]) == pair]


def own_ipc(report: Json, worth: Json) -> float:
    """Images per class of the distilled set that ``worth`` belongs to."""
    own = tried(report, worth, "distilled")
    return float(own[0] if own else report["source"]["ipc"] or worth["ipc"])


def tone(worth: Json, own: float) -> str:
    """``gain``, ``loss``, or ``even`` where the interval contains the set's own number."""
    low, high = worth["low"], worth["high"]
    if low is not None and high is not None and low <= own <= high:
        return "even"
    if worth["bound"] == "at_least":
        return "gain"
    if worth["bound"] == "at_most":
        return "loss"
    if worth["ipc"] == own:
        return "even"
    return "gain" if worth["ipc"] > own else "loss"


def bound(worth: Json, own: float) -> str:
    """``at least`` or ``at most`` with a space, where that much is known of the number."""
    return "" if tone(worth, own) == "even" else _BOUNDS.get(worth["bound"], "")


def interval(report: Json, worth: Json, write: Callable[[float], str]) -> str:
    """``2 to 32``, or ``2 to 32 or more`` where no more than 32 were tried; nothing if unknown."""
    if worth["low"] is None or worth["high"] is None:
        return ""
    most = max(tried(report, worth, "random"), default=float("inf"))
    low, high = (write(worth[end]) for end in ("low", "high"))
    if worth["high"] < most * (1 - _ROUNDING):
        return f"{low} to {high}"
    return f"{high} or more" if low == high else f"{low} to {high} or more"
