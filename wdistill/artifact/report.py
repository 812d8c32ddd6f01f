"""report.json: how well students learn from a set, and from real images beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from wdistill.artifact.records.model import Count, FileRecord, FrozenMap, Number, Record
from wdistill.core.text import Shown

Point = tuple[Number, Number, Count]  # x, y and class
ADAMW = "AdamW"


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
    optimizer: str = ADAMW
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

    optimizer: that of their recipe; images: distilled, random, nearest, herding, k-centre, easy,
    tiles, noise or full; labels: hard, soft, views or teacher; ipc: images per class; bytes: of the
    files of the images and of what labels them, before they are put into parquet, but of labels of
    views as their parquet files take; top1, top5: shares of the test images after the last step,
    std being the sample deviation over seeds; top5: None where there are no more than five classes;
    per_class: mean top-1 accuracy of each; confusion: counts added up over seeds, row: true class,
    column: answer.
    """

    student: str
    optimizer: str = ADAMW
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
    optimizer: str = ADAMW
    labels: str
    ipc: Number
    low: Number | None
    high: Number | None
    bound: str


class Scores(Record):
    """DD-Ranking's scores of a student, in percent; None where a part was not measured."""

    student: str
    optimizer: str = ADAMW
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

    recipe: of the first optimiser; other_recipes: of the others, which differ from it in nothing
    else; rows: with augmentation of the students' images; plain_rows: without; local_students: the
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
    other_recipes: tuple[Recipe, ...] = ()
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

    @classmethod
    def parse(cls, content: Any, path: Path) -> Self:
        """As :meth:`FileRecord.parse`. Rows of older files do not say their optimiser, which was
        that of the recipe.
        """
        report = super().parse(content, path)
        name = report.recipe.optimizer
        parts = ("rows", "plain_rows", "equivalents", "scores")
        return report.model_copy(
            update={part: _with_optimizer(getattr(report, part), name) for part in parts}
        )

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """One for each optimiser."""
        return self.recipe, *self.other_recipes

    def __str__(self) -> str:
        """A line for each row, with what the distilled images gain on it; then the equivalents."""
        from wdistill.artifact.claims.table import report_table  # noqa: PLC0415 (needs this class)

        return report_table(self)

    def for_publication(self) -> Report:
        """Without what only the page of an evaluation shows: curves, confusions, projection."""
        rows = tuple(
            row.model_copy(update={"curve": Curve(), "confusion": None}) for row in self.rows
        )
        return self.model_copy(update={"rows": rows, "plain_rows": (), "projection": None})


_Part = TypeVar("_Part", ResultRow, Equivalent, Scores)


def _with_optimizer(parts: Sequence[_Part], name: str) -> tuple[_Part, ...]:
    return tuple(
        part
        if "optimizer" in part.model_fields_set
        else part.model_copy(update={"optimizer": name})
        for part in parts
    )


class Panel(NamedTuple):
    """Students of one kind that see one kind of labels and are trained by one optimiser."""

    student: str
    labels: str
    optimizer: str


def panel_of(part: ResultRow | Equivalent) -> Panel:
    return Panel(part.student, part.labels, part.optimizer)


def panels(report: Report) -> list[Panel]:
    """In the order of the report; those that differ only in their optimiser are adjacent."""
    return adjacent(panel_of(row) for row in report.rows)


def adjacent(found: Iterable[Panel]) -> list[Panel]:
    """Each once, in order, but next to those that differ from it only in their optimiser."""
    each = dict.fromkeys(found)
    pairs = list(dict.fromkeys((panel.student, panel.labels) for panel in each))
    return sorted(each, key=lambda panel: pairs.index((panel.student, panel.labels)))


def optimizers_of(rows: Iterable[ResultRow]) -> list[str]:
    """The optimisers of ``rows``, each once."""
    return list(dict.fromkeys(row.optimizer for row in rows))


def panel_name(report: Report, student: str, labels: str, optimizer: str) -> str:
    """``convnet, hard labels``, with the optimiser where the report has several."""
    several = len(optimizers_of(report.rows)) > 1
    return f"{student}, {labels} labels{f', {optimizer}' if several else ''}"


def panel_rows(report: Report, student: str, labels: str, optimizer: str) -> list[ResultRow]:
    panel = Panel(student, labels, optimizer)
    return [row for row in report.rows if panel_of(row) == panel]


def panel_equivalents(
    report: Report, student: str, labels: str, optimizer: str
) -> list[Equivalent]:
    panel = Panel(student, labels, optimizer)
    return [each for each in report.equivalents if panel_of(each) == panel]


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
