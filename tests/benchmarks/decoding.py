"""Decoding of real images: images per second, and how often a whole run decodes each.

    python tests/benchmarks/decoding.py PHOTOS [--images 10000] [--threads 1 2 4] [--processes 2 4]
                                         [--turns 1] [--rates-only]

PHOTOS is a dataset of large JPEG files, such as a folder of parquet files. Seconds are those of the
processor, which others that use the machine change little. With lock.c, which tells how, also those
of them in which no other thread can run Python.
"""

from __future__ import annotations

import argparse
import ctypes
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wdistill.config import (
    BarycenterConfig,
    DataConfig,
    RunConfig,
    RuntimeConfig,
    StudentConfig,
    SynthesisConfig,
    TeacherConfig,
)
from wdistill.core.devices import keep_freed_memory
from wdistill.data.content.leaks import BATCH
from wdistill.data.dataset import load_data
from wdistill.data.pixels import Decoding, PixelStore, Preprocessing, kept
from wdistill.data.splits import ImageSplit
from wdistill.pipeline.run import run

SEEN = Preprocessing(224, 256, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def without_lock() -> float | None:
    """Seconds of the processor so far without Python's lock; None where lock.c is not loaded."""
    try:
        seconds = ctypes.PyDLL(None).seconds_without_lock
    except AttributeError:
        return None
    seconds.restype = ctypes.c_double
    return float(seconds())


def used() -> tuple[float, float]:
    """Seconds of the processor so far: of this process, and of those that it has started and seen
    end.
    """
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time(), children.ru_utime + children.ru_stime


def rate(split: ImageSplit, workers: int, processes: bool) -> str:
    began, ours, free = time.perf_counter(), used(), without_lock()
    with tempfile.TemporaryDirectory() as folder:
        decoding = Decoding(Path(folder), workers, processes=workers if processes else 0)
        for _ in PixelStore(split, SEEN, decoding).batches(range(len(split)), BATCH):
            pass
    wall, count = time.perf_counter() - began, len(split)
    parent, children = (after - before for after, before in zip(used(), ours, strict=True))
    kind, held = "processes" if processes else "threads", ""
    if processes:
        held = f", {1000 * parent / count:.3f} of them in the process that started them"
    elif free is not None:
        held = f", {1000 * (parent - (without_lock() or 0.0) + free) / count:.3f} of them in Python"
    return (
        f"{workers} {kind}: {count / wall:.0f} images/s, {1000 * (parent + children) / count:.3f} "
        f"ms of CPU each{held}"
    )


def decodes_of_a_run(photos: str) -> Counter[Any]:
    """How often a run decodes each image; few steps, since these decode nothing."""
    decoded, images = Counter[Any](), ImageSplit.images

    def counted(split: ImageSplit, rows: Sequence[int]) -> Any:
        decoded.update((split.name, position) for position in split.rows[rows].tolist())
        return images(split, rows)

    ImageSplit.images = counted  # type: ignore[assignment,method-assign]
    config = RunConfig(
        data=DataConfig(dataset=photos, resolution=32),
        teacher=TeacherConfig(backbone="convnet-w64", epochs=2, allow_weak=True),
        barycenter=BarycenterConfig(ipc=1),
        synthesis=SynthesisConfig(iterations=2, feature_spaces=("none",)),
        evaluate=StudentConfig(epochs=1, seeds=2),
    )
    with tempfile.TemporaryDirectory() as folder:
        threads = RuntimeConfig("cpu", num_workers=4, quiet=True)  # of this process, which counts
        run(config, threads, Path(folder, "run"), "")
    return decoded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--rates-only", action="store_true")
    options = parser.parse_args()
    keep_freed_memory()  # as a run does
    kept.MEMORY_BYTES = 0  # else few images, or those at a low resolution, would fit into memory
    split = load_data(DataConfig(dataset=options.photos), 0, 1).train
    split = split.take(np.arange(min(options.images, len(split))))
    for _ in range(options.turns):
        for processes, numbers in enumerate((options.threads, options.processes)):
            for workers in numbers:
                print(rate(split, workers, bool(processes)), flush=True)
    if options.rates_only:
        return
    decoded = decodes_of_a_run(options.photos)
    each = sum(decoded.values()) / len(decoded)
    print(f"a run decodes {len(decoded)} images {each:.2f} times each")


if __name__ == "__main__":
    main()
