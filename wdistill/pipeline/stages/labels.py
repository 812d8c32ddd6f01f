"""The labels of the distilled images, and their distance to real images."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from wdistill.core.files import atomic_write, key_of, remove
from wdistill.core.machine.resources import own_cores
from wdistill.core.processes import Work, share_out
from wdistill.core.seeds import stream
from wdistill.core.settings import stable_hash
from wdistill.core.text import human_bytes
from wdistill.core.units import Advance, Stage, StageOutput, Tensors, Unit
from wdistill.errors import OptionError, RunFolderError
from wdistill.evaluation.metrics import nearest_real
from wdistill.labels.codec import encode, fit, is_encoded, parts_of
from wdistill.labels.rounding import rounded
from wdistill.labels.soft import soft_labels
from wdistill.labels.views import LabelViews, ViewRecipe, join, label_views
from wdistill.pipeline.choices.givers import Giver
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.teacher import Teacher

logger = logging.getLogger(__name__)
MOST_VIEWS = 1000  # of an image


@dataclass(frozen=True)
class UnitValues:
    """Numbers of a unit's M images: distances (M,), or labels (M, C); float32."""

    values: Tensor

    def to_tensors(self) -> Tensors:
        return dict(vars(self))

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> UnitValues:
        return cls(**tensors)


def nearest_stage(
    run: Run, teacher: Teacher, key: str, shown: Callable[[Unit], Tensor]
) -> StageOutput[UnitValues]:
    """Distances (M,) of each unit's images, as a reader gets them, to the nearest real ones of
    their class, see :func:`nearest_real`.

    Args:
        key: A hash of what the images depend on, their coding included.
        shown: The images of a unit (M, 3, R, R) uint8, decoded.
    """

    def compute(unit: Unit, advance: Advance) -> UnitValues:
        distances = []
        counts = [run.counts[label] for label in unit.classes]
        for label, pixels in zip(unit.classes, shown(unit).split(counts), strict=True):
            real = teacher.images.batches(teacher.class_rows(label), 512)
            distances.append(nearest_real(pixels, real, teacher.network.device)[1])
            advance(1)
        return UnitValues(torch.cat(distances))

    return run.compute(Stage("nearest", stable_hash([key, "nearest"]), UnitValues), compute)


@dataclass(frozen=True, eq=False)
class Decoded:
    """The images of a set as a reader gets them.

    Attributes:
        pixels: (N, 3, R, R) uint8, class by class.
        bytes: Size of their files.
        key: A hash of everything that they depend on.
    """

    pixels: Tensor
    bytes: int
    key: str


def soft_stage(run: Run, giver: Giver, images: Decoded) -> StageOutput[UnitValues]:
    """One label for each image: (M, C) for a unit, rows sum to 1."""
    settings = run.config.relabel
    given = [images.key, giver.key, settings.views, settings.crop_min]

    def compute(unit: Unit, advance: Advance) -> UnitValues:
        labels = []
        for label in unit.classes:
            pixels = images.pixels[run.rows(label)]
            generator = stream(run.config.seed, "relabel", label)
            labels.append(soft_labels(giver.network, pixels, settings, generator))
            advance(1)
        return UnitValues(torch.cat(labels))

    stage = Stage(f"soft-{giver.name}", stable_hash([*given, "soft"]), UnitValues)
    return run.compute(stage, compute)


@dataclass(frozen=True, eq=False)
class PackedViews:
    """Label views and their files, as they are published."""

    views: LabelViews
    files: tuple[Path, ...]

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)


def views_stage(
    run: Run, giver: Giver, images: Decoded, room: int | None = None
) -> PackedViews | None:
    """Labels of single views, as many as fit into their bytes; None if there are to be none.

    room: bytes that they are to fill, whatever their number in the settings.
    """
    config, classes = run.config.label_views, len(run.data.class_names)
    count = config.number(len(images.pixels), classes)
    if count == 0:
        return None
    if room is not None:
        return _filling(run, giver, images, count, room)
    default = images.bytes if config.count is None else None
    try:
        return _told(_fitting(run, _views(run, giver, images, count), config.budget or default))
    except OptionError:
        if config.budget is not None:
            raise
        logger.info("label views: none, since one view of each image takes more than the images do")
        return None


def _filling(run: Run, giver: Giver, images: Decoded, count: int, room: int) -> PackedViews:
    """As many views as fit into ``room``. Fewer views are the first of more."""
    while True:
        try:
            packed = _fitting(run, _views(run, giver, images, count), room)
        except OptionError:
            raise OptionError(
                f"`budget` leaves {human_bytes(max(0, room))} for the labels, but one view of each "
                "image takes more; give a larger `budget`, or `label_views.count=0` for no views"
            ) from None
        if packed.views.count < count or count >= MOST_VIEWS:
            return _told(packed)
        count = min(MOST_VIEWS, max(count + 1, 1 + count * room // packed.bytes))


def _told(packed: PackedViews) -> PackedViews:
    views = packed.views
    logger.info(
        f"label views: {views.count} of each image, {views.logits.shape[1]} logits a view: "
        f"{human_bytes(packed.bytes)}"
    )
    return packed


@dataclass(frozen=True, eq=False)
class _KeyedViews:
    """key: a hash of everything that the logits depend on, and their temperature."""

    views: LabelViews
    key: str


def _fitting(run: Run, every: _KeyedViews, budget: int | None) -> PackedViews:
    """The views that fit into ``budget``, and their files, each of which is checked once."""
    made: dict[int, tuple[Path, ...]] = {}

    def packed(views: LabelViews) -> PackedViews:
        if views.count not in made:
            made[views.count] = tuple(_pack(run, views, every.key))
        return PackedViews(views, made[views.count])

    views, _ = fit(every.views, len(run.data.class_names), budget, lambda some: packed(some).bytes)
    return packed(views)


def _pack(run: Run, views: LabelViews, key: str) -> list[Path]:
    """Encode ``views``, each file in one of the processes, unless it is there already."""
    classes, parts, threads = len(run.data.class_names), parts_of(views), own_cores(run.accelerator)
    paths = [run.work / f"packed-{key}-{part.start}-{part.stop}.parquet" for part in parts]
    begun: dict[int, Future[bytes]] = {}

    with ThreadPoolExecutor(threads) as pool:

        def begin(index: int) -> None:
            begun[index] = pool.submit(encode, views.rows(parts[index]), classes)

        def compute(index: int, advance: Advance) -> None:
            atomic_write(paths[index], begun.pop(index).result())
            advance(1)

        work = Work(
            name="packed labels",
            paths=paths,
            valid=lambda index: is_encoded(paths[index], views.rows(parts[index]), classes),
            compute=compute,
            ticks=lambda _: 1,
            tick_name="file",
            begin=begin,
            ahead=threads - 1,
        )
        share_out(work, run.accelerator, run.quiet or len(parts) == 1)
    return paths


def remove_other_packed(run: Run) -> None:
    """Remove packed views that no views in the folder belong to any more."""
    keys = set()
    for path in run.work.glob("views-*.safetensors"):
        with suppress(RunFolderError):
            keys.add(key_of(path))
    every = run.work.glob("packed-*.parquet")
    remove(*(path for path in every if path.name.split("-")[1] not in keys))


def _views(run: Run, giver: Giver, images: Decoded, count: int) -> _KeyedViews:
    config = run.config.label_views
    temperature = run.config.evaluate.label_temperature
    # All logits are the same at any temperature.
    merged = "" if config.topk is None else f"-t{temperature:g}"
    settings = [count, config.topk, config.levels, config.crop_min, merged]
    recipe = ViewRecipe(replace(config, count=count), temperature, run.config.seed)

    def compute(unit: Unit, advance: Advance) -> LabelViews:
        place = run.unit_rows(unit)
        rows = torch.arange(place.start, place.stop)
        ticks = len(unit.classes)
        return label_views(giver.network, images.pixels, recipe, rows, lambda: advance(ticks))

    key = stable_hash([images.key, giver.key, settings, "views"])
    stage = Stage(f"views-{giver.name}{merged}", key, LabelViews, count, "view")
    every = join(list(run.compute(stage, compute).units))
    views = rounded(every, config.levels, len(run.data.class_names), temperature)
    return _KeyedViews(views, f"{key}-t{temperature:g}")
