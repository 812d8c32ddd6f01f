"""Small real runs for tests: images from the embedded subset, settings that take seconds."""

from __future__ import annotations

import contextlib
import io
import signal
import subprocess
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import transformers
from PIL import Image

import wdistill
from helpers.environment import environment
from wdistill.artifact.layout import one_set

EMBEDDED = Path(wdistill.__file__).parent / "data/embedded"
QUICK = (
    "--ipc", "2", "--iterations", "6", "--eval-epochs", "3", "--eval-seeds", "1",
    "--teacher-epochs", "3", "--feature-spaces", "convnet-w64:2",
    "--label-giver", "teacher", "--label-views", "0",
)  # fmt: skip


def embedded_table(split: str, per_class: int, classes: int = 10) -> pa.Table:
    """The first ``per_class`` real images of each of the first classes."""
    table = pq.read_table(EMBEDDED / f"fashion-mnist-{split}.parquet")
    labels = table["label"].to_numpy()
    rows = np.concatenate([np.flatnonzero(labels == c)[:per_class] for c in range(classes)])
    return table.take(pa.array(np.sort(rows)))


def small_source(folder: Path, per_class: int = 60, classes: int = 10) -> Path:
    """A folder of parquet files with the train and test splits of a small real dataset."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", per_class), ("test", 20)):
        pq.write_table(embedded_table(split, count, classes), folder / f"{split}.parquet")
    return folder


def with_copies(folder: Path, count: int = 3) -> Path:
    """The same dataset with its first training images, encoded anew, in the test split too."""
    first = pq.read_table(folder / "train.parquet").slice(0, count).to_pylist()
    test = pq.read_table(folder / "test.parquet")
    for row in first:
        file = io.BytesIO()
        with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
            image.save(file, "WEBP", lossless=True)
        row["image"] = {"bytes": file.getvalue(), "path": None}
    rows = pa.Table.from_pylist(first, schema=test.schema)
    pq.write_table(pa.concat_tables([rows, test]), folder / "test.parquet")
    return folder


def wdistill_command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "wdistill", *map(str, arguments)]


def one_thread() -> dict[str, str]:
    """Environment for runs that are compared bit by bit, offline."""
    return environment(HF_HUB_OFFLINE="1")


def run_wdistill(
    *arguments: str | Path,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 600,
) -> subprocess.CompletedProcess[str]:
    """The command with ``arguments``: in this process, which has imported what it needs, unless it
    has an environment of its own or starts other processes.
    """
    if env is None and "--num-processes" not in arguments:
        return _run_here(list(map(str, arguments)), cwd or Path())
    return subprocess.run(
        wdistill_command(*arguments),
        env=env or one_thread(),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def _run_here(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """What the process would print and its exit code; the state of this one stays as it was."""
    from wdistill.cli.main import main

    code, out, errors = 0, io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    argv, hook = sys.argv, sys.unraisablehook
    try:
        with contextlib.chdir(cwd), redirect_stdout(out), redirect_stderr(errors):
            sys.argv = ["wdistill", *arguments]
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:  # with --debug
        code = 1
        traceback.print_exc(file=errors)
    finally:
        sys.argv, sys.unraisablehook = argv, hook
        for number, handler in handlers.items():
            signal.signal(number, handler)
        datasets.enable_progress_bars()
        transformers.logging.enable_progress_bar()
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), errors.getvalue())


def parquet_bytes(run: Path) -> bytes:
    return (one_set(run) / "data" / "train-00000-of-00001.parquet").read_bytes()
