"""Decoding of real images: images per second, and how often a whole run decodes each.

    python tests/benchmarks/decoding.py PHOTOS [--images 10000] [--threads 1 2 4]

PHOTOS is a dataset of large JPEG files, such as a folder of parquet files. Seconds are those of the
processor, which others that use the machine change little. With lock.c, which tells how, also those
of them in which no other thread can run Python.
"""

from __future__ import annotations

import argparse
import ctypes
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


def rate(split: ImageSplit, threads: int) -> str:
    began, used, free = time.perf_counter(), time.process_time(), without_lock()
    with tempfile.TemporaryDirectory() as folder:
        store = PixelStore(split, SEEN, Decoding(Path(folder), threads))
        for _ in store.batches(range(len(split)), 256):
            pass
    wall, used = time.perf_counter() - began, time.process_time() - used
    count, held = len(split), ""
    if free is not None:
        held = f", {1000 * (used - (without_lock() or 0.0) + free) / count:.3f} of them in Python"
    return (
        f"{threads} threads: {count / wall:.0f} images/s, {1000 * used / count:.2f} ms of CPU "
        f"each{held}"
    )


def decodes_of_a_run(photos: str) -> Counter[Any]:
    """How often a run decodes each image; few steps, since these decode nothing."""
    decoded, images = Counter[Any](), ImageSplit.images

    def counted(split: ImageSplit, rows: Sequence[int]) -> Any:
        decoded.update((split.name, position) for position in split.rows[rows].tolist())
        return images(split, rows)

    ImageSplit.images = counted  # type: ignore[assignment,method-assign]
    kept.MEMORY_BYTES = 0  # at this resolution they would fit into memory, at 224 px they do not
    config = RunConfig(
        data=DataConfig(dataset=photos, resolution=32),
        teacher=TeacherConfig(backbone="convnet-w64", epochs=2, allow_weak=True),
        barycenter=BarycenterConfig(ipc=1),
        synthesis=SynthesisConfig(iterations=2, feature_spaces=("none",)),
        evaluate=StudentConfig(epochs=1, seeds=2),
    )
    with tempfile.TemporaryDirectory() as folder:
        run(config, RuntimeConfig("cpu", quiet=True), Path(folder, "run"), "")
    return decoded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4])
    options = parser.parse_args()
    split = load_data(DataConfig(dataset=options.photos), 0, 1).train
    for threads in options.threads:
        print(rate(split.take(np.arange(min(options.images, len(split)))), threads), flush=True)
    decoded = decodes_of_a_run(options.photos)
    each = sum(decoded.values()) / len(decoded)
    print(f"a run decodes {len(decoded)} images {each:.2f} times each")


if __name__ == "__main__":
    main()
