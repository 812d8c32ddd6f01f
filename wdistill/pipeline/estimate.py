"""Estimate the cost of a run by timing reduced copies of it.

Four copies go through all stages: a few classes with few images and steps, twice the classes, the
same with more steps, and the first with more images per class. The time of a stage is modelled as

    seconds = constant + per_class * classes + per_image * images + per_step * steps

with non-negative coefficients fitted to the copies by least squares.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import lsq_linear

from wdistill.config import Labels
from wdistill.core.devices import device_name, peak_memory
from wdistill.core.log import without_log
from wdistill.core.units import Unit
from wdistill.data.pixels import PixelStore, file_bytes, to_float
from wdistill.data.splits import ImageSplit
from wdistill.evaluation.students import jobs
from wdistill.networks.backbones import load_backbone
from wdistill.networks.features import FeatureNetwork
from wdistill.networks.preprocessing import preprocessing_for
from wdistill.networks.teacher import NO_NORMALISATION, check_accepts
from wdistill.pipeline.choices.coding import syntheses, untried
from wdistill.pipeline.choices.givers import candidates, short_steps, short_students
from wdistill.pipeline.choices.short import HELD_OUT
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.stages.convnets import BATCH
from wdistill.pipeline.tables import Estimate, Sizes
from wdistill.pipeline.teacher import Networks
from wdistill.synthesis.states import NETWORKS, SPACES
from wdistill.synthesis.targets import SPACE_SAMPLE, STATE_SAMPLE

Stages = Callable[[Run, Networks], Mapping[str, float]]
PROCESSES = (1, 2, 4, 8)
PATIENCE = 0.5  # [own] seconds of forward and backward passes for the images of a copy
DEEPER, LONGER = 8, 8  # [own] factors on the images per class, and on the steps; 4 is noisy
PNG_GROWTH = 1.2  # [own] PNG size after / before synthesis, six sets of CIFAR-10 and Fashion-MNIST
COPIES = 6  # copies of the distilled images in memory while the pictures are drawn


@dataclass(frozen=True)
class _Copy(Run):
    """A reduced copy of a run, with units of ``group`` classes."""

    group: int = 1

    @property
    def units(self) -> tuple[Unit, ...]:
        labels, group = range(len(self.data.class_names)), self.group
        return tuple(Unit(s // group, tuple(labels[s : s + group])) for s in labels[::group])


def estimate(
    run: Run, networks: Networks, stages: Stages, choice: tuple[int, int] = (0, 0)
) -> Estimate:
    """Estimate ``run`` from its beginning, in this process, which must be the only one.

    The random state is restored, the networks of the run are not changed, and no files remain.

    ``stages`` executes all stages of a run and returns the seconds that each took; ``choice``: the
    short students that spend a budget, and their steps together.
    """
    start, device, config = time.perf_counter(), run.accelerator.device, run.config
    with torch.random.fork_rng([device] if device.type == "cuda" else []), without_log():
        try:
            image_limit, trains_teacher = _probe(run, networks)
            with tempfile.TemporaryDirectory(prefix="wdistill-") as scratch:
                copies = _copies(run, networks, image_limit, trains_teacher, Path(scratch))
                warm_up, *seconds = [stages(copy, networks) for copy in copies]
                disk = _disk(run, networks, copies[1], copies[2])
        finally:  # what ran out of memory must not leave less of it to the run
            run.accelerator.free_memory()
    classes, students = len(run.data.class_names), _students(run, networks)
    images, peak = run.images, peak_memory()
    training_batch, fits = config.teacher.batch(len(run.data.train)), {}
    for stage in warm_up:
        full_work, *works = [_work(each, networks, stage) for each in (run, *copies[1:])]
        fits[stage] = _seconds([each[stage] for each in seconds], works, full_work)
    if choice[0]:
        fits["budget"] = _choosing(run, networks, copies[1:], seconds, choice)
    return Estimate(
        classes=classes,
        train_images=len(run.data.train),
        test_images=len(run.data.eval),
        resolution=networks.resolution,
        images=images,
        units=len(run.units),
        steps=config.synthesis.iterations,
        training_steps=trains_teacher * math.ceil(_training(run) / training_batch),
        students=students,
        student_steps=config.evaluate.budget(images)[0] if students else 0,
        seconds={
            count: {
                stage: constant + _share(run, networks, stage, count) * shared
                for stage, (constant, shared) in fits.items()
            }
            for count in PROCESSES
        },
        memory=peak + _images_in_memory(run, networks) if peak else 0,
        device_memory=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        disk=disk,
        device=device_name(device),
        threads=torch.get_num_threads(),
        calibrated=time.perf_counter() - start,
    )


def _copies(
    run: Run, networks: Networks, image_limit: int, trains_teacher: bool, scratch: Path
) -> list[_Copy]:
    """A warm-up copy, then those that the module describes. A slow network gets fewer images."""
    config, classes = run.config, len(run.data.class_names)
    ipc = min(run.ipc, image_limit)
    views = config.label_views.number(run.images, classes)
    per_step = config.teacher.batch(len(run.data.train))
    batch = config.evaluate.budget(run.images)[1]
    group = len(run.units[0].classes)
    target = max(group, math.ceil(batch / ipc))
    base_classes = max(1, min(target, classes // 2, image_limit // ipc))
    steps = max(2, min(10, image_limit // (2 * base_classes * ipc)))

    def copy(name: str, wider: int, deeper: int, longer: int) -> _Copy:
        count = base_classes * wider
        train = _subset(run.data.train, count, deeper * max(ipc, image_limit // base_classes))
        own = min(ipc, len(train) // count)  # a rare class may have fewer, if others have more
        test = _subset(run.data.eval, count, max(1, image_limit // base_classes))
        reduced = replace(
            config,
            teacher=replace(
                config.teacher, epochs=longer * trains_teacher, batch_size=per_step, allow_weak=True
            ),
            barycenter=replace(config.barycenter, ipc=own, images=None),
            synthesis=replace(
                config.synthesis, iterations=steps * longer, state_steps=steps * longer
            ),
            label_views=replace(config.label_views, count=min(views, longer), budget=None),
            coding=untried(config.coding),
            relabel=replace(config.relabel, committee_steps=steps * longer),
            evaluate=replace(
                config.evaluate.with_labels("hard"),  # a copy may find no others to publish
                epochs=None,
                steps=steps * longer,
                batch_size=batch,
                seeds=1,
            ),
        )
        names = run.data.class_names[:count]
        data = replace(run.data, train=train, eval=test if len(test) else train, class_names=names)
        in_memory = replace(run.decoding, folder=None)
        return _Copy(reduced, data, scratch / name, run.accelerator, in_memory, True, group=group)

    kinds = {"few": (1, 1, 1), "wide": (2, 1, 1), "deep": (1, DEEPER, 1), "long": (2, 1, LONGER)}
    return [copy("warm-up", 1, 1, 1), *(copy(name, *kind) for name, kind in kinds.items())]


def _subset(split: ImageSplit, classes: int, per_class: int) -> ImageSplit:
    rows = (np.flatnonzero(split.labels == label)[:per_class] for label in range(classes))
    return split.take(np.concatenate([*rows]))


def _probe(run: Run, networks: Networks) -> tuple[int, bool]:
    """Images that the teacher can take in PATIENCE seconds, and whether it has to be trained."""
    device, rows = run.accelerator.device, range(min(16, len(run.data.train)))
    preprocessing = preprocessing_for(networks.backbone, networks.resolution, NO_NORMALISATION)
    backbone = load_backbone(networks.backbone, run.data.class_names, preprocessing, 0)
    check_accepts(backbone)
    network = FeatureNetwork(backbone.model, preprocessing, device)
    times = [time.perf_counter()]
    some = run.data.train.take(np.arange(len(rows)))  # a store has room for all its images
    images = to_float(PixelStore(some, preprocessing).get(rows), device)
    times.append(time.perf_counter())
    for _ in range(3):
        with torch.no_grad():
            float(network(images, moments=False).logits.sum())  # waits for the device
        times.append(time.perf_counter())
    decode_seconds, *passes = np.diff(times).tolist()
    slowest = max(3 * min(passes), decode_seconds / run.decoding.threads) / len(rows)
    return max(4, int(PATIENCE / slowest)), backbone.origin != "as_is"


def _work(run: Run, networks: Networks, stage: str) -> list[float]:
    """The work of a stage in a run or copy: classes, images, and images summed over all steps."""
    config, data, classes = run.config, run.data, len(run.data.class_names)
    images, train, test = run.images, len(data.train), len(data.eval)
    students, (steps, size) = _students(run, networks), config.evaluate.budget(images)
    images_seen = steps * images / math.ceil(images / size)
    works: dict[str, list[float]] = {
        "teacher": [0, train + test, _training(run)],
        "transport": [classes, train, 0],
        "synthesis": _synthesis(run),
        "nearest": [classes, train, 0],
        "relabel": _labelling(run, networks),
        "evaluate": [students, students * test, students * images_seen],
    }
    return works[stage]


def _synthesis(run: Run) -> list[float]:
    """The work of synthesis: classes, real images that networks look at, and images summed over all
    steps, with those of the networks that are trained for it.
    """
    config, classes, count = run.config.synthesis, len(run.data.class_names), len(run.data.train)
    tried = syntheses(run.config.coding)
    made = config.iterations * run.images
    if config.aim == "any":
        return [tried * work for work in (classes, min(SPACE_SAMPLE * classes, count), made)]
    trained = NETWORKS * config.state_steps * min(BATCH, count)
    looks = min(SPACES, config.iterations) * min(STATE_SAMPLE * classes, count)
    return [tried * classes, tried * looks, tried * made + trained]


def _labelling(run: Run, networks: Networks) -> list[float]:
    """The work of labels: kinds of students that choose, images that are labelled, and images that
    committee and students are trained on.
    """
    config, classes = run.config, len(run.data.class_names)
    images = run.images
    names = candidates(config, networks.resolution)
    labelled = (
        len({*names} - {"none"})
        * images
        * (config.relabel.views + config.label_views.number(images, classes))
    )
    students = short_students(config, networks.resolution)
    steps, batch = short_steps(config, classes), config.evaluate.budget(images)[1]
    trained = students * steps * images / math.ceil(images / batch)
    if "committee" in names:
        trained += config.relabel.committee_steps * min(BATCH, len(run.data.train))
    return [students, labelled, trained]


def _choosing(
    run: Run,
    networks: Networks,
    copies: Sequence[_Copy],
    seconds: Sequence[Mapping[str, float]],
    choice: tuple[int, int],
) -> tuple[float, float]:
    """Seconds of the students that spend a budget, by what those of the evaluation take."""
    works = [_work(copy, networks, "evaluate") for copy in copies]
    students, steps = choice
    batch = run.config.evaluate.budget(run.images)[1]
    work = [students, students * min(HELD_OUT, len(run.data.train)), steps * batch]
    _, shared = _seconds([each["evaluate"] for each in seconds], works, work)
    return 0.0, shared


def _training(run: Run) -> int:
    """Images that the teacher sees in training."""
    count, teacher = len(run.data.train), run.config.teacher
    return teacher.epochs * (count - count % teacher.batch(count))


def _students(run: Run, networks: Networks) -> int:
    published: tuple[Labels, ...] = ("views", "hard")
    if run.config.relabel.giver == "none":
        published = ("hard",)
    config = run.config.evaluate.with_labels(*published)
    each = len(jobs(config, list(networks.students), run.ipc))
    return config.enabled * each * len(set(config.optimizers))


def _seconds(
    times: Sequence[float], works: Sequence[Sequence[float]], full_work: Sequence[float]
) -> tuple[float, float]:
    """Constant seconds of every process, and seconds that the processes share."""
    fit = lsq_linear([[1.0, *work] for work in works], times, (0, np.inf), method="bvls")
    constant, *rates = fit.x.tolist()
    return constant, float(np.dot(rates, full_work))


def _share(run: Run, networks: Networks, stage: str, processes: int) -> float:
    """The busiest process's share of the work."""
    if stage == "teacher":
        return 1 / processes
    sizes = [len(unit.classes) for unit in run.units]
    sizes = [1] * max(1, _students(run, networks)) if stage in ("evaluate", "budget") else sizes
    return max(sum(sizes[index::processes]) for index in range(processes)) / sum(sizes)


def _disk(run: Run, networks: Networks, narrow: Run, wide: Run) -> Sizes:
    """Extrapolate the sizes of files from two copies with different numbers of classes."""
    config, classes = run.config, len(run.data.class_names)
    counts = [len(copy.data.class_names) for copy in (wide, narrow)]
    images = run.images / narrow.ipc

    def extrapolate(pattern: str, growth: float = 1.0) -> float:
        large, small = (
            sum(path.stat().st_size for path in copy.folder.glob(pattern) if path.is_file())
            for copy in (wide, narrow)
        )
        per_class = max(0.0, (large - small) / (counts[0] - counts[1]))
        return max(0.0, small - per_class * counts[1]) + per_class * images * growth

    count = config.label_views.number(run.images, classes)
    views = count * extrapolate("publish/*/soft_labels/*")
    views = min(views, config.label_views.budget or views)
    labels = 4 * run.images * (classes - counts[1])  # longer than the copies'
    published = extrapolate("publish/**/*", PNG_GROWTH) + labels + views
    return Sizes(
        run=round(extrapolate("**/*") + 2 * labels + 3 * views),
        published=round(published),
        label_views=round(views),
        pixels=sum(
            file_bytes(len(s), networks.resolution) for s in (run.data.train, run.data.eval)
        ),
    )


def _images_in_memory(run: Run, networks: Networks) -> int:
    """Bytes of the decoded splits and of the distilled images in memory."""
    splits = len(run.data.train), len(run.data.eval)
    images = sum(count for count in splits if not file_bytes(count, networks.resolution))
    images += COPIES * run.images
    return images * 3 * networks.resolution**2
