"""wdistill.json: what was made, from what, how, and with which versions.

A manifest is built complete and never changed. It names no folder of the machine that wrote it.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from pydantic import Field, model_validator

from wdistill.artifact.layout import MANIFEST_FILE, set_name, shard_files
from wdistill.artifact.records import (
    BarycenterRecord,
    BudgetRecord,
    CodingRecord,
    Distances,
    LabelRecord,
    Sizes,
    SourceRecord,
    StoredViews,
    TeacherRecord,
)
from wdistill.artifact.records.model import Count, FileRecord, FrozenMap, Number
from wdistill.config import RunConfig
from wdistill.errors import RunFolderError


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
