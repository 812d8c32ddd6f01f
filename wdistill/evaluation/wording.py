"""Accuracies in words: the results table of the card, and what it honestly says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_STORED = ("soft", "views")  # labels that a teacher gave
_KINDS = {"distilled": "Distilled", "random": "Random real"}
Json = dict[str, Any]


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def score(row: Json) -> str:
    """``87.3 ± 0.4 % (n = 3)``; one seed has no spread."""
    if row["n"] < 2:
        return f"{percent(row['top1_mean'])} (n = {row['n']})"
    return f"{100 * row['top1_mean']:.1f} ± {100 * row['top1_std']:.1f} % (n = {row['n']})"


def results_view(results: Json) -> Json:
    rows, recipe = results["rows"], dict(results["recipe"])
    kinds = list(_KINDS) + sorted({row["images"] for row in rows} - set(_KINDS))
    groups: dict[tuple[str, str, int], dict[str, Json]] = {}
    for row in rows:
        groups.setdefault((row["student"], row["labels"], row["ipc"]), {})[row["images"]] = row
    eval_images = recipe.pop("eval_images", None)
    return {
        "kinds": [_KINDS.get(kind, kind) for kind in kinds],
        "rows": [_table_row(key, group, kinds) for key, group in groups.items()],
        "verdicts": [_verdict(key, group) for key, group in groups.items() if _compared(group)],
        "teacher_accuracy": percent(results["teacher_accuracy"]),
        "recipe": ", ".join(_setting(name, value) for name, value in recipe.items()),
        "eval_images": f"{eval_images:,}" if isinstance(eval_images, int) else "the",
        "soft": any(row["images"] == "random" and row["labels"] in _STORED for row in rows),
        "few_seeds": any(row["n"] < 5 for row in rows),
    }


def _setting(name: str, value: Any) -> str:
    return f"{name.replace('_', ' ')} {number(value) if isinstance(value, float) else value}"


def _compared(group: dict[str, Json]) -> bool:
    return set(_KINDS) <= set(group)


def _table_row(key: tuple[str, str, int], group: dict[str, Json], kinds: list[str]) -> Json:
    student, labels, ipc = key
    return {
        "student": student,
        "labels": labels,
        "ipc": ipc,
        "cells": [score(group[kind]) if kind in group else "" for kind in kinds],
        "difference": _signed(_gain(group)) if _compared(group) else "",
    }


def _gain(group: dict[str, Json]) -> float:
    return 100 * float(group["distilled"]["top1_mean"] - group["random"]["top1_mean"])


def _signed(points: float) -> str:
    return f"{points:+.1f}".replace("-", "−")


def _verdict(key: tuple[str, str, int], group: dict[str, Json]) -> str:
    """One sentence per comparison, as plain about a loss as about a gain."""
    student, labels, _ = key
    distilled, rival = group["distilled"], group["random"]
    gain, seeds = _gain(group), min(distilled["n"], rival["n"])
    spread = 100 * (distilled["top1_std"] + rival["top1_std"])
    size = f"{abs(gain):.1f} points"
    if seeds > 1 and abs(gain) <= spread:
        found = f"no clear difference ({_signed(gain)} points, within the spread over seeds)"
    elif gain > 0:
        found = f"the distilled images are {size} better than random real images"
    elif gain < 0:
        found = f"the distilled images are {size} worse than random real images, which are the better choice here"  # noqa: E501
    else:
        found = "the distilled images and random real images score the same"
    doubt = "" if seeds > 1 else " (one seed, so the spread is unknown)"
    return f"{student}, {labels} labels: {found}{doubt}."


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
