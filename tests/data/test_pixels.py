"""Each real image is decoded once, kept in memory or in a file that processes share."""

from __future__ import annotations

import multiprocessing
import shutil
import sys
from collections import Counter, namedtuple
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from wdistill.config import DataConfig, RuntimeConfig
from wdistill.core.devices import open_accelerator
from wdistill.core.machine import resources
from wdistill.data.dataset import load_data
from wdistill.data.pixels import (
    Decoding,
    PixelStore,
    Preprocessing,
    check_room,
    decoding_for,
    kept,
    remove_pixels,
)
from wdistill.data.splits import ImageSplit
from wdistill.errors import RunFolderError

PLAIN = Preprocessing(28, 28, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
COUNT = 60


@pytest.fixture(scope="module")
def whole() -> ImageSplit:
    return load_data(DataConfig(), 0, 1).eval


@pytest.fixture
def split(whole: ImageSplit) -> ImageSplit:
    return whole.take(torch.arange(COUNT).numpy())


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often each row was decoded."""
    counts, images = Counter[int](), ImageSplit.images

    def counted(split: ImageSplit, rows: Sequence[int]) -> Any:
        counts.update(split.rows[rows].tolist())
        return images(split, rows)

    monkeypatch.setattr(ImageSplit, "images", counted)
    return counts


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Decoding:
    """Even the smallest split is kept in a file."""
    monkeypatch.setattr(kept, "MEMORY_BYTES", 0)
    return Decoding(tmp_path / "pixels", threads=2)


def direct(split: ImageSplit, rows: list[int]) -> torch.Tensor:
    return torch.stack([PLAIN(split.image(row)) for row in rows])


@pytest.mark.parametrize("in_a_file", [False, True])
def test_pixels_are_those_of_the_images_and_each_is_decoded_once(
    split: ImageSplit, decoded: Counter[int], files: Decoding, in_a_file: bool
) -> None:
    rows = [7, 3, 7, 59, 0]
    expected = direct(split, rows)
    decoded.clear()
    store = PixelStore(split, PLAIN, files if in_a_file else None)
    assert torch.equal(store.get(rows), expected)
    assert decoded == Counter(dict.fromkeys(rows, 1))  # no others
    assert torch.equal(torch.cat(list(store.batches(rows, 2))), expected)
    everything = store.get(range(COUNT))
    assert torch.equal(everything[rows], expected)
    assert decoded == Counter(range(COUNT))
    assert bool(list((files.folder or Path()).glob("*.pixels"))) is in_a_file


def test_a_batch_is_decoded_before_it_is_asked_for(
    split: ImageSplit, decoded: Counter[int]
) -> None:
    batches = PixelStore(split, PLAIN).batches(range(COUNT), 4)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert 4 <= len(decoded) <= COUNT


def test_rows_that_are_taken_are_not_decoded_again(
    split: ImageSplit, decoded: Counter[int], files: Decoding
) -> None:
    for decoding in (files, None):
        store = PixelStore(split, PLAIN, decoding)
        everything = store.get(range(COUNT))
        decoded.clear()
        some = store.take(torch.arange(1, COUNT, 2)).take(torch.tensor([0, 5, 7]))
        assert some.rows.tolist() == [1, 11, 15]
        assert torch.equal(some.get([2, 0]), everything[[15, 1]])
        assert torch.equal(some.normalised(PLAIN).get([1]), everything[[11]])
        assert (
            some.labels.tolist() == some.split.labels.tolist() == store.labels[some.rows].tolist()
        )
        assert (some.path, len(some), len(some.whole)) == (store.path, 3, COUNT)
        assert torch.equal(some.whole.get(range(COUNT)), everything)
        assert not decoded


def test_another_normalisation_sees_the_same_pixels(
    split: ImageSplit, decoded: Counter[int]
) -> None:
    store = PixelStore(split, PLAIN)
    other = store.normalised(replace(PLAIN, mean=(0.5, 0.5, 0.5)))
    assert torch.equal(other.get(range(9)), store.get(range(9)))
    assert decoded == Counter(range(9))
    assert (store.preprocessing, other.preprocessing.mean) == (PLAIN, (0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match="geometry"):
        store.normalised(replace(PLAIN, resize=32))


def test_the_file_is_found_again_and_has_its_name_when_it_is_complete(
    split: ImageSplit, decoded: Counter[int], files: Decoding
) -> None:
    first = PixelStore(split, PLAIN, files)
    first.get(range(50))
    assert first.path
    assert not first.path.exists()
    again = PixelStore(split, PLAIN, files)  # as after a kill
    everything = again.get(range(COUNT))
    assert again.path
    assert again.path.exists()
    assert [path.name for path in again.path.parent.iterdir()] == [again.path.name]
    again.path.chmod(0o400)
    assert torch.equal(PixelStore(split, PLAIN, files).get(range(COUNT)), everything)
    assert decoded == Counter(range(COUNT))


def test_other_images_or_another_geometry_have_a_file_of_their_own(
    split: ImageSplit, files: Decoding
) -> None:
    stores = [
        PixelStore(split, PLAIN, files),
        PixelStore(split, replace(PLAIN, resize=32), files),
        PixelStore(split, replace(PLAIN, resolution=27), files),
        PixelStore(split.take(torch.arange(COUNT).flip(0).numpy()), PLAIN, files),
        PixelStore(replace(split, fingerprint="other"), PLAIN, files),
        PixelStore(replace(split, name="other"), PLAIN, files),
    ]
    assert len({store.path for store in stores}) == len(stores)


def test_what_was_written_before_a_restart_of_the_machine_is_not_used(
    split: ImageSplit, decoded: Counter[int], files: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = kept._part
    monkeypatch.setattr(kept, "_part", lambda path: part(path).with_suffix(".old.part"))
    PixelStore(split, PLAIN, files).get([1])
    monkeypatch.setattr(kept, "_part", part)
    PixelStore(split, PLAIN, files).get([1])
    assert decoded[1] == 2
    assert len(list((files.folder or Path()).iterdir())) == 1


def fill(split: ImageSplit, decoding: Decoding, rows: list[int], pipe: Any) -> None:
    """A process: decodes some rows, then waits for the others, and says what it sees."""
    kept.MEMORY_BYTES = 0
    asked: list[int] = []
    images = ImageSplit.images
    ImageSplit.images = lambda s, rows: asked.extend(rows) or images(s, rows)  # type: ignore
    store = PixelStore(split, PLAIN, decoding)
    store.get(rows)
    pipe.send("filled")
    pipe.recv()
    total = store.get(range(COUNT)).sum()
    pipe.send((len(asked), int(total)))


@pytest.mark.slow
def test_two_processes_share_one_file(split: ImageSplit, files: Decoding) -> None:
    context = multiprocessing.get_context("spawn")
    ours: list[Any] = []
    for rows in (range(0, COUNT, 2), range(1, COUNT, 2)):
        here, there = context.Pipe()
        process = context.Process(target=fill, args=(split, files, list(rows), there))
        process.start()
        ours.append((here, process))
    for here, _ in ours:
        assert here.recv() == "filled"
    for here, _ in ours:
        here.send("go on")
    expected = int(direct(split, list(range(COUNT))).sum())
    assert [here.recv() for here, _ in ours] == [(COUNT // 2, expected)] * 2
    for _, process in ours:
        process.join()
    assert len(list((files.folder or Path()).iterdir())) == 1


def test_too_little_room_is_one_line_before_the_start(
    split: ImageSplit, files: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, usage = PixelStore(split, PLAIN, files), namedtuple("usage", "free")
    size = COUNT * (3 * 28**2 + 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(size))
    check_room({store: COUNT})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(size // 2))
    line = r"take 141.2 kB .* 70.6 kB; free some space, or name another"
    with pytest.raises(RunFolderError, match=line):
        check_room({store: COUNT})
    check_room({store: COUNT // 2 - 1})
    check_room({PixelStore(split, PLAIN): COUNT})  # in memory
    store.get(range(COUNT))
    check_room({store: COUNT})  # there already


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_a_full_disk_is_one_line(split: ImageSplit, files: Decoding) -> None:
    store = PixelStore(split, PLAIN, files)
    kept: Any = store._kept()
    with (
        Path("/dev/full").open("r+b", buffering=0) as kept._file,
        pytest.raises(RunFolderError, match="no space left on the disk"),
    ):
        store.get([0])


@pytest.fixture
def alone() -> Accelerator:
    return open_accelerator("no", "cpu")


def test_the_file_goes_at_the_end_unless_the_user_named_its_folder(
    split: ImageSplit, files: Decoding, tmp_path: Path, alone: Accelerator
) -> None:
    for named in (None, str(tmp_path / "named")):
        decoding = decoding_for(RuntimeConfig(pixel_cache=named), tmp_path / "work", alone)
        assert decoding.folder
        PixelStore(split, PLAIN, decoding).get([3])
        assert list(decoding.folder.iterdir())
        remove_pixels(decoding, alone)
        assert decoding.folder.exists() is (named is not None)
    assert not (tmp_path / "work" / "pixels").exists()


def test_workers_come_from_the_cores_and_are_processes_where_there_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")

    def workers(processes: int, wanted: int | None = None) -> tuple[int, int, int]:
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
        several: Any = SimpleNamespace(num_processes=processes)
        found = decoding_for(RuntimeConfig(num_workers=wanted), Path(), several)
        return found.threads, found.processes, found.workers

    monkeypatch.setattr(resources, "_cores", lambda: 12)
    assert [workers(n) for n in (1, 2, 64)] == [(12, 12, 12), (6, 0, 6), (1, 0, 1)]
    assert [workers(64, n) for n in (3, 20)] == [(3, 0, 3), (20, 20, 20)]
    monkeypatch.setattr(resources, "_cores", lambda: 100)
    assert [workers(n) for n in (1, 5)] == [(16, 32, 32), (16, 20, 20)]
    monkeypatch.setattr(sys, "platform", "darwin")
    assert workers(1) == (16, 0, 16)
