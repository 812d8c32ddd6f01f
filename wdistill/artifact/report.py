"""report.json: how well students learn from a set, and from real images beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from wdistill.artifact.model import Count, FileRecord, FrozenMap, Number, Record
from wdistill.core.text import Shown, clean

Tone = Literal["gain", "even", "loss"]
_BOUNDS = {"at_least": "at least ", "at_most": "at most "}
_ORDER = ("distilled", "random", "nearest", "herding", "k-centre", "easy", "tiles", "noise")
_ROUNDING = 1e-6  # a bound is read off logarithms
Point = tuple[Number, Number, Count]  # x, y and class


class EvaluatedSet(Record):
    """The set. kind: run, published, dataset or file; ipc: None where classes differ in it; notes:
    what was taken for granted or lost in reading it, one sentence each.
    """

    id: str
    kind: str
    url: str | None
    revision: str | None
    fingerprint: str | None
    images: Count
    ipc: Count | None
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


class RealData(Record):
    """The real images that students are compared and tested on."""

    id: str
    url: str | None
    revision: str | None
    fingerprint: str | None
    train_split: str
    eval_split: str
    train_images: Count
    eval_images: Count


class Recipe(Record):
    """How every student is trained, whatever its images are.

    name: of the recipe; changed: what differs from it, in words; optimizer: AdamW or SGD; momentum:
    of SGD; schedule: cosine (to zero), half cosine (to half of the learning rate) or steps, which
    multiplies the learning rate by ``factor`` after each step of ``drops``; restarts: whether the
    momentum starts from zero there; epochs: those of the distilled images; steps: of the optimiser,
    the same for all sets of images; loss: cross-entropy (with a teacher's labels the KL
    divergence), or squared logits with ``class_weight`` times the cross-entropy; temperature: of
    labels that a teacher gave; augmentation: crops (resized crops and flips), dsa (one of six
    operations in each step) or dsa idc (flips and colours, then one of three); flips: whether
    images are flipped; cutmix: the share of batches that are mixed; crop_min: the least share of an
    image's area that a crop shows; average: the decay of the moving average of the weights that is
    tested.
    """

    name: str = "default"
    changed: tuple[str, ...] = ()
    optimizer: str = "AdamW"
    lr: Number
    weight_decay: Number
    momentum: Number | None = None
    schedule: str = "cosine"
    drops: tuple[Count, ...] = ()
    factor: Number | None = None
    restarts: bool = False
    epochs: Count | None
    steps: Count
    batch_size: Count
    loss: str = "cross-entropy"
    class_weight: Number | None = None
    temperature: Number
    augmentation: str = "crops"
    flips: bool = True
    cutmix: Number = 1.0
    crop_min: Number | None
    average: Number | None = None


class TeacherScore(Record):
    """The teacher's name, and its top-1 accuracy on the test images."""

    name: str
    accuracy: Number


class Curve(Record):
    """Mean training loss of stretches of training, and the step that each ends with."""

    step: tuple[Count, ...] = ()
    loss: tuple[Number, ...] = ()


class ResultRow(Record):
    """Students of one kind, one for each seed, on one set of images with one kind of labels.

    images: distilled, random, nearest, herding, k-centre, easy, tiles, noise or full; labels: hard,
    soft, views or teacher; ipc: images per class; bytes: of the images and what labels them; top1,
    top5: shares of the test images after the last step, std being the sample deviation over seeds;
    top5: None where there are no more than five classes; per_class: mean top-1 accuracy of each;
    confusion: counts added up over seeds, row: true class, column: answer.
    """

    student: str
    images: str
    labels: str
    ipc: Count
    bytes: Count
    steps: Count
    n: Count
    top1_mean: Number
    top1_std: Number
    top1: tuple[Number, ...]
    top5_mean: Number | None
    top5_std: Number | None
    seeds: tuple[Count, ...]
    seconds: Number
    per_class: tuple[Number, ...]
    confusion: tuple[tuple[Count, ...], ...] | None
    curve: Curve


class Equivalent(Record):
    """The number of random real images per class that train a student as well as the set does.

    low, high: its 95 % interval, None where the spread over seeds is unknown. bound: interpolated,
    or at_least or at_most where the accuracy lies above or below all that was measured; ipc is then
    the nearest number that was.
    """

    student: str
    labels: str
    ipc: Number
    low: Number | None
    high: Number | None
    bound: str


class Scores(Record):
    """DD-Ranking's scores of a student, in percent; None where a part was not measured."""

    student: str
    improvement_over_random: Number | None
    hard_label_recovery: Number | None
    label_robust_score: Number | None
    augmentation_robust_score: Number | None


class Projection(Record):
    """Features of some classes in two dimensions."""

    method: str
    real: tuple[Point, ...]
    atoms: tuple[Point, ...]
    distilled: tuple[Point, ...]


class Report(FileRecord, Shown):
    """An evaluation: of what, against what, how, and what was measured.

    rows: with augmentation of the students' images; plain_rows: without; local_students: the
    architectures of students that are folders, by their published names; comparable: with which
    published numbers the rows may be compared, and with which not, in one line. A report that
    `wdistill run` writes has no equivalents, which need more students; `wdistill evaluate` finds
    them.
    """

    created: str
    command: str
    source: EvaluatedSet
    against: RealData
    resolution: Count
    recipe: Recipe
    comparable: str = ""
    teacher: TeacherScore | None
    rows: tuple[ResultRow, ...]
    plain_rows: tuple[ResultRow, ...]
    equivalents: tuple[Equivalent, ...]
    scores: tuple[Scores, ...]
    local_students: FrozenMap[str, str]
    projection: Projection | None = None
    device: str
    versions: FrozenMap[str, str]

    def __str__(self) -> str:
        """A line for each row, with what the distilled images gain on it; then the equivalents."""
        return report_table(self)

    def for_publication(self) -> Report:
        """Without what only the page of an evaluation shows: curves, confusions, projection."""
        rows = tuple(
            row.model_copy(update={"curve": Curve(), "confusion": None}) for row in self.rows
        )
        return self.model_copy(update={"rows": rows, "plain_rows": (), "projection": None})


def panel_rows(report: Report, student: str, labels: str) -> list[ResultRow]:
    return [row for row in report.rows if (row.student, row.labels) == (student, labels)]


def row_of(rows: Sequence[ResultRow], images: str) -> ResultRow | None:
    """The first row of ``images``; of random ones, the row with as many as there are distilled."""
    kept = [row for row in rows if row.images == images]
    distilled = [row.ipc for row in rows if row.images == "distilled"]
    if images == "random" and distilled:
        kept = [row for row in kept if row.ipc == distilled[0]]
    return kept[0] if kept else None


def gain_over(distilled: ResultRow, other: ResultRow) -> float:
    """Of the distilled images, in percentage points of accuracy."""
    return 100 * (distilled.top1_mean - other.top1_mean)


def ipcs_of(report: Report, equivalent: Equivalent, images: str) -> list[int]:
    """Images per class of every row of ``images`` that the equivalent's student and labels have."""
    rows = panel_rows(report, equivalent.student, equivalent.labels)
    return [row.ipc for row in rows if row.images == images]


def own_ipc(report: Report, equivalent: Equivalent) -> float:
    """Images per class of the distilled set that ``equivalent`` belongs to."""
    distilled = ipcs_of(report, equivalent, "distilled")
    return float(distilled[0] if distilled else report.source.ipc or equivalent.ipc)


def tone(equivalent: Equivalent, ipc: float) -> Tone:
    """Whether a set of ``ipc`` images per class gains; ``even``: its interval contains ``ipc``."""
    low, high = equivalent.low, equivalent.high
    if low is not None and high is not None and low <= ipc <= high:
        return "even"
    if equivalent.bound == "at_least":
        return "gain"
    if equivalent.bound == "at_most":
        return "loss"
    if equivalent.ipc == ipc:
        return "even"
    return "gain" if equivalent.ipc > ipc else "loss"


def bound(equivalent: Equivalent, ipc: float) -> str:
    """``at least`` or ``at most`` with a space, where that much is known of the number."""
    return "" if tone(equivalent, ipc) == "even" else _BOUNDS.get(equivalent.bound, "")


def interval(report: Report, equivalent: Equivalent, write: Callable[[float], str]) -> str:
    """``2 to 32``, or ``2 to 32 or more`` where no more than 32 were tried; nothing if unknown."""
    if equivalent.low is None or equivalent.high is None:
        return ""
    most = max(ipcs_of(report, equivalent, "random"), default=float("inf"))
    low, high = write(equivalent.low), write(equivalent.high)
    if equivalent.high < most * (1 - _ROUNDING):
        return f"{low} to {high}"
    return f"{high} or more" if low == high else f"{low} to {high} or more"


def report_table(report: Report) -> str:
    """One line per student, labels and set of images, then the equivalent numbers, as text."""
    width = max([7, *(len(clean(row.student)) for row in report.rows)])
    lines = [f"{'student':{width}}  labels   images     IPC           top-1  distilled gains"]
    order = {name: at for at, name in enumerate(_ORDER)}
    panels = list(dict.fromkeys((row.student, row.labels) for row in report.rows))
    rows = sorted(
        report.rows,
        key=lambda r: (panels.index((r.student, r.labels)), order.get(r.images, 9), r.ipc),
    )
    for row in rows:
        own = row_of(panel_rows(report, row.student, row.labels), "distilled")
        gains = "" if own is None or row is own else f"{gain_over(own, row):+z.1f}"
        deviation = f" ± {100 * row.top1_std:4.1f}" if row.n > 1 else ""
        lines.append(
            f"{clean(row.student):{width}}  {row.labels:7}  {clean(row.images):9}  {row.ipc:>4}  "
            f"{f'{row.top1_mean:.1%}{deviation}':>14}  {gains:>15}".rstrip()
        )
    lines += [_equivalent(report, each) for each in report.equivalents]
    return "\n".join([*lines, *([report.comparable] if report.comparable else [])])


def _equivalent(report: Report, equivalent: Equivalent) -> str:
    ipc = own_ipc(report, equivalent)
    ends = interval(report, equivalent, lambda value: f"{value:.0f}")
    even = ends and tone(equivalent, ipc) == "even"
    return (
        f"{clean(equivalent.student)}, {equivalent.labels} labels: worth {bound(equivalent, ipc)}"
        f"{equivalent.ipc:.0f} random real images per class"
        f"{f' (95 %: {ends})' if ends else ''}{', no clear difference' if even else ''}"
    )
