"""The differences of a set that was made again, in words."""

from __future__ import annotations

from collections.abc import Iterator

from wdistill.differences import Accuracy, Differences, Gap

MOST_ROWS = 20


def verdict(found: Differences) -> str:
    """Some lines: identical or how far from it, and what may explain it."""
    lines = [_headline(found), *(f"  {line}" for line in _details(found))]
    lines += [f"  {change.name}: {change.now}, was {change.was}" for change in found.changes]
    if not found.identical:
        lines.append(_explanation(found))
    return "\n".join(map(_plain, lines))


def _headline(found: Differences) -> str:
    if found.identical:
        views = "" if found.views is None else ", label views"
        return f"bit-identical: {found.images} images, their labels, weights, soft labels{views}"
    return f"not identical: {found.same_images} of {found.images} images are the same"


def _details(found: Differences) -> Iterator[str]:
    yield from found.other
    if not found.identical:
        gaps = {
            "pixels (of 255)": found.pixels,
            "weights": found.weights,
            "soft labels": found.soft_labels,
            "logits of the label views": found.views,
        }
        for name, gap in gaps.items():
            if gap is not None:
                yield f"{name}: {_apart(gap)}"
    if not found.same_teacher:
        yield f"the teacher has other weights; its accuracy: {_moved(found.teacher_accuracy)}"
    rows = found.accuracies
    if rows and all(row.was == row.now for row in rows):
        yield f"accuracy of students: the same in all {len(rows)} rows of the results"
        return
    for row in rows[:MOST_ROWS]:
        yield f"accuracy of {row.name}: {_moved(row)}"
    if len(rows) > MOST_ROWS:
        largest = max(rows, key=lambda row: abs(row.now - row.was))
        yield f"... {len(rows) - MOST_ROWS} more rows; largest, {largest.name}: {_moved(largest)}"


def _apart(gap: Gap) -> str:
    if gap.largest == 0:
        return "the same"
    return f"{gap.mean:.2g} apart on average, {gap.largest:.2g} at most"


def _moved(row: Accuracy) -> str:
    return f"{row.now:.1%}, was {row.was:.1%} ({100 * (row.now - row.was):+.1f})"


def _explanation(found: Differences) -> str:
    if found.changes:
        names = ", ".join(change.name for change in found.changes)
        return f"what may explain it: {names} (see above)"
    return (
        "versions, device and threads are the same and do not explain it: the set was made with "
        "other settings than it says, or its files were changed"
    )


def _plain(line: str) -> str:
    """Names come from files that anyone may have written; a terminal obeys control characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
