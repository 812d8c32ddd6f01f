"""Processes decode what threads decode: the same pixels, errors of one line, and none is left."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from wdistill.config import DataConfig
from wdistill.data.dataset import load_data
from wdistill.data.pixels import Decoding, PixelStore, Preprocessing, kept
from wdistill.data.pixels.workers import processes_pay
from wdistill.data.splits import ImageSplit
from wdistill.errors import DataError, ProcessError, RunFolderError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux")

PLAIN = Preprocessing(28, 28, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
COUNT = 200


@pytest.fixture(scope="module")
def split() -> ImageSplit:
    return load_data(DataConfig(), 0, 1).eval.take(torch.arange(COUNT).numpy())


@pytest.fixture
def decoding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Decoding]:
    """Even the smallest split is kept in a file, and decoded by two processes."""
    monkeypatch.setattr(kept, "MEMORY_BYTES", 0)
    yield Decoding(tmp_path / "pixels", processes=2)
    for child in multiprocessing.active_children():
        child.terminate()


class Decodes:
    """Which process has decoded which rows, told by a file that all of them append to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def add(self, rows: Sequence[int]) -> None:
        with self.path.open("a") as file:
            file.write("".join(f"{os.getpid()} {row}\n" for row in rows))

    def read(self) -> list[list[int]]:
        return [[*map(int, line.split())] for line in self.path.read_text().splitlines()]

    def of_rows(self) -> Counter[int]:
        return Counter(row for _, row in self.read())

    def processes(self) -> set[int]:
        return {process for process, _ in self.read()}


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Decodes:
    result, images = Decodes(tmp_path / "decodes"), ImageSplit.images

    def counted(split: ImageSplit, rows: Sequence[int]) -> Any:
        result.add(split.rows[rows].tolist())
        return images(split, rows)

    monkeypatch.setattr(ImageSplit, "images", counted)
    return result


def killed_at(row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a system that is short of memory, in the middle of a task."""
    images, test = ImageSplit.images, os.getpid()

    def until(split: ImageSplit, rows: Sequence[int]) -> Any:
        for position, image in zip(rows, images(split, rows), strict=True):
            if position == row and os.getpid() != test:
                os.kill(os.getpid(), signal.SIGKILL)
            yield image

    monkeypatch.setattr(ImageSplit, "images", until)


def test_the_pixels_are_those_of_threads_and_each_image_is_decoded_once(
    split: ImageSplit, decoding: Decoding, decodes: Decodes, tmp_path: Path
) -> None:
    rows = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
    everything, state = [], torch.get_rng_state()
    for processes, folder in ((0, "threads"), (2, "two"), (3, "three")):
        where = tmp_path / folder
        ours = replace(decoding, folder=where, processes=processes)
        store = PixelStore(split, PLAIN, ours)
        before = len(decodes.read())
        everything.append(torch.cat([*store.batches(rows, 23), *store.batches(rows[:50], 7)]))
        assert Counter(row for _, row in decodes.read()[before:]) == Counter(range(COUNT))
        assert len({process for process, _ in decodes.read()[before:]}) == max(1, processes)
        files = [path.read_bytes() for path in where.glob("*.pixels")]
        assert files == [split_bytes(split)]
        assert not multiprocessing.active_children()
    assert os.getpid() in decodes.processes()  # those of threads
    assert all(torch.equal(pixels, everything[0]) for pixels in everything)
    assert torch.equal(torch.get_rng_state(), state)


def split_bytes(split: ImageSplit) -> bytes:
    pixels = b"".join(PLAIN(split.image(row)).numpy().tobytes() for row in range(COUNT))
    return pixels + b"\1" * COUNT


def test_callers_at_the_same_time_get_their_own_pixels(
    split: ImageSplit, decoding: Decoding
) -> None:
    store = PixelStore(split, PLAIN, decoding)
    one, other = store.batches(range(COUNT), 8), store.batches(range(COUNT - 1, -1, -1), 8)
    both = [*zip(one, other, strict=True)]
    forward, backward = (torch.cat(parts) for parts in zip(*both, strict=True))
    assert torch.equal(forward, PixelStore(split, PLAIN).get(range(COUNT)))
    assert torch.equal(backward, forward.flip(0))
    assert not multiprocessing.active_children()


def test_few_images_and_those_in_memory_are_decoded_by_threads(
    split: ImageSplit, decoding: Decoding, decodes: Decodes
) -> None:
    PixelStore(split, PLAIN, decoding).get(range(127))  # less than 64 for each
    PixelStore(split, PLAIN, replace(decoding, folder=None)).get(range(COUNT))
    assert decodes.processes() == {os.getpid()}


def test_none_is_left_when_a_caller_stops_early(split: ImageSplit, decoding: Decoding) -> None:
    batches = PixelStore(split, PLAIN, decoding).batches(range(COUNT), 8)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


def test_a_broken_image_is_the_line_that_it_is_with_threads(
    split: ImageSplit, decoding: Decoding
) -> None:
    cells = [{"bytes": b"\xff\xd8\xff no photograph", "path": "a.jpg"}] * COUNT
    column = datasets.Dataset.from_dict(
        {split.column: cells}, features=datasets.Features({split.column: datasets.Image()})
    ).cast_column(split.column, datasets.Image(decode=False))
    broken, lines = replace(split, dataset=column, fingerprint="broken"), []
    for processes in (0, 2):
        store = PixelStore(broken, PLAIN, replace(decoding, processes=processes))
        with pytest.raises(DataError) as error:
            store.get(range(COUNT))
        lines.append(str(error.value))
        assert not multiprocessing.active_children()
    assert lines[0] == lines[1]
    assert "row 0 of split" in lines[1]
    assert "a.jpg" in lines[1]
    assert "\n" not in lines[1]


@pytest.mark.parametrize("place", ["files", "archive", "table"])
def test_images_are_read_from_wherever_they_lie(
    split: ImageSplit, decoding: Decoding, decodes: Decodes, tmp_path: Path, place: str
) -> None:
    """Also where this process has opened the same archive or table before."""
    files = [split.dataset[row][split.column]["bytes"] for row in split.rows.tolist()]
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for row, content in enumerate(files):
            (tmp_path / f"{row}.png").write_bytes(content)
            archive.writestr(f"{row}.png", content)
    paths = {
        "files": f"{tmp_path}/{{}}.png",
        "archive": f"zip://{{}}.png::{tmp_path}/images.zip",
    }
    cells = [
        {"bytes": None, "path": paths[place].format(row)} if place in paths else {"bytes": content}
        for row, content in enumerate(files)
    ]
    kind = datasets.Features({split.column: datasets.Image(decode=False)})
    rows = datasets.Dataset.from_dict({split.column: cells}, features=kind)
    rows.save_to_disk(tmp_path / "saved")
    dataset = datasets.load_from_disk(tmp_path / "saved")  # mapped into memory
    stored = replace(split, dataset=dataset, fingerprint=place)
    assert stored.image(7).size == (28, 28)
    before = decodes.processes()
    pixels = PixelStore(stored, PLAIN, decoding).get(range(COUNT))
    assert torch.equal(pixels, PixelStore(split, PLAIN).get(range(COUNT)))
    assert len(decodes.processes() - before) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_a_full_disk_is_one_line(split: ImageSplit, decoding: Decoding) -> None:
    store = PixelStore(split, PLAIN, decoding)
    file: Any = store._kept()
    with (
        Path("/dev/full").open("r+b", buffering=0) as file._file,
        pytest.raises(RunFolderError, match="no space left on the disk"),
    ):
        store.get(range(COUNT))
    assert not multiprocessing.active_children()


def test_a_process_that_is_killed_is_one_line_and_what_was_finished_is_kept(
    split: ImageSplit, decoding: Decoding, decodes: Decodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = PixelStore(split, PLAIN).get(range(COUNT))
    with monkeypatch.context() as patch:
        killed_at(50, patch)
        line = r"^one of 2 processes .* ended by SIGKILL, .* smaller `runtime.num_workers`$"
        with pytest.raises(ProcessError, match=line):
            PixelStore(split, PLAIN, decoding).get(range(COUNT))
    assert not multiprocessing.active_children()
    again = PixelStore(split, PLAIN, decoding)
    done = set(again._kept().filled.nonzero()[:, 0].tolist())
    assert {*range(48)} <= done
    assert 50 not in done
    before = len(decodes.read())
    assert torch.equal(again.get(range(COUNT)), expected)
    assert {row for _, row in decodes.read()[before:]} == {*range(COUNT)} - done


def test_too_many_processes_are_one_line(
    split: ImageSplit, decoding: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork, left = os.fork, [1]

    def limited() -> int:
        if not left:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        left.pop()
        return fork()

    monkeypatch.setattr(os, "fork", limited)
    with pytest.raises(ProcessError, match=r"cannot start 2 processes .* lower `runtime.num_work"):
        PixelStore(split, PLAIN, decoding).get(range(COUNT))
    assert not multiprocessing.active_children()


def test_pythons_warning_of_forks_beside_threads_is_not_shown(
    split: ImageSplit, decoding: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes since Python 3.12; that these forks are sound is said where they are made."""
    fork = os.fork

    def warning() -> int:
        warnings.warn("use of fork() may lead to deadlocks", DeprecationWarning, stacklevel=2)
        return fork()

    monkeypatch.setattr(os, "fork", warning)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PixelStore(split, PLAIN, decoding).get(range(COUNT))


def test_processes_decode_from_nine_on_where_they_can_be_forked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [processes_pay(workers) for workers in (1, 8, 9, 32)] == [False, False, True, True]
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not processes_pay(32)


SCRIPT = """
import multiprocessing, os, sys, time
from pathlib import Path
import torch
from wdistill.cli.exit import interrupt, listen
from wdistill.config import DataConfig
from wdistill.data.dataset import load_data
from wdistill.data.pixels import Decoding, PixelStore, Preprocessing, kept
from wdistill.data.splits import ImageSplit

kept.MEMORY_BYTES = 0
images = ImageSplit.images
def slowly(split, rows):
    for image in images(split, rows):
        time.sleep(0.02)
        yield image
ImageSplit.images = slowly
listen()
split = load_data(DataConfig(), 0, 1).eval
store = PixelStore(split, Preprocessing(28, 28, (0,) * 3, (1,) * 3), Decoding(Path(sys.argv[1]), processes=3))
try:
    for _ in store.batches(range(len(split)), 16):
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
except KeyboardInterrupt as error:
    interrupt(error.args[0])
"""  # noqa: E501


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_command(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C reaches all processes of a terminal, the other two this one alone."""
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "pixels")]
    run = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert run.stdout is not None
    children = [*map(int, run.stdout.readline().split())]
    assert len(children) == 3
    end, began = os.killpg if number == signal.SIGINT else os.kill, time.monotonic()
    end(run.pid, number)
    _, errors = run.communicate(timeout=30)
    assert time.monotonic() - began < 3
    if number == signal.SIGKILL:
        assert not errors
    else:
        assert run.returncode == 128 + number
        assert errors.strip().startswith("Interrupted. To go on:")
        assert len(errors.strip().splitlines()) == 1
    while any(alive(child) for child in children):
        assert time.monotonic() - began < 5
        time.sleep(0.05)


def alive(process: int) -> bool:
    """Whether it runs: one that nobody has asked for its exit code does not."""
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
