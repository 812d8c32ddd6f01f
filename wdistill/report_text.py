"""A report as text for the terminal."""

from __future__ import annotations

from typing import Any

from wdistill.worth import bound, interval, own_ipc, tone

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
    return "\n".join([*lines, *(_worth(report, found) for found in report["equivalents"])])


def _score(row: Json) -> str:
    spread = f" ± {100 * row['top1_std']:3.1f}" if row["n"] > 1 else ""
    return f"{row['top1_mean']:6.1%}{spread}"


def _worth(report: Json, found: Json) -> str:
    own = own_ipc(report, found)
    ends = interval(report, found, lambda ipc: f"{ipc:.0f}")
    even = ends and tone(found, own) == "even"
    return (
        f"{found['student']}, {found['labels']} labels: worth {bound(found, own)}"
        f"{found['ipc']:.0f} random real images per class"
        f"{f' (95 %: {ends})' if ends else ''}{', no clear difference' if even else ''}"
    )
