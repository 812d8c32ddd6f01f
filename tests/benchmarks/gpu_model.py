"""A model of a run on H100 GPUs: ImageNet-1K, a pretrained ResNet-18, 10 and 50 images per class.

    PYTHONPATH=.:tests python -m tests.benchmarks.gpu_model [--cores 32] [--barycenters 16] [-o F]

No GPU is needed and none was asked: the operations of each stage's steps, their bytes and what the
host does are counted on the pretended device (tests/helpers/pretend.py) and priced by the table of
assumptions below. It is a model, not a measurement, and may be wrong by 50 % either way: kernels
differ in how near they come to the memory's bandwidth, hosts in how fast they start them. It shows
what a run waits for, and which change would pay.

A step takes as long as the slower one of host and device, and what each wait costs. Stages that
several processes share are as long as the largest share. Stages follow each other as in a run; real
images are all decoded in the first. Decoding is taken to be as many times as fast as there are
cores. Left out are starting, loading the network, the dataset's own files, and whatever else takes
seconds once.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path

import click
from accelerate import Accelerator
from helpers.counts import Count, CountedStages, of_images, per_step
from helpers.pretend import NAME, install, pretended

from wdistill.config import LabelViewsConfig, RunConfig, StudentConfig
from wdistill.core.settings import Precision
from wdistill.core.units import class_units
from wdistill.data.pixels.store import MOST_WORKERS
from wdistill.data.pixels.workers import TASK, THREADS
from wdistill.labels.codec import _SHARD_LOGITS
from wdistill.pipeline.choices.givers import short_steps, short_students
from wdistill.pipeline.choices.short import HELD_OUT, KINDS
from wdistill.pipeline.stages.transport import SURVEY_BATCH
from wdistill.synthesis.targets import SPACE_SAMPLE

ERROR = 0.5
CLASSES, TRAIN, TEST, SIZE = 1000, 1_281_167, 50_000, 224
IMAGE_BYTES = 3 * SIZE**2
MOST_THREADS = 16  # of a process for barycenters, or for labels
TEST_BATCH, NEAREST_BATCH, SOFT_BATCH, VIEW_BATCH = 256, 512, 128, 256
TARGETS = {1: 0.5, 8: 0.1}  # hours at 10 images per class, by GPUs


@dataclass(frozen=True)
class Price:
    value: float
    unit: str
    source: str


PRICES = {
    "memory bandwidth": Price(3.35e12, "B/s", "data sheet, H100 SXM"),
    "of it reached": Price(0.75, "", "assumption"),
    "TF32 products": Price(494e12, "FLOP/s", "data sheet, H100 SXM, dense"),
    "of them reached": Price(0.3, "", "assumption: convolutions of 64 to 512 channels"),
    "kernel": Price(3e-6, "s", "assumption: shortest kernel and the gap before it"),
    "dispatch": Price(5e-6, "s", "assumption: PyTorch's eager mode takes 3 to 10 µs"),
    "wait": Price(100e-6, "s", "assumption: until the device has its next work"),
    "host copy": Price(
        10e9, "B/s", "gathering, one core: 16 measured beside other work; pinning: assumption"
    ),
    "JPEG": Price(1 / 1.59e-3, "images/s and core", "measured, section Decoding"),
    "Python of a JPEG": Price(
        0.166e-3, "s/image", "0.21 by a profile; 0.79 times as much now: section Decoding"
    ),
    "JPEG in processes": Price(
        1.12, "", "times as many seconds of the processor as in threads; section Decoding"
    ),
    "task of a process": Price(0.14e-3, "s/task", "measured beside other work; section Decoding"),
    "disk": Price(3e9, "B/s", "assumption: one NVMe disk, which takes what is decoded"),
    "hash": Price(3.4e-6, "s/image", "measured on one core"),
    "barycenter, IPC 10": Price(0.907, "s/class", "measured, section Transport, one core"),
    "barycenter, IPC 50": Price(1.365, "s/class", "measured, section Transport, one core"),
    "WebP": Price(16e-3, "s/image and core", "measured, drawn images, quality 60"),
    "WebP read": Price(0.6e-3, "s/image and core", "measured, one core"),
    "rounding of labels": Price(0.08e-6, "s/logit", "measured, one core, 10^7 drawn logits"),
    "coding of labels": Price(0.31e-6, "s/logit", "measured, one core, 10^7 drawn logits"),
}


def price(name: str) -> float:
    return PRICES[name].value


@dataclass(frozen=True)
class Host:
    """gpus: as many processes; barycenters: that each computes at the same time, if it has as many
    cores.
    """

    gpus: int
    cores: int
    barycenters: int = 1

    @property
    def threads(self) -> int:
        """That code labels or compute barycenters, in each process: as `own_cores` chooses."""
        return max(1, min(MOST_THREADS, self.cores // self.gpus))

    @property
    def at_once(self) -> int:
        return min(self.barycenters, self.threads)


@dataclass(frozen=True)
class Time:
    """Seconds that pass, and in which the device of a process works."""

    elapsed: float = 0.0
    device: float = 0.0

    def __add__(self, other: Time) -> Time:
        return Time(self.elapsed + other.elapsed, self.device + other.device)

    def __mul__(self, factor: float) -> Time:
        return Time(factor * self.elapsed, factor * self.device)


def device_seconds(count: Count) -> float:
    """As if kernels started one after the other, computed, and then moved their bytes."""
    moved = count.bytes / (price("memory bandwidth") * price("of it reached"))
    computed = count.flops / (price("TF32 products") * price("of them reached"))
    return count.kernels * price("kernel") + moved + computed


def host_seconds(count: Count) -> float:
    return count.dispatched * price("dispatch")


def time_of(count: Count, images: float = 0.0) -> Time:
    """Of a step that is given so many real images by the host."""
    device = device_seconds(count)
    host = host_seconds(count) + 2 * images * IMAGE_BYTES / price("host copy")
    return Time(max(host, device) + count.waits * price("wait"), device)


def host_work(seconds: float) -> Time:
    return Time(seconds, 0.0)


@dataclass(frozen=True)
class Counts:
    """Of steps at 224 px. synthesis: of 100 images, by images per class; survey: of a class;
    target: of a class, in all networks of the pool; nearest: of a class; soft and views: of a
    batch; test: of a batch; student: of 128 images, by network and whether views are replayed.
    """

    synthesis: dict[int, Count]
    survey: Count
    target: Count
    nearest: Count
    soft: dict[int, Count]
    views: Count
    test: Count
    student: dict[str, Count]


def _said(name: str, size: int) -> None:
    print(f"counting {name} at {size} px", file=sys.stderr, flush=True)


def _extrapolated(
    name: str, stage: str, images: int, size: int = SIZE, precision: str = "no"
) -> Count:
    """A step of ``images`` of network ``name``, from steps of two small numbers of images."""
    _said(f"{stage} of {name}", size)
    steps = []
    for count in (2, 4):
        with pretended():
            accelerator = Accelerator(mixed_precision=precision)
            stages = CountedStages(size, count, name, accelerator)
        steps.append((count, per_step(getattr(stages, stage))))
    return of_images(steps[0], steps[1], images)


def _per_class(precision: str) -> Count:
    """What each further class adds to a step of synthesis of as many images."""
    found = []
    for classes in (2, 4):
        with pretended():
            accelerator = Accelerator(mixed_precision=precision)
            stages = CountedStages(16, 8, "resnet10-w16", accelerator, classes)
        found.append(per_step(stages.synthesis))
    return replace((found[1] - found[0]) * 0.5, bytes=0, flops=0)


def count_all(size: int, network: str, config: RunConfig) -> Counts:
    """Count the steps of all stages with ``network`` as teacher and student."""
    precision = config.mixed_precision
    count = partial(_extrapolated, network, size=size, precision=precision)
    images = config.synthesis.images_per_step
    synthesis, each = count("synthesis", images), _per_class(precision)
    batches, last = divmod(TRAIN / CLASSES, SURVEY_BATCH)
    survey = count("survey", SURVEY_BATCH)  # three batches
    networks, parts = config.synthesis.pool()[0][1], ceil(SPACE_SAMPLE / SURVEY_BATCH)
    target = count("target", SPACE_SAMPLE // parts) * (networks * parts)
    kinds = {name: _extrapolated(name, "student", 128, size, precision) for name in KINDS}
    return Counts(
        synthesis={ipc: synthesis + each * (images // ipc - 2) for ipc in (10, 50)},
        survey=replace(survey * ((batches + last / SURVEY_BATCH) / 3), waits=survey.waits),
        target=replace(target, waits=target.waits / parts),
        nearest=count("nearest", NEAREST_BATCH) * (TRAIN / CLASSES / NEAREST_BATCH),
        soft={ipc: count("soft", ipc) for ipc in (10, 50)},
        views=count("views", images),
        test=count("forward", TEST_BATCH),
        student={"own": count("student", 128), "replay": count("replay", 128), **kinds},
    )


def _shared(pieces: int, host: Host) -> int:
    """Of equal pieces of work, those that the busiest process takes."""
    return ceil(pieces / host.gpus)


def _tested(counts: Counts, images: int) -> Time:
    return time_of(counts.test, TEST_BATCH) * (images / TEST_BATCH)


def _pixels(host: Host) -> Time:
    """All images are decoded, written, read again and compared, in all processes together. Nothing
    is surveyed beside it: copies that stand in both splits have to be known before.

    As long as the longest of: decoding by the workers; the main thread, which reads and compares;
    both of them on all cores; the disk. Up to THREADS workers are threads, which also wait for each
    other and for the main thread where they run Python.
    """
    images, cores = (TRAIN + TEST) / host.gpus, host.cores / host.gpus
    workers = max(1, min(MOST_WORKERS, int(cores)))
    decoding = images / price("JPEG")
    main = images * (2 * IMAGE_BYTES / price("host copy") + price("hash"))
    python = images * (price("Python of a JPEG") + price("hash"))
    if workers > THREADS:
        decoding *= price("JPEG in processes")
        main += images / TASK * price("task of a process")
        python = 0.0
    both = (decoding + main) / max(1, cores)
    written = (TRAIN + TEST) * IMAGE_BYTES / price("disk")
    return host_work(max(decoding / workers, main, python, both, written))


def _transport(counts: Counts, ipc: int, host: Host) -> Time:
    """One barycenter is computed beside the survey of the next class of its unit; several at once
    beside that of the next units, too.
    """
    units = class_units(CLASSES, ipc, RunConfig().synthesis.images_per_step)
    classes, shares = len(units[0].classes), _shared(len(units), host)
    survey = time_of(counts.survey, TRAIN / CLASSES)
    one = price(f"barycenter, IPC {ipc}")
    if host.at_once == 1:
        of_unit = survey.elapsed + max(survey.elapsed, one) * (classes - 1) + one
        return Time(of_unit, survey.device * classes) * shares
    number = classes * shares
    elapsed = max(survey.elapsed * number, one * ceil(number / host.at_once)) + one
    return Time(elapsed, survey.device * number)


def _synthesis(counts: Counts, ipc: int, config: RunConfig, host: Host) -> Time:
    units = class_units(CLASSES, ipc, config.synthesis.images_per_step)
    targets = time_of(counts.target, SPACE_SAMPLE) * len(units[0].classes)
    steps = time_of(counts.synthesis[ipc]) * config.synthesis.iterations
    return (targets + steps) * _shared(len(units), host)


def _files(coded: float, read: float, host: Host) -> Time:
    """A process codes and reads so many images on its cores."""
    return host_work((coded * price("WebP") + read * price("WebP read")) * host.gpus / host.cores)


def _nearest(counts: Counts, ipc: int, host: Host) -> Time:
    of_class = time_of(counts.nearest, TRAIN / CLASSES) + _files(ipc, ipc, host)
    return of_class * _shared(CLASSES, host)


def _labels(counts: Counts, ipc: int, config: RunConfig, host: Host) -> Time:
    """Files of the images, both kinds of labels and their files, and the short students that
    choose. Files are shared out; each process reads all images, and rounds all labels.
    """
    images, units = ipc * CLASSES, class_units(CLASSES, ipc, config.synthesis.images_per_step)
    batches = ceil(ipc / SOFT_BATCH)
    soft = time_of(counts.soft[ipc]) * (config.relabel.views * batches)
    views = LabelViewsConfig().number(images, CLASSES)
    stored = time_of(counts.views) * views
    of_unit = soft * len(units[0].classes) + stored
    logits = images * views * CLASSES
    files = _shared(ceil(logits / _SHARD_LOGITS), host)
    coding = ceil(files / host.threads) * _SHARD_LOGITS * price("coding of labels")
    coding += logits * price("rounding of labels")
    trials = Time()
    for kind in KINDS:
        trials += time_of(counts.student[kind]) * short_steps(config, CLASSES)
        trials += _tested(counts, HELD_OUT)
    students = _shared(short_students(config, SIZE), host) / len(KINDS)
    made = _files(images / host.gpus, images, host) + host_work(coding)
    return made + of_unit * _shared(len(units), host) + trials * students


def _evaluation(counts: Counts, ipc: int, host: Host) -> Time:
    """Distilled and random images, labels of views and hard ones, each by so many seeds; random
    images go through the same files, and their views are labelled alike, first.
    """
    config, images = StudentConfig(), ipc * CLASSES
    steps, batch = config.budget(images)
    scale = batch / 128
    views = LabelViewsConfig().number(images, CLASSES)
    alike = time_of(counts.views) * (views * images / 100)
    alike += host_work(images * views * CLASSES * price("rounding of labels"))
    replayed, hard = (time_of(counts.student[n]) * (scale * steps) for n in ("replay", "own"))
    tests = _tested(counts, TEST) * 4
    of_seed = replayed * 2 + hard * 2 + tests + alike + _files(images, images, host) * 2
    return of_seed * (_shared(4 * config.seeds, host) / 4)


def stages_of(counts: Counts, ipc: int, host: Host) -> dict[str, Time]:
    """Seconds of each stage of a run with the default settings."""
    config = RunConfig()
    config = replace(config, barycenter=replace(config.barycenter, ipc=ipc))
    return {
        "pixels": _pixels(host),
        "teacher": _tested(counts, TEST) * (1 / host.gpus),
        "transport": _transport(counts, ipc, host),
        "synthesis": _synthesis(counts, ipc, config, host),
        "nearest": _nearest(counts, ipc, host),
        "relabel": _labels(counts, ipc, config, host),
        "evaluate": _evaluation(counts, ipc, host),
    }


def total(stages: dict[str, Time]) -> Time:
    return sum(stages.values(), Time())


def prices_table() -> list[str]:
    rows = [f"| {name} | {p.value:.4g} {p.unit} | {p.source} |" for name, p in PRICES.items()]
    return ["| assumption | value | source |", "|---|---:|---|", *rows]


def steps_table(counts: Counts) -> list[str]:
    named = {
        **{f"synthesis, IPC {ipc}": c for ipc, c in counts.synthesis.items()},
        "survey of a class": counts.survey,
        "targets of a class": counts.target,
        "nearest of a class": counts.nearest,
        "student, hard labels": counts.student["own"],
        "student, views": counts.student["replay"],
        **{f"student {name}": counts.student[name] for name in KINDS},
        "test, 256 images": counts.test,
    }
    lines = [
        "| step | kernels | GB | TFLOP | dispatched | waits | device, ms | host, ms |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, c in named.items():
        device, host = 1000 * device_seconds(c), 1000 * host_seconds(c)
        lines.append(
            f"| {name} | {c.kernels:.0f} | {c.bytes / 1e9:.1f} | {c.flops / 1e12:.2f} | "
            f"{c.dispatched:.0f} | {c.waits:.0f} | {device:.1f} | {host:.1f} |"
        )
    return lines


def hours_table(counts: Counts, cores: int, barycenters: int) -> list[str]:
    cases = [(ipc, gpus) for ipc in (10, 50) for gpus in (1, 8)]
    columns = [stages_of(counts, ipc, Host(gpus, cores, barycenters)) for ipc, gpus in cases]
    heads = [f"IPC {ipc}, {gpus} GPU{'s' if gpus > 1 else ''}" for ipc, gpus in cases]
    lines = ["| seconds (device busy) | " + " | ".join(heads) + " |", "|---|" + "---:|" * 4]

    def cell(time: Time) -> str:
        return f"{time.elapsed:,.0f} ({time.device / time.elapsed:.0%})"

    for stage in columns[0]:
        lines.append(f"| {stage} | " + " | ".join(cell(c[stage]) for c in columns) + " |")
    sums = [total(column) for column in columns]
    lines.append("| all | " + " | ".join(map(cell, sums)) + " |")
    hours = [f"{time.elapsed / 3600:.2f}" for time in sums]
    return [*lines, "| hours, ± 50 % | " + " | ".join(hours) + " |"]


def verdicts(counts: Counts, cores: int, barycenters: int) -> list[str]:
    """Whether the targets are met, and what takes longest."""
    lines = []
    for gpus, target in TARGETS.items():
        stages = stages_of(counts, 10, Host(gpus, cores, barycenters))
        hours = total(stages).elapsed / 3600
        longest = sorted(stages, key=lambda name: -stages[name].elapsed)[:2]
        shares = " and ".join(
            f"{name} ({stages[name].elapsed / 3600 / hours:.0%})" for name in longest
        )
        met = "met" if hours <= target else "not met"
        lines.append(
            f"{gpus} H100, {cores} cores, IPC 10, barycenters at once: {barycenters} (at most one "
            f"a core): {hours:.2f} h (± {ERROR:.0%}); the target of {target} h is "
            f"{met} by the model; longest: {shares}"
        )
    return lines


@click.command()
@click.option("--size", default=SIZE, show_default=True, help="Pixels at which steps are counted.")
@click.option("--network", default="resnet18", show_default=True)
@click.option("--cores", default=32, show_default=True)
@click.option(
    "--barycenters", default=16, show_default=True, help="That a process computes at once."
)
@click.option("--mixed-precision", "precision", default="no", type=click.Choice(["no", "bf16"]))
@click.option("--counts", "given", type=click.Path(path_type=Path), help="Of an earlier --output.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON of the counts.")
def main(
    size: int, network: str, cores: int, barycenters: int, precision: Precision,
    given: Path | None, output: Path | None,
) -> None:  # fmt: skip
    if given:
        counts = read_counts(given)
    else:
        install()
        os.environ["ACCELERATE_TORCH_DEVICE"] = f"{NAME}:0"
        counts = count_all(size, network, RunConfig(mixed_precision=precision))
    if output:
        output.write_text(json.dumps(asdict(counts), indent=1) + "\n")
    for part in (prices_table(), steps_table(counts), hours_table(counts, cores, barycenters)):
        print("\n".join(part) + "\n")
    for at_once in sorted({barycenters, MOST_THREADS}):
        print("\n".join(verdicts(counts, cores, at_once)))
    sys.stdout.flush()
    os._exit(0)  # PyTorch ends badly with tensors of a backend in Python


def read_counts(path: Path) -> Counts:
    values = json.loads(path.read_text())
    single = {name: Count(**v) for name, v in values.items() if "kernels" in v}
    student = {name: Count(**v) for name, v in values["student"].items()}
    by_ipc = {
        name: {int(ipc): Count(**v) for ipc, v in values[name].items()}
        for name in ("synthesis", "soft")
    }
    return Counts(**single, **by_ipc, student=student)


if __name__ == "__main__":
    main()
