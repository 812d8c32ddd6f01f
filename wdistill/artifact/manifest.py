"""wdistill.json: what was made, from what, how, and with which versions.

A manifest is built complete and never changed. It names no folder of the machine that wrote it.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from wdistill.artifact.layout import MANIFEST_FILE, set_name, shard_files
from wdistill.artifact.model import Count, FileRecord, FrozenMap, Number, Record
from wdistill.config import ImageFormat, RunConfig
from wdistill.errors import RunFolderError

if TYPE_CHECKING:  # brings torch, and a push reads manifests
    from wdistill.data.dataset import ImageData

Access = Literal["open", "gated", "private", "unknown"]


class SourceRecord(Record):
    """The real images: where they come from, and how they were read.

    kind: embedded, hub, imagefolder, parquet or saved; access: of the source on the Hub, unknown
    where it was read offline; groups: into how many measures each class was split, 0 for none;
    unlabelled, broken: images that were left out, and why; shared: of training, as they are also in
    the evaluation split.
    """

    id: str
    kind: str
    config_name: str | None = None
    revision: str | None = None
    fingerprint: str
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    access: Access = "open"
    pretty_name: str | None = None
    url: str | None = None
    train_split: str
    eval_split: str
    eval_is_holdout: bool
    image_column: str
    label_column: str
    groups: Count = 0
    train_images: Count
    eval_images: Count
    unlabelled: Count = 0
    broken: Count = 0
    shared: Count = 0

    @classmethod
    def of(cls, data: ImageData) -> Self:
        """The record of ``data`` in the manifest."""
        source, groups = data.source, data.train.groups
        return cls(
            id=source.id,
            kind=source.kind,
            config_name=source.config_name,
            revision=source.revision,
            fingerprint=source.fingerprint,
            license=source.license,
            license_name=source.license_name,
            license_link=source.license_link,
            access=_access(source.gated),
            pretty_name=source.pretty_name,
            url=source.url,
            train_split=data.train_split,
            eval_split=data.eval_split,
            eval_is_holdout=data.eval_is_holdout,
            image_column=data.image_column,
            label_column=data.label_column,
            groups=0 if groups is None else len(set(groups.tolist())),
            train_images=len(data.train),
            eval_images=len(data.eval),
            unlabelled=data.unlabelled,
            broken=data.broken,
            shared=data.shared,
        )


def _access(gated: bool | str) -> Access:
    if gated == "private":
        return "private"
    if gated == "unknown":
        return "unknown"
    return "gated" if gated else "open"


class TeacherRecord(Record):
    """The network whose features defined the transport.

    origin: whether it was used as_is, fine_tuned or trained from_scratch; architecture: in words;
    accuracy: top-1 on the evaluation images.
    """

    backbone: str
    revision: str | None = None
    origin: Literal["as_is", "fine_tuned", "from_scratch"]
    architecture: str
    accuracy: Number
    weights_sha256: str
    parameters: Count


class BarycenterRecord(Record):
    """Squared Wasserstein distances to the real images in the teacher's features, one per class.

    w2: of the barycenter; w2_random: of as many random real images.
    """

    w2: tuple[Number, ...]
    w2_random: tuple[Number, ...]


class Distances(Record):
    """How far the images are from real ones.

    nearest_real_rmse: for each class and image, to the nearest training image of the class, pixels
    being from 0 to 1.
    """

    nearest_real_rmse: tuple[tuple[Number, ...], ...]


class StoredViews(Record):
    """The labels of single views, stored beside the images.

    views: number for each image; topk: logits that are kept of each view; levels: values that a
    stored logit can have; temperature: at which the classes that are not kept have their share.
    """

    views: Count
    topk: Count
    levels: Count
    temperature: Number


class BudgetTrial(Record):
    """A way to spend a budget, and the accuracies on held-out training images of short students,
    after so many ``steps``.

    ipc: images per class, or all that a class has where those are fewer; quality: of WebP, None
    without loss; views: of each image, temperature: of their labels; images: random real ones, the
    real ones that the transport chose, or distilled ones.
    """

    ipc: Count
    quality: Count | None
    views: Count
    temperature: Number = 1.0
    images: Literal["random", "chosen", "distilled"] = "random"
    steps: Count
    top1: tuple[Number, ...]

    @property
    def mean(self) -> float:
        return sum(self.top1) / len(self.top1)


class BudgetRecord(Record):
    """bytes: that the parquet files may take; tried: what was compared; images: those that are
    published.
    """

    bytes: Count
    tried: tuple[BudgetTrial, ...] = ()
    images: Literal["chosen", "distilled"] = "distilled"


class LabelTrial(Record):
    """Accuracies on held-out training images of short students: for each kind of student, those of
    its seeds. giver: none for hard labels; labels: hard, soft or views; temperature: of these.
    """

    giver: str
    labels: str
    temperature: Number = 1.0
    top1: tuple[tuple[Number, ...], ...]

    def __str__(self) -> str:
        if self.giver == "none":
            return "hard"
        warm = "" if self.temperature == 1 else f", T = {self.temperature:g}"
        return f"{self.giver} ({self.labels}{warm})"


class LabelRecord(Record):
    """Who labelled the images.

    giver: teacher; committee, the teacher and a network that was trained briefly; or none.
    hard_soft: whether the one soft label of each image is its class, because short students learned
    less from the giver's; temperature: at which students should see the giver's, not in earlier
    files; tried: what the giver was chosen from.
    """

    giver: str = "teacher"
    hard_soft: bool = False
    temperature: Number | None = None
    tried: tuple[LabelTrial, ...] = ()


class CodingTrial(Record):
    """Accuracies on held-out training images of short students of images in a quality of WebP, None
    without loss.
    """

    quality: Count | None
    top1: tuple[Number, ...]


class CodingRecord(Record):
    """How images became files.

    quality: of WebP, from 1 to 100, or None without loss; grey: whether the images are read as grey
    ones; coder: the library that wrote them; tried: what the quality was chosen from.
    """

    format: ImageFormat = "png"
    quality: Count | None = None
    grey: bool = False
    coder: str = ""
    tried: tuple[CodingTrial, ...] = ()

    def __str__(self) -> str:
        if self.format == "png":
            return "PNG"
        return "WebP without loss" if self.quality is None else f"WebP of quality {self.quality}"


class Sizes(Record):
    """Bytes. images: of their files; parquet: of the files with images and soft labels;
    label_views: of the files with the labels of views.
    """

    images: Count
    soft_labels: Count
    parquet: Count
    label_views: Count


class Manifest(FileRecord):
    """The content of wdistill.json.

    config: all settings, ``config_changed`` names those that were not at their default, and
    ``config_hash`` is that of the settings before folders were taken out; images: in all; ipc: for
    each class, or on average, rounded, where ``counts`` has those of each class;
    revisions: commits of students and feature spaces on the Hub, by their ids; local_students:
    architectures of students that were folders, by their published names; seconds: by stage;
    environment: variables that made float32 less precise; threads: of each process, because sums on
    a CPU are rounded differently.
    """

    wdistill_version: str
    created: str
    command: str
    config: RunConfig
    config_changed: tuple[str, ...]
    config_hash: str
    source: SourceRecord
    classes: tuple[str, ...]
    ipc: Count
    counts: tuple[Count, ...] | None = None
    resolution: Count
    images: Count
    coding: CodingRecord = Field(default_factory=CodingRecord)
    labels: LabelRecord = Field(default_factory=LabelRecord)
    budget: BudgetRecord | None = None
    teacher: TeacherRecord
    revisions: FrozenMap[str, str]
    local_students: FrozenMap[str, str]
    barycenter: BarycenterRecord
    distances: Distances
    label_views: StoredViews | None
    seconds: FrozenMap[str, Number]
    versions: FrozenMap[str, str]
    environment: FrozenMap[str, str] = Field(default_factory=lambda: MappingProxyType({}))
    device: str
    processes: Count
    threads: Count
    bytes: Sizes

    @classmethod
    def parse(cls, content: Any, path: Path) -> Self:
        """As for any file; settings that do not name the images' format are older than its choice,
        when all were PNG.
        """
        config = content.get("config") if isinstance(content, dict) else None
        if isinstance(config, dict) and "coding" not in config:
            content = {**content, "config": {**config, "coding": {"image_format": "png"}}}
        return super().parse(content, path)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        nearest, classes = self.distances.nearest_real_rmse, len(self.classes)
        expected = self.config.barycenter.mean(classes)
        if self.config.budget is None and self.ipc != expected:
            raise ValueError(f"ipc is {self.ipc}, but {expected} in config")
        if len(self.per_class) != classes or self.images != sum(self.per_class):
            raise ValueError(f"images is {self.images} for {classes} classes of {self.ipc}")
        if {len(self.barycenter.w2), len(self.barycenter.w2_random)} != {classes}:
            raise ValueError(f"barycenter does not have one value for each of {classes} classes")
        if tuple(map(len, nearest)) != self.per_class:
            raise ValueError("distances.nearest_real_rmse does not have one value for each image")
        if self.label_views is not None and not 0 < self.label_views.topk <= classes:
            raise ValueError(f"label_views.topk is {self.label_views.topk} of {classes} classes")
        return self

    @property
    def per_class(self) -> tuple[int, ...]:
        """Images of each class."""
        return self.counts or (self.ipc,) * len(self.classes)

    @property
    def name(self) -> str:
        """Of the set's folder and configuration. Earlier versions left out all but the number."""
        config = self.config
        return set_name(self.ipc, config.barycenter.allocation, config.budget, config.synthesis.aim)

    @property
    def bits_per_class(self) -> int:
        """Of all parquet files, with images and labels."""
        return round(8 * (self.bytes.parquet + self.bytes.label_views) / len(self.classes))

    @property
    def temperature(self) -> float:
        """At which students should see the labels that a network gave."""
        if self.label_views is not None:
            return self.label_views.temperature
        return self.labels.temperature or self.config.evaluate.label_temperature

    @property
    def untouched(self) -> bool:
        """Whether the images are real ones, chosen and, but for their coding, left as they are."""
        if self.budget is not None and self.budget.images == "chosen":
            return True
        return self.config.synthesis.init == "real" and self.config.synthesis.iterations == 0


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the set in ``folder``.

    Raises:
        RunFolderError: it is missing, damaged, of another format, or not a manifest.
    """
    return Manifest.read(folder / MANIFEST_FILE)


def check_bytes(folder: Path, recorded: Sizes) -> None:
    """Raise RunFolderError unless the parquet files in ``folder`` have the ``recorded`` sizes."""
    for name, size in (("data", recorded.parquet), ("soft_labels", recorded.label_views)):
        present = sum(path.stat().st_size for path in shard_files(folder, name))
        if present != size:
            raise RunFolderError(
                f"'{folder / name}' has {present:,} bytes of parquet, but {size:,} were written; "
                "copy it or run the same command again"
            )
