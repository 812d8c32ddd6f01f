"""Images and labels become files: each piece once, by any process, and the same bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.ranks import ranks
from PIL import Image

from wdistill.artifact.parquet import read_label_views, write_label_views
from wdistill.config import RunConfig
from wdistill.core.files import write_tensors
from wdistill.core.units import StageOutput
from wdistill.data.content.coding import Coding
from wdistill.errors import OptionError
from wdistill.labels import codec
from wdistill.labels.views import LabelViews
from wdistill.pipeline.run_folder import Run
from wdistill.pipeline.stages import files, labels

CLASSES, IPC, SIDE, VIEWS = 4, 3, 16, 2
WEBP = Coding("webp", 60)


@dataclass(frozen=True)
class Unit:
    """Images (M, 3, SIDE, SIDE) of a unit of a synthesis."""

    pixels: torch.Tensor


def scene(folder: Path, accelerator: Any = None) -> tuple[Run, StageOutput[Any]]:
    """A run of four units of a class each, with noise as images."""
    alone = SimpleNamespace(num_processes=1, is_main_process=True, process_index=0, device="cpu")
    data: Any = SimpleNamespace(class_names=tuple("abcd"))
    config = RunConfig.from_dict({"barycenter": {"ipc": IPC}})
    run = Run(config, data, folder, accelerator or alone, None, True)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    shape = (CLASSES, IPC, 3, SIDE, SIDE)
    pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    return run, StageOutput("key", [Unit(images) for images in pixels])


def label_views() -> LabelViews:
    rows = VIEWS * CLASSES * IPC
    generator = torch.Generator().manual_seed(1)
    return LabelViews(
        image=torch.arange(CLASSES * IPC).repeat(VIEWS),
        partner=torch.arange(CLASSES * IPC).roll(1).repeat(VIEWS),
        view=torch.arange(VIEWS).repeat_interleave(CLASSES * IPC),
        crop=torch.tensor([0.0, 0.0, 0.5, 0.5]).expand(rows, 4),
        flip=torch.zeros(rows, dtype=torch.bool),
        mix=torch.tensor([0, 0, 4, 4]).expand(rows, 4),
        logits=torch.randn(rows, CLASSES, generator=generator),
        classes=torch.arange(CLASSES).expand(rows, CLASSES),
        rest=torch.zeros(rows),
    )


def small_files(monkeypatch: pytest.MonkeyPatch, rows: int = 5) -> None:
    """So that a few rows are several files."""
    monkeypatch.setattr(codec, "_SHARD_ROWS", rows)


def bytes_of(paths: Sequence[Path]) -> list[bytes]:
    return [path.read_bytes() for path in paths]


@pytest.mark.parametrize("coding", [WEBP, Coding()])
def test_files_are_those_of_the_images_in_order(coding: Coding, tmp_path: Path) -> None:
    run, images = scene(tmp_path)
    coded = files.code_images(run, images, coding)
    every = torch.cat([unit.pixels for unit in images.units])
    assert torch.equal(coded.pixels, coding.seen(every))
    for row in range(CLASSES * IPC):
        with Image.open(io.BytesIO(coded.files[row])) as image:
            assert image.format == coding.format.upper()
            assert np.array_equal(np.asarray(image.convert("RGB")), coded.images[row])


def test_images_are_grey_only_if_all_of_them_are(tmp_path: Path) -> None:
    run, images = scene(tmp_path)
    grey = [Unit(unit.pixels[:, :1].expand(-1, 3, -1, -1)) for unit in images.units]
    assert files.code_images(run, StageOutput("grey", grey), WEBP).grey
    mixed = StageOutput("mixed", [*grey[:3], images.units[3]])
    coded = files.code_images(run, mixed, WEBP)
    assert not coded.grey
    assert coded.pixels[:, 0].ne(coded.pixels[:, 1]).any()


def test_what_was_coded_is_not_coded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, images = scene(tmp_path)
    first = files.code_images(run, images, WEBP)
    (tmp_path / "work" / "files-webp60-00002.safetensors").unlink()
    encode, coded = Coding.encode, []

    def counted(self: Coding, image: Any, grey: bool = False) -> bytes:
        coded.append(image)
        return encode(self, image, grey)

    monkeypatch.setattr(Coding, "encode", counted)
    again = files.code_images(run, images, WEBP)
    assert len(coded) == IPC  # those of the unit whose file was lost
    assert np.array_equal(again.images, first.images)
    assert again.files.sizes == first.files.sizes
    files.code_images(run, images, Coding("webp", 20))
    assert len(coded) == IPC + CLASSES * IPC


def test_packed_labels_are_read_back_and_not_packed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_files(monkeypatch)
    run, views = scene(tmp_path)[0], label_views()
    paths = labels._pack(run, views, "key")
    assert len(paths) == 5
    folder = tmp_path / "set"
    size = write_label_views(folder, views, CLASSES, paths)
    found = read_label_views(folder, CLASSES * IPC, CLASSES, SIDE)
    assert found is not None
    assert torch.equal(found.logits, views.logits)
    assert size == sum(path.stat().st_size for path in paths)
    assert size == write_label_views(tmp_path / "other", views, CLASSES)  # the same files
    kept = {path: path.stat().st_mtime_ns for path in paths}
    paths[1].write_bytes(paths[1].read_bytes()[:100])  # a file that was damaged
    fewer = labels._pack(run, views.first(1), "key")
    assert fewer[:2] == paths[:2]
    assert [path.stat().st_mtime_ns == kept.get(path) for path in fewer] == [True, False, False]
    assert bytes_of(fewer)[1] == codec.encode(views.rows(slice(5, 10)), CLASSES)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_packed_labels_that_were_damaged_are_made_again(
    place: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the end of the file, which describes the rest, is whole."""
    small_files(monkeypatch)
    run, views = scene(tmp_path)[0], label_views()
    paths = labels._pack(run, views, "key")
    whole = bytes_of(paths)
    data = bytearray(whole[1])
    pages = len(data) - 8 - int.from_bytes(data[-8:-4], "little")  # before the footer
    start = int(place * pages)
    data[start : start + 16] = bytes(16)
    assert data != whole[1]
    paths[1].write_bytes(data)
    assert bytes_of(labels._pack(run, views, "key")) == whole


@pytest.mark.parametrize("budget", [None, 10**6])
def test_packed_labels_of_a_finished_run_are_read_once(
    budget: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_files(monkeypatch)
    run, every = scene(tmp_path)[0], labels._KeyedViews(label_views(), "key")
    first, read = labels._fitting(run, every, budget), []

    def noted(path: Path, *given: Any) -> bool:
        read.append(path)
        return codec.is_encoded(path, *given)

    monkeypatch.setattr(labels, "is_encoded", noted)
    again = labels._fitting(run, every, budget)
    assert len(first.files) == 5
    assert again.files == first.files == tuple(read)


def test_what_the_folder_still_resumes_from_is_not_removed(tmp_path: Path) -> None:
    """Files of every coding that was asked for, and packed views of every giver."""
    run, _ = scene(tmp_path)
    run.work.mkdir()
    for giver, key in (("teacher", "a"), ("committee", "b")):
        write_tensors(run.work / f"views-{giver}-00000.safetensors", {}, {"key": key})
    files_of = [f"files-{coding}-00000.safetensors" for coding in ("webp", "webp60", "webp6")]
    packed = [f"packed-{key}-t4-0-{stop}.parquet" for key in "abc" for stop in (5, 9)]
    for name in [*files_of, *packed]:
        (run.work / name).touch()
    files.remove_other_files(run, [Coding("webp"), Coding("webp", 60)])
    labels.remove_other_packed(run)
    left = {path.name for path in run.work.iterdir() if not path.name.startswith("views-")}
    assert left == {*files_of[:2], *packed[:4]}


def test_labels_without_room_in_a_budget_name_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no setting of labels that nobody gave."""
    run, none = scene(tmp_path)[0], None
    monkeypatch.setattr(labels, "_views", lambda *_: labels._KeyedViews(label_views(), "key"))
    decoded = labels.Decoded(torch.zeros(CLASSES * IPC, 3, SIDE, SIDE, dtype=torch.uint8), 1, "")
    with pytest.raises(OptionError, match=r"`budget` leaves 9 B for the labels") as caught:
        labels.views_stage(run, none, decoded, 9)  # type: ignore[arg-type]
    assert "label_views.budget" not in str(caught.value)


PROCESS = """
import os
import sys
from pathlib import Path
import pipeline.test_stages_files as tests
from wdistill.core.devices import open_accelerator
from wdistill.labels import codec
codec._SHARD_ROWS = 5
accelerator = open_accelerator("no", "cpu")
encode = codec.encode
for place in ("shared", f"own-{{accelerator.process_index}}"):
    run, images = tests.scene(Path({folder!r}) / place, accelerator)
    coded, own = tests.files.code_images(run, images, tests.WEBP), []
    tests.labels.encode = lambda *given: own.append(1) or encode(*given)
    paths = tests.labels._pack(run, tests.label_views(), "key")
    print(f"{{place[:3]}} {{len(own)}} of {{len(paths)}}")
    every = coded.images.tobytes() + b"".join(tests.bytes_of(paths))
    (run.folder / f"all-{{accelerator.process_index}}").write_bytes(every)
"""


@pytest.mark.slow
def test_two_processes_share_the_pieces_and_have_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a common disk and without one."""
    said, codes = ranks(PROCESS.format(folder=str(tmp_path)), 2)
    assert codes == [0, 0], said
    for place in ("sha", "own"):
        shares = [line.split() for line in said.splitlines() if line.startswith(place)]
        assert sum(int(share[1]) for share in shares) == int(shares[0][3]) == 5
    small_files(monkeypatch)
    run, images = scene(tmp_path / "alone")
    coded = files.code_images(run, images, WEBP)
    alone = coded.images.tobytes() + b"".join(bytes_of(labels._pack(run, label_views(), "key")))
    written = [path.read_bytes() for path in tmp_path.glob("*/all-*")]
    assert len(written) == 4
    assert all(one == alone for one in written)
