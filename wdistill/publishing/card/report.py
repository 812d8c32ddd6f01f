"""What `wdistill evaluate` found of a set, for its card: its worth, and scores."""

from __future__ import annotations

from typing import Any

from wdistill.evaluation.wording import bound, interval, number, own_ipc, percent

_SETS = {
    "distilled": "Distilled",
    "random": "Random real",
    "nearest": "Nearest real",
    "herding": "Herding",
    "full": "All real images",
}
_SCORES = {
    "improvement_over_random": "improvement over random",
    "hard_label_recovery": "hard-label recovery",
    "label_robust_score": "label-robust score",
    "augmentation_robust_score": "augmentation-robust score",
}
Json = dict[str, Any]


def report_view(report: Json) -> Json:
    """names: of the sets that were tried; rows: student, labels, one cell per set, and the worth;
    local_students: architectures of those that were folders, by their names;
    scores: those of DD-Ranking, one line per student.
    """
    own = {(r["student"], r["labels"]): r for r in report["rows"] if r["images"] == "distilled"}
    cells: dict[tuple[str, str], dict[str, Json]] = {pair: {} for pair in own}
    for row in report["rows"]:
        pair = row["student"], row["labels"]
        # Random real images were also tried at other numbers of images per class.
        if pair in own and (row["images"] != "random" or row["ipc"] == own[pair]["ipc"]):
            cells[pair][row["images"]] = row
    kinds = [kind for kind in _SETS if any(kind in found for found in cells.values())]
    worth = {(e["student"], e["labels"]): e for e in report["equivalents"]}
    return {
        "names": [_SETS[kind] for kind in kinds],
        "rows": [
            {
                "student": pair[0],
                "labels": pair[1],
                "cells": [_score(found.get(kind)) for kind in kinds],
                "worth": _worth(report, worth.get(pair)),
            }
            for pair, found in cells.items()
        ],
        "local_students": report.get("local_students", {}),
        "steps": f"{report['recipe']['steps']:,}",
        "seeds": max((row["n"] for row in own.values()), default=0),
        "images": f"{report['against']['eval_images']:,}",
        "scores": [line for row in report["scores"] if (line := _scores(row))],
    }


def _score(row: Json | None) -> str:
    if row is None:
        return ""
    if row["n"] < 2:
        return percent(row["top1_mean"])
    return f"{100 * row['top1_mean']:.1f} ± {100 * row['top1_std']:.1f} %"


def _worth(report: Json, found: Json | None) -> str:
    if found is None or found["ipc"] is None:
        return ""
    ends = interval(report, found, _whole)
    sign = bound(found, own_ipc(report, found))
    return f"{sign}{_whole(found['ipc'])}" + (f" ({ends})" if ends else "")


def _whole(ipc: float) -> str:
    return number(round(ipc))


def _scores(row: Json) -> str:
    known = [f"{name} {row[key]:.1f}" for key, name in _SCORES.items() if row[key] is not None]
    return f"{row['student']}: {', '.join(known)}" if known else ""


def for_publication(report: Json) -> Json:
    """``report`` without what only its own page shows: curves, confusions, the projection."""
    rows = [{**row, "curve": {"step": [], "loss": []}, "confusion": None} for row in report["rows"]]
    return {**report, "rows": rows, "plain_rows": [], "projection": None}
