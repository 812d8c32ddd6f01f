"""What a run is going to cost: the run itself, made small and timed.

Reduced copies of the run go through all of its stages in a scratch folder: a few classes with few
steps, the same with more steps, and twice the classes. What a stage takes is then

    seconds = constant + per_item * items + per_step * steps

whose three terms follow from the three copies and are multiplied by the counts of the whole run.
"""

from __future__ import annotations

import logging
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from wdistill.core.devices import device_name
from wdistill.core.text import Shown
from wdistill.core.units import Unit
from wdistill.data.pixels import PixelStore, file_bytes, to_float
from wdistill.data.splits import ImageSplit
from wdistill.evaluation.students import jobs
from wdistill.networks.backbones import load_backbone
from wdistill.networks.features import FeatureNetwork
from wdistill.networks.preprocessing import preprocessing_for
from wdistill.networks.teacher import NO_NORMALISATION, check_accepts
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.teacher import Networks
from wdistill.synthesis.targets import SPACE_SAMPLE

Stages = Callable[[Run, Networks], Mapping[str, float]]  # does a run; seconds of each stage
PROCESSES = (1, 2, 4, 8)
PATIENCE = 0.5  # [own] seconds that the images of a copy take the teacher, there and back
PNG_GROWTH = 1.2  # [own] of an image by synthesis, six sets of CIFAR-10 and Fashion-MNIST
COPIES = 6  # of the distilled images in memory, when the pictures are drawn


@dataclass(frozen=True)
class Sizes:
    """Bytes of the finished run folder, of the published set in it, of the label views in that, and
    of the decoded images that are on the disk while the run lasts.
    """

    run: int
    published: int
    label_views: int
    pixels: int


@dataclass(frozen=True)
class Estimate(Shown):
    """Of a run from its beginning.

    Attributes:
        resolution: Pixels of a side.
        images: Distilled ones, in ``units`` groups that can be made at once, of ``steps`` steps.
        training_steps: Of the teacher; 0 where it is used as it is.
        seconds: By number of processes and stage.
        memory: Peak bytes of a process, 0 if unknown.
        device_memory: Peak bytes of its GPU, None without one.
        threads: Of this process.
        calibrated: Seconds that the estimate took.
    """

    classes: int
    train_images: int
    test_images: int
    resolution: int
    images: int
    units: int
    steps: int
    training_steps: int
    students: int
    student_steps: int
    seconds: Mapping[int, Mapping[str, float]]
    memory: int
    device_memory: int | None
    disk: Sizes
    device: str
    threads: int
    calibrated: float

    def __str__(self) -> str:
        from wdistill.pipeline.tables import estimate_table  # noqa: PLC0415 (which needs this class)

        return estimate_table(self)


@dataclass(frozen=True)
class _Copy(Run):
    """A reduced copy of a run: all of its classes are one unit."""

    @property
    def units(self) -> tuple[Unit, ...]:
        return (Unit(0, tuple(range(len(self.data.class_names)))),)


def estimate(run: Run, networks: Networks, stages: Stages) -> Estimate:
    """Estimate ``run``, whatever is already done of it, in this process, which must be alone.

    The random state is left as it was, no network of the run is touched, and nothing stays.

    Args:
        run: The run that is to be estimated.
        networks: The networks that it names.
        stages: Does all stages of a run, and returns the seconds that each took.
    """
    began, device, config = time.perf_counter(), run.accelerator.device, run.config
    with torch.random.fork_rng([device] if device.type == "cuda" else []), _silence():
        copy, trained = _copies(run, networks)
        with tempfile.TemporaryDirectory(prefix="wdistill-") as scratch:
            # The first warms up: there it does the least harm.
            copies = [
                replace(copy(*sizes), folder=Path(scratch, str(sizes)))
                for sizes in ((2, 1), (1, 1), (1, 3))
            ]
            seconds = [stages(each, networks) for each in copies]
            disk = _disk(run, networks, copies)
        run.accelerator.free_memory()
    students, classes = _students(run, networks), len(run.data.class_names)
    images, peak = config.barycenter.ipc * classes, _peak()
    training = _training_images(run) // min(config.teacher.batch_size, len(run.data.train))
    measured = {
        stage: _seconds(
            [each[stage] for each in seconds],
            [_work(each, networks, stage) for each in copies],
            _work(run, networks, stage),
        )
        for stage in seconds[0]
    }
    return Estimate(
        classes=classes,
        train_images=len(run.data.train),
        test_images=len(run.data.eval),
        resolution=networks.resolution,
        images=images,
        units=len(run.units),
        steps=config.synthesis.iterations,
        training_steps=training if trained else 0,
        students=students,
        student_steps=config.evaluate.budget(images)[0] if students else 0,
        seconds={
            count: {
                stage: constant + _share(run, networks, stage, count) * rest
                for stage, (constant, rest) in measured.items()
            }
            for count in PROCESSES
        },
        memory=peak + _kept(run, networks) if peak else 0,
        device_memory=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        disk=disk,
        device=device_name(device),
        threads=torch.get_num_threads(),
        calibrated=time.perf_counter() - began,
    )


@contextmanager
def _silence() -> Iterator[None]:
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)


def _copies(run: Run, networks: Networks) -> tuple[Callable[[int, int], _Copy], bool]:
    """Makes copies that are some times as wide (classes) and as long (steps); and whether the
    teacher has to be trained. A slow network gets fewer images.
    """
    config, classes = run.config, len(run.data.class_names)
    afford, trained = _probe(run, networks)
    ipc = min(config.barycenter.ipc, afford)
    batch = config.evaluate.budget(config.barycenter.ipc * classes)[1]
    wanted = max(len(run.units[0].classes), math.ceil(batch / ipc))
    few = max(1, min(wanted, classes // 2, afford // ipc))
    steps = max(2, min(6, 4 * afford // (few * ipc)))

    def copy(wider: int, longer: int) -> _Copy:
        count = few * wider
        train = _first(run.data.train, count, max(ipc, afford // few))
        test = _first(run.data.eval, count, max(1, afford // (2 * few)))
        names = run.data.class_names[:count]
        reduced = replace(
            config,
            teacher=replace(config.teacher, epochs=longer * trained, allow_weak=True),
            barycenter=replace(config.barycenter, ipc=ipc),
            synthesis=replace(config.synthesis, iterations=steps * longer),
            label_views=replace(
                config.label_views, count=min(config.label_views.count, longer), budget=None
            ),
            evaluate=replace(
                config.evaluate, epochs=None, steps=steps * longer, batch_size=batch, seeds=1
            ),
        )
        data = replace(run.data, train=train, eval=test if len(test) else train, class_names=names)
        in_memory = replace(run.decoding, folder=None)
        return _Copy(reduced, data, Path(), run.accelerator, in_memory, True)

    return copy, trained


def _first(split: ImageSplit, classes: int, most: int) -> ImageSplit:
    chosen = [np.flatnonzero(split.labels == label)[:most] for label in range(classes)]
    return split.take(np.concatenate(chosen))


def _probe(run: Run, networks: Networks) -> tuple[int, bool]:
    """How many images can be decoded, and pass the teacher there and back, in PATIENCE."""
    device, train = run.accelerator.device, run.data.train
    preprocessing = preprocessing_for(networks.backbone, networks.resolution, NO_NORMALISATION)
    backbone = load_backbone(networks.backbone, run.data.class_names, preprocessing, 0)
    check_accepts(backbone)
    network, times = FeatureNetwork(backbone.model, preprocessing, device), []
    rows = range(min(16, len(train)))
    times.append(time.perf_counter())
    images = to_float(PixelStore(train, preprocessing).get(rows), device)
    for _ in range(3):
        times.append(time.perf_counter())
        with torch.no_grad():
            float(network(images, moments=False).logits.sum())  # waits for the device
    times.append(time.perf_counter())
    decoded, *passes = np.diff(times).tolist()
    slowest = max(3 * min(passes), decoded / run.decoding.threads) / len(rows)
    return max(4, int(PATIENCE / slowest)), backbone.origin != "as_is"


Work = tuple[float, float]  # items, and images of all steps together


def _work(run: Run, networks: Networks, stage: str) -> Work:
    """What a run, or a copy of it, has to do."""
    config, data, classes = run.config, run.data, len(run.data.class_names)
    images = config.barycenter.ipc * classes
    sampled = classes * min(SPACE_SAMPLE, len(data.train) / classes)
    students, (steps, size) = _students(run, networks), config.evaluate.budget(images)
    seen = steps * images / math.ceil(images / size)
    return {
        "teacher": (len(data.train) + len(data.eval), _training_images(run)),
        "transport": (len(data.train), 0),
        "synthesis": (sampled, config.synthesis.iterations * images),
        "relabel": (images, config.label_views.count * images),
        "evaluate": (students * len(data.eval), students * seen),
    }.get(stage, (images, 0))


def _training_images(run: Run) -> int:
    count = len(run.data.train)
    batch = min(run.config.teacher.batch_size, count)
    return run.config.teacher.epochs * (count // batch * batch)


def _students(run: Run, networks: Networks) -> int:
    config = run.config.evaluate
    every = jobs(config, list(networks.students), run.config.barycenter.ipc)
    return len(every) if config.enabled else 0


def _seconds(times: Sequence[float], works: Sequence[Work], whole: Work) -> tuple[float, float]:
    """What each process takes, and what all share. Of copies: wide, first, long."""
    wide, first, long = zip(times, works, strict=True)
    more = long[1][1] - first[1][1]
    per_step = max(0.0, (long[0] - first[0]) / more) if more else 0.0
    rest = wide[0] - first[0] - per_step * (wide[1][1] - first[1][1])
    added = wide[1][0] - first[1][0]
    per_item = max(0.0, rest / added) if added else 0.0
    constant = max(0.0, first[0] - per_item * first[1][0] - per_step * first[1][1])
    return constant, per_item * whole[0] + per_step * whole[1]


def _share(run: Run, networks: Networks, stage: str, processes: int) -> float:
    """Of the busiest process."""
    if stage == "teacher":
        return 1 / processes
    sizes = [len(unit.classes) for unit in run.units]
    if stage == "evaluate":
        sizes = [1] * max(1, _students(run, networks))
    return max(sum(sizes[index::processes]) for index in range(processes)) / sum(sizes)


def _disk(run: Run, networks: Networks, copies: Sequence[_Copy]) -> Sizes:
    """From the files of the copies, which grow with the classes."""
    wide, first, _ = copies
    config, counts = run.config, [len(copy.data.class_names) for copy in (wide, first)]
    classes = len(run.data.class_names)
    images = config.barycenter.ipc / first.config.barycenter.ipc * classes

    def whole(pattern: str, growth: float = 1.0) -> float:
        large, small = (
            sum(path.stat().st_size for path in copy.folder.glob(pattern) if path.is_file())
            for copy in (wide, first)
        )
        each = max(0.0, (large - small) / (counts[0] - counts[1]))
        return max(0.0, small - each * counts[1]) + each * images * growth

    views = config.label_views.count * whole("publish/*/soft_labels/*")
    views = min(views, config.label_views.budget or views)
    labels = 4 * config.barycenter.ipc * classes * (classes - counts[1])  # copies have short ones
    published = whole("publish/**/*", PNG_GROWTH) + labels + views
    splits = (len(run.data.train), len(run.data.eval))
    return Sizes(
        run=round(whole("**/*") + 2 * (labels + views)),
        published=round(published),
        label_views=round(views),
        pixels=sum(file_bytes(count, networks.resolution) for count in splits),
    )


def _kept(run: Run, networks: Networks) -> int:
    """Bytes of the decoded splits and of the distilled images."""
    splits = (len(run.data.train), len(run.data.eval))
    decoded = sum(count for count in splits if not file_bytes(count, networks.resolution))
    distilled = COPIES * run.config.barycenter.ipc * len(run.data.class_names)
    return (decoded + distilled) * 3 * networks.resolution**2


def _peak() -> int:
    """Bytes of memory that this process has had at most; 0 where the system does not tell."""
    try:
        import resource  # noqa: PLC0415  # not on Windows
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
