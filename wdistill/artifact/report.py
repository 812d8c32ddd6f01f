"""report.json: how well students learn from a set, and from real images beside it."""

from __future__ import annotations

from wdistill.artifact.model import Count, FileRecord, FrozenMap, Number, Record
from wdistill.core.text import Shown, clean

Point = tuple[Number, Number, Count]  # x, y and class


class EvaluatedSet(Record):
    """The set. kind: run, published or dataset; ipc: None where classes differ in it."""

    id: str
    kind: str
    url: str | None
    revision: str | None
    fingerprint: str | None
    images: Count
    ipc: Count | None
    classes: tuple[str, ...]


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

    epochs: those of the distilled images; steps: of the optimiser, the same for all sets of images;
    temperature: of labels that a teacher gave; cutmix: the share of batches that are mixed;
    crop_min: the least share of an image's area that a crop shows.
    """

    optimizer: str = "AdamW"
    lr: Number
    weight_decay: Number
    schedule: str = "cosine"
    epochs: Count | None
    steps: Count
    batch_size: Count
    temperature: Number
    cutmix: Number = 1.0
    crop_min: Number


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

    images: distilled, random, nearest, herding or full; labels: hard, soft, views or teacher; ipc:
    images per class; bytes: of the images and what labels them; top1, top5: shares of the test
    images after the last step, std being the sample deviation over seeds; top5: None where there
    are no more than five classes; per_class: mean top-1 accuracy of each; confusion: counts added
    up over seeds, row: true class, column: answer.
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
    architectures of students that are folders, by their published names. A report that
    `wdistill run` writes has no equivalents, which need more students; `wdistill evaluate` finds
    them.
    """

    created: str
    command: str
    source: EvaluatedSet
    against: RealData
    resolution: Count
    recipe: Recipe
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
        """A line for each row: student, labels, images, images per class, accuracy."""
        width = max(7, *(len(row.student) for row in self.rows)) if self.rows else 7
        lines = [f"{'student':{width}}  labels   images     IPC        top-1"]
        for row in self.rows:
            deviation = f" ± {100 * row.top1_std:3.1f}" if row.n > 1 else ""
            lines.append(
                f"{clean(row.student):{width}}  {row.labels:7}  {clean(row.images):9}  "
                f"{row.ipc:>4}  {row.top1_mean:6.1%}{deviation}"
            )
        return "\n".join(lines)

    def for_publication(self) -> Report:
        """Without what only the page of an evaluation shows: curves, confusions, projection."""
        rows = tuple(
            row.model_copy(update={"curve": Curve(), "confusion": None}) for row in self.rows
        )
        return self.model_copy(update={"rows": rows, "plain_rows": (), "projection": None})
