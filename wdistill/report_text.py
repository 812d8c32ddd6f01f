"""A report as text for the terminal."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def report_table(report: Json) -> str:
    """One line per student, labels and set of images, then what the set is worth."""
    rows = report["rows"]
    width = max(7, *(len(row["student"]) for row in rows))
    lines = [f"{'student':{width}}  labels   images     IPC        top-1  distilled - it"]
    own = {(r["student"], r["labels"]): r for r in rows if r["images"] == "distilled"}
    order = {name: at for at, name in enumerate(("distilled", "random", "nearest", "herding"))}
    for row in sorted(
        rows, key=lambda r: (r["student"], r["labels"], order.get(r["images"], 9), r["ipc"])
    ):
        rival = own[row["student"], row["labels"]]
        gain = 100 * (rival["top1_mean"] - row["top1_mean"])
        difference = "" if row is rival else f"{gain:+15.1f}"
        lines.append(
            f"{row['student']:{width}}  {row['labels']:7}  {row['images']:9}  {row['ipc']:>4}  "
            f"{_score(row)}{difference}"
        )
    return "\n".join([*lines, *map(_worth, report["equivalents"])])


def _score(row: Json) -> str:
    spread = f" ± {100 * row['top1_std']:3.1f}" if row["n"] > 1 else ""
    return f"{row['top1_mean']:6.1%}{spread}"


def _worth(found: Json) -> str:
    sign = {"interpolated": "", "at_least": "at least ", "at_most": "at most "}[found["bound"]]
    interval = "" if found["low"] is None else f" (95 %: {found['low']:.0f} to {found['high']:.0f})"
    return (
        f"{found['student']}, {found['labels']} labels: worth {sign}{found['ipc']:.0f} random real "
        f"images per class{interval}"
    )
