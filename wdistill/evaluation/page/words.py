"""An evaluation report in words and tables, as plain about a loss as about a gain.

Pure functions of a report; nothing here is escaped, and only links are HTML.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from wdistill.core.text import NO_BREAK, human_bytes
from wdistill.evaluation.page.html import link
from wdistill.evaluation.page.plot_style import LABELS, SETS, Json, count, signed
from wdistill.evaluation.page.plots import panel_rows, panels, row_of
from wdistill.evaluation.wording import bound, interval, number, own_ipc, percent, score, tone

_TONES = {"gain": "a gain", "even": "no clear difference", "loss": "a loss"}
_WORSE = ": random real images are the better choice here"
_SCORES = {
    "improvement_over_random": "Improvement over random",
    "hard_label_recovery": "Hard-label recovery",
    "label_robust_score": "Label-robust score",
    "augmentation_robust_score": "Augmentation-robust score",
}


def headline(report: Json) -> Json:
    """lead: what the set is worth in one sentence; tone: of that; more: how it was found."""
    known = [worth for worth in report["equivalents"] if worth["ipc"] is not None]
    pair = main_panel(report)
    if pair is None:
        lead = "No student was trained on the distilled images, so nothing is known of their worth."
        return {"lead": lead, "tone": "unknown", "more": ""}
    rows = panel_rows(report, *pair)
    distilled = _distilled(rows)
    mine = [worth for worth in known if (worth["student"], worth["labels"]) == pair]
    if mine:
        found = tone(mine[0], distilled["ipc"])
        lead = _worth_sentence(report, mine[0], distilled["ipc"])
    else:
        lead, found = _accuracy_sentence(distilled, row_of(rows, "random"))
    seeds = f"{distilled['n']} seed{'s' if distilled['n'] != 1 else ''}"
    more = f"Student {pair[0]}, {_labels(pair[1])}, {seeds}."
    if len(known) > 1:
        tones = Counter(tone(worth, own_ipc(report, worth)) for worth in known)
        every = ", ".join(
            f"{_TONES[name]} in {tones[name]} of {len(known)}" for name in _TONES if tones[name]
        )
        more += f" Over all combinations of student and labels: {every}."
    return {"lead": lead, "tone": found, "more": more}


def main_panel(report: Json) -> tuple[str, str] | None:
    """The student and labels that the headline speaks of: the first with an equivalent number,
    else the first that distilled images were tried on.
    """
    tried = [pair for pair in panels(report) if row_of(panel_rows(report, *pair), "distilled")]
    worth = [(e["student"], e["labels"]) for e in report["equivalents"] if e["ipc"] is not None]
    return next((pair for pair in worth if pair in tried), tried[0] if tried else None)


def tiles(report: Json) -> list[Json]:
    """The few numbers of the main panel that matter most."""
    pair = main_panel(report)
    rows = panel_rows(report, *pair) if pair else []
    found = [(images, row_of(rows, images)) for images in ("distilled", "random", "full")]
    return [
        {
            "set": images,
            "name": f"{SETS[images]}, {_per_class(row['ipc'])}",
            "value": score(row).split(" (")[0],
        }
        for images, row in found
        if row
    ]


def results_groups(report: Json) -> list[Json]:
    """One group of rows for each student and kind of labels."""
    return [
        {"student": student, "labels": _labels(labels), "rows": _table_rows(rows)}
        for student, labels in panels(report)
        if (rows := panel_rows(report, student, labels))
    ]


def equivalent_rows(report: Json) -> list[Json]:
    rows = []
    for worth in report["equivalents"]:
        if worth["ipc"] is None:
            continue
        own = own_ipc(report, worth)
        rows.append(
            {
                "student": worth["student"],
                "labels": _labels(worth["labels"]),
                "own": count(own),
                "worth": bound(worth, own) + count(worth["ipc"]),
                "interval": interval(report, worth, count) or "–",
                "times": f"{worth['ipc'] / own:.2g} ×",
                "tone": tone(worth, own),
                "found": _TONES[tone(worth, own)],
            }
        )
    return rows


def score_table(report: Json) -> Json:
    """names: of the scores that some student has; rows: a student and its scores in percent."""
    keys = [key for key in _SCORES if any(row[key] is not None for row in report["scores"])]
    rows = [
        {
            "student": row["student"],
            "cells": ["–" if row[key] is None else f"{row[key]:.1f}" for key in keys],
        }
        for row in report["scores"]
    ]
    return {"names": [_SCORES[key] for key in keys], "rows": rows if keys else []}


def recipe_rows(report: Json) -> list[tuple[str, str]]:
    recipe = {name: value for name, value in report["recipe"].items() if value is not None}
    return [(name.replace("_", " "), _setting(value)) for name, value in recipe.items()]


def provenance(report: Json) -> list[tuple[str, str | Markup]]:
    """What was evaluated against what, with what; lines that are not known are left out."""
    source, against, teacher = report["source"], report["against"], report["teacher"]
    tested = f"{against['eval_split']}, {against['eval_images']:,} images"
    rows: list[tuple[str, Any]] = [
        ("Evaluated", link(source["id"], source["url"])),
        ("Images", f"{source['images']:,} of {len(source['classes']):,} classes"),
        ("Revision", source["revision"]),
        ("Fingerprint", source["fingerprint"]),
        ("Against", link(against["id"], against["url"])),
        ("Against, revision", against["revision"]),
        ("Against, fingerprint", against["fingerprint"]),
        ("Training split", f"{against['train_split']}, {against['train_images']:,} images"),
        ("Test split", tested),
        ("Resolution", f"{report['resolution']} × {report['resolution']} pixels"),
        ("Teacher", teacher and f"{teacher['name']}, {percent(teacher['accuracy'])} top-1"),
        *((f"Student {name}", what) for name, what in report.get("local_students", {}).items()),
        ("Device", report["device"]),
        ("Versions", ", ".join(f"{name} {v}" for name, v in report["versions"].items())),
        ("Created", report["created"]),
    ]
    return [(name, value) for name, value in rows if value]


def accuracy_words(rows: Sequence[Json], by: str) -> str:
    """Each set's accuracy at its place on the x axis, for those who cannot see the plot."""
    write = human_bytes if by == "bytes" else _per_class
    ordered = sorted(rows, key=lambda row: (row["images"], row[by]))
    return "; ".join(
        f"{set_name(row['images'])}, {write(row[by])}: {percent(row['top1_mean'])}"
        for row in ordered
    )


def set_name(images: str) -> str:
    return SETS.get(images, images)


def _table_rows(rows: Sequence[Json]) -> list[Json]:
    order = {name: place for place, name in enumerate(("distilled", "nearest", "herding"))}
    rivals = {row["ipc"]: row for row in rows if row["images"] == "random"}
    return [
        {
            "set": row["images"],
            "name": set_name(row["images"]),
            "ipc": f"{row['ipc']:,}",
            "top1": score(row),
            "difference": _difference(row, rivals.get(row["ipc"])),
            "top5": _top5(row),
            "bytes": human_bytes(row["bytes"]),
            "steps": f"{row['steps']:,}",
            "seconds": number(row["seconds"]),
        }
        for row in sorted(rows, key=lambda row: (order.get(row["images"], 3), row["ipc"]))
    ]


def _setting(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return number(value) if isinstance(value, float) else str(value)


def _difference(row: Json, rival: Json | None) -> str:
    if rival is None or row["images"] in ("random", "full"):
        return ""
    return signed(100 * (row["top1_mean"] - rival["top1_mean"]))


def _top5(row: Json) -> str:
    if row["top5_mean"] is None:
        return ""
    spread = row["top5_std"] if row["n"] > 1 else None
    return score({"top1_mean": row["top5_mean"], "top1_std": spread, "n": row["n"]}).split(" (")[0]


def _labels(labels: str) -> str:
    return LABELS.get(labels, labels)


def _per_class(ipc: float) -> str:
    return f"{count(ipc)} per class"


def _images(ipc: float, kind: str = "image") -> str:
    return f"{count(ipc)} {kind}{'' if count(ipc) == '1' else 's'} per class"


def _distilled(rows: Sequence[Json]) -> Json:
    return next(row for row in rows if row["images"] == "distilled")


def _worth_sentence(report: Json, worth: Json, own: float) -> str:
    found, real = tone(worth, own), _images(worth["ipc"], "random real image")
    these = f"these {_images(own)} train" if count(own) != "1" else "this 1 image per class trains"
    upper = these[0].upper() + these[1:]
    if worth["bound"] == "at_least" and found == "gain":
        return f"{upper} a student at least as well as {real}, the most that were tried."
    if worth["bound"] == "at_most" and found == "loss":
        return f"{upper} a student no better than {real}, the fewest that were tried{_WORSE}."
    ends = interval(report, worth, count)
    ends = ends and f" (95{NO_BREAK}% interval: {ends})"
    if found == "even":
        return f"No clear difference: {these} a student as well as about {real}{ends}."
    only, end = ("only ", _WORSE) if found == "loss" else ("", "")
    return f"{upper} a student {only}as well as about {real}{ends}{end}."


def _accuracy_sentence(distilled: Json, rival: Json | None) -> tuple[str, str]:
    """Where no equivalent number is known."""
    these = f"{_images(distilled['ipc'])} bring{'s' if distilled['ipc'] == 1 else ''} a student"
    lead = f"{these} to {score(distilled)} top-1 accuracy"
    if rival is None:
        return f"{lead}; random real images were not tried beside them.", "unknown"
    points = 100 * (distilled["top1_mean"] - rival["top1_mean"])
    spread = 100 * (distilled["top1_std"] + rival["top1_std"])
    beside = f"as many random real images: {score(rival)}"
    if min(distilled["n"], rival["n"]) > 1 and abs(points) <= spread:
        return f"{lead}, {beside}. That is no clear difference.", "even"
    if points == 0:
        return f"{lead}, {beside}.", "even"
    tone = "gain" if points > 0 else "loss"
    word = "better" if points > 0 else "worse"
    end = _WORSE if points < 0 else ""
    return f"{lead}, {abs(points):.1f} points {word} than {beside}{end}.", tone


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
