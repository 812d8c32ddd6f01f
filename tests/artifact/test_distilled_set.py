"""What is written is read back bit for bit, by us and by `datasets`; damage is noticed."""

from __future__ import annotations

import errno
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import load_dataset
from helpers.examples import NAMES, distilled_set, manifest, write_set
from helpers.reports import run_report
from safetensors.torch import save_file

from wdistill.artifact import distilled_set as artifact
from wdistill.artifact import parquet
from wdistill.artifact.distilled_set import (
    DistilledSet,
    read_distilled,
    read_report,
    read_summary,
    shards,
    write_data,
)
from wdistill.artifact.layout import one_set, publish_folder, set_folders
from wdistill.artifact.manifest import check_bytes, read_manifest
from wdistill.artifact.reading import read_published
from wdistill.core.files import (
    atomic_write,
    on_disk,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
from wdistill.errors import NumericalError, RunFolderError
from wdistill.publishing.card.card import render_card

ARRAYS = ("images", "labels", "weights", "soft_labels")


@pytest.fixture
def published(tmp_path: Path) -> Path:
    write_set(tmp_path / "ipc4", distilled_set(), manifest())
    run_report().write(tmp_path / "ipc4" / "report.json")
    return tmp_path / "ipc4"


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def assert_same(one: DistilledSet, two: DistilledSet) -> None:
    assert one.class_names == two.class_names
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), strict=True)


def test_reads_back_bit_for_bit(published: Path) -> None:
    assert_same(read_distilled(published), distilled_set())
    assert read_report(published) == run_report()
    written = read_manifest(published)
    sizes = written.bytes
    parquet = published / "data/train-00000-of-00001.parquet"
    assert sizes.parquet == parquet.stat().st_size
    assert sizes.soft_labels == 12 * 3 * 4
    rows = pq.read_table(parquet)["image"].to_pylist()
    assert sizes.images == sum(len(row["bytes"]) for row in rows)
    assert written == manifest().model_copy(update={"bytes": sizes})


@pytest.mark.parametrize("card", [False, True])
def test_datasets_reads_it_without_our_code(published: Path, tmp_path: Path, card: bool) -> None:
    if card:
        text = render_card(published.parent)
        (published.parent / "README.md").write_text(text, encoding="utf-8")
    expected = distilled_set()
    root = published.parent if card else published
    data = load_dataset(str(root), split="train", cache_dir=str(tmp_path / "cache"))
    files = str(published / "data/*.parquet")
    plain = load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(tmp_path / "plain")
    )
    for found in (data, plain):
        assert found.features["label"].names == list(NAMES)
        for name, column in (("labels", "label"), ("weights", "weight")):
            assert list(found[column]) == getattr(expected, name).tolist()
        assert [image.mode for image in found["image"]] == ["RGB"] * 12
        np.testing.assert_array_equal(np.stack(list(found["image"])), expected.images)
        soft = np.array(list(found["soft_label"]), np.float32)
        np.testing.assert_array_equal(soft, expected.soft_labels)


def test_writing_twice_gives_the_same_bytes(published: Path, tmp_path: Path) -> None:
    before = contents(published)
    write_set(published, distilled_set(), manifest())
    write_set(tmp_path / "elsewhere", distilled_set(), manifest())
    run_report().write(tmp_path / "elsewhere" / "report.json")
    assert contents(published) == contents(tmp_path / "elsewhere") == before


def test_shards_are_cut_and_stale_ones_removed(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (published / "README.md").write_text("mine")
    (published / "data/notes.parquet").write_text("mine")
    monkeypatch.setattr(artifact, "_SHARD_BYTES", 5000)
    monkeypatch.setattr(parquet, "GROUP_ROWS", 2)
    monkeypatch.setattr(parquet, "SMALL_GROUP_BYTES", 1)
    write_set(published, distilled_set(), manifest())
    names = [path.name for path in shards(published)]
    assert names == [f"train-{index:05d}-of-00003.parquet" for index in range(3)]
    groups = pq.read_metadata(shards(published)[0])
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [2, 2]
    assert_same(read_distilled(published), distilled_set())
    assert read_report(published) == run_report()  # the score is still that of these images
    assert (published / "README.md").read_text() == "mine"
    assert (published / "data/notes.parquet").read_text() == "mine"
    shards(published)[1].unlink()
    with pytest.raises(RunFolderError, match=r"lacks train-\*\.parquet"):
        read_distilled(published)


def test_classes_may_be_absent_and_images_oblong(tmp_path: Path) -> None:
    oblong = distilled_set(names=("a", "b"), ipc=1, size=(20, 12))
    only = replace(oblong, class_names=("a", "b", "c"), soft_labels=np.full((2, 3), 1 / 3, "f4"))
    write_set(tmp_path, only, manifest())
    assert_same(read_distilled(tmp_path), only)
    assert read_summary(tmp_path) == (2, ("a", "b", "c"))


@pytest.mark.parametrize("where", [0.02, 0.5, 0.98])
def test_a_damaged_parquet_file_is_noticed(published: Path, where: float) -> None:
    path = shards(published)[0]
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * where)])
    with pytest.raises(RunFolderError, match="is damaged"):
        read_distilled(published)


def rewritten(path: Path, **columns: Any) -> None:
    table = pq.read_table(path)
    for name, column in columns.items():
        position = table.schema.get_field_index(name)
        table = table.set_column(position, name, column)
    pq.write_table(table.replace_schema_metadata(pq.read_schema(path).metadata), path)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("label", pa.array([0] * 11 + [3], pa.int64()), "not between 0 and 2"),
        ("label", pa.array([0.5] * 12), "columns are not"),
        ("label", pa.array([None] * 12, pa.int64()), "value is missing"),
        ("weight", pa.array([float("nan")] * 12, pa.float32()), "not finite"),
        ("weight", pa.array([-1.0] * 12, pa.float32()), "negative"),
        ("weight", pa.array([0.5] * 12, pa.float32()), "column 'weight': .* class 0 sum to 2 "),
        (
            "soft_label",
            pa.array([[0.2, 0.2, 0.6]] * 7 + [[0.2, 0.2, 0.04]] * 5, pa.list_(pa.float32(), 3)),
            "'soft_label', row 7: the probabilities of 3 classes sum to 0.44 instead of 1",
        ),
        (
            "soft_label",
            pa.array([[0.5, None, 0.5]] * 12, pa.list_(pa.float32(), 3)),
            "column 'soft_label': a value is missing",
        ),
        (
            "soft_label",
            pa.array([[0.5, 0.5]] * 12, pa.list_(pa.float32(), 2)),
            "column 'soft_label': not 3 numbers in each row",
        ),
    ],
)
def test_odd_columns_are_refused(
    published: Path, column: str, values: pa.Array, message: str
) -> None:
    rewritten(shards(published)[0], **{column: values})
    with pytest.raises(RunFolderError, match=message):
        read_distilled(published)


def test_odd_images_are_refused(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MAX_SIDE", 27)
    with pytest.raises(RunFolderError, match="the limit is 27 a side"):
        read_distilled(published)
    field = pq.read_schema(shards(published)[0]).field("image").type
    rewritten(
        shards(published)[0], image=pa.array([{"bytes": b"GIF89a...", "path": "/x"}] * 12, field)
    )
    with pytest.raises(RunFolderError, match=r"column 'image', row 0: neither PNG nor WebP"):
        read_distilled(published)


def test_an_image_unlike_the_others_is_named_by_its_row(published: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_data(other, distilled_set(size=(20, 12)))
    cells = pq.read_table(shards(published)[0])["image"].to_pylist()
    whole, odd = cells[5], pq.read_table(shards(other)[0])["image"].to_pylist()[5]
    kind = pq.read_schema(shards(published)[0]).field("image").type
    cut = {"bytes": whole["bytes"][:100], "path": None}
    for cell, message in (
        (odd, r"column 'image', row 5: 12x20 instead of 28x28 pixels"),
        (cut, r"column 'image', row 5: .*truncated"),
        ({"bytes": None, "path": "5.png"}, r"column 'image', row 5: neither PNG nor WebP"),
    ):
        rewritten(shards(published)[0], image=pa.array([*cells[:5], cell, *cells[6:]], kind))
        with pytest.raises(RunFolderError, match=message) as caught:
            read_distilled(published)
        assert "data/train-00000-of-00001.parquet' is damaged" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.full(12, -1)}, "column 'label', row 0: -1 is not between 0 and 2"),
        ({"labels": np.repeat([0, 1, 3], 4)}, "column 'label', row 8: 3 is not between 0 and 2"),
        ({"weights": np.full(12, np.inf, "f4")}, "column 'weight', row 0: negative or not finite"),
        ({"weights": np.full(12, 0.3, "f4")}, "column 'weight': the images of class 0 sum to 1.2"),
        ({"soft_labels": np.full((12, 3), 0.3, "f4")}, "'soft_label', row 0: .* sum to 0.9 inst"),
        ({"soft_labels": np.full((12, 3), np.nan, "f4")}, "'soft_label', row 0: negative or not"),
    ],
)
def test_what_cannot_be_is_not_written(
    published: Path, change: dict[str, Any], message: str
) -> None:
    before = contents(published)
    with pytest.raises(NumericalError, match=f"data': .*{message}") as caught:
        write_data(published, replace(distilled_set(), **change))
    assert "\n" not in str(caught.value)
    assert contents(published) == before


@pytest.mark.parametrize("classes", [2, 1000, 20_000])
def test_probabilities_as_float32_has_them_are_let_through(classes: int) -> None:
    logits = torch.randn(4, classes, generator=torch.Generator().manual_seed(0)) * 5
    soft = logits.softmax(1)
    columns = parquet.LabelColumns(np.zeros(4, np.int64), np.ones(4, "f4"), soft.numpy())
    parquet.check_columns(columns)
    less = replace(columns, soft_labels=soft.numpy() * np.float32(0.999))
    with pytest.raises(ValueError, match=r"sum to 0\.999 instead of 1"):
        parquet.check_columns(less)


def test_files_that_are_not_what_was_written_are_noticed(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = parquet.write_rows

    def other_labels(file: Any, rows: Any, pictures: Any, columns: Any, names: Any) -> None:
        written(file, rows, pictures, replace(columns, labels=columns.labels[::-1].copy()), names)

    monkeypatch.setattr(artifact, "write_rows", other_labels)
    with pytest.raises(RunFolderError, match=r"parquet' is damaged \(rows from 0 are not what was"):
        write_data(published, distilled_set())
    assert not (published / "wdistill.json").exists()


def test_bytes_are_those_that_were_written(published: Path) -> None:
    sizes = read_manifest(published).bytes
    check_bytes(published, sizes)
    with shards(published)[0].open("ab") as file:
        file.write(b"more")
    size = sizes.parquet
    with pytest.raises(
        RunFolderError, match=f"data' has {size + 4:,} bytes of parquet, but {size:,}"
    ):
        check_bytes(published, sizes)
    with pytest.raises(RunFolderError, match="bytes of parquet, but"):
        read_published(published)


def test_each_class_has_as_many_images_as_the_manifest_says(published: Path) -> None:
    labels = np.repeat([0, 1, 2], [5, 3, 4])
    uneven = replace(
        distilled_set(), labels=labels, weights=(1 / np.bincount(labels))[labels].astype("f4")
    )
    write_set(published, uneven, manifest())
    with pytest.raises(RunFolderError, match=r"class 'T-shirt/top' has 5 images and not 4, as its"):
        read_published(published)


def test_links_out_of_the_folder_are_refused(published: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    (published / "report.json").rename(secret)
    (published / "report.json").symlink_to(secret)
    with pytest.raises(RunFolderError, match="link that leads out"):
        read_report(published)


def test_a_snapshot_of_the_hub_cache_is_read(published: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "datasets--a--b/snapshots/abc", tmp_path / "datasets--a--b/blobs"
    blobs.mkdir(parents=True)
    (snapshot / "data").mkdir(parents=True)
    for name in contents(published):
        blob = blobs / name.replace("/", "_")
        blob.write_bytes((published / name).read_bytes())
        (snapshot / name).symlink_to(blob)
    assert_same(read_distilled(snapshot), distilled_set())
    assert read_manifest(snapshot).ipc == 4


@pytest.mark.parametrize("text", ["", "{", "[1, NaN]", "[" * 100_000, '{"a": "\\ud800'])
def test_damaged_json_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(RunFolderError, match=r"'.*x\.json' is damaged \(.+\); delete it") as caught:
        read_json(tmp_path / "x.json")
    assert "\n" not in str(caught.value)


def test_json_keeps_order_and_text_and_has_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"b": "Lösung", "a": [1.5, None]})
    assert (tmp_path / "x.json").read_text("utf-8").index('"b": "Lösung"') < 10
    assert read_json(tmp_path / "x.json") == {"b": "Lösung", "a": [1.5, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", float("nan"))


def test_publish_folder(published: Path, tmp_path: Path) -> None:
    write_set(tmp_path / "publish" / "ipc4", distilled_set(), manifest())
    whole = tmp_path / "publish"
    assert publish_folder(tmp_path) == publish_folder(whole) == whole
    assert one_set(tmp_path) == one_set(whole) == one_set(whole / "ipc4") == whole / "ipc4"
    assert set_folders(published.parent) == [published]
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "none"):
        with pytest.raises(RunFolderError, match=r"has no ipc\*/wdistill\.json; give the output"):
            publish_folder(path)


def test_tensors_come_back_with_their_metadata(tmp_path: Path) -> None:
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    tensors = {
        "shared": base[0],
        "transposed": base.T,
        "half": base.bfloat16(),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(3),
        "bool": base > 3,
    }
    write_tensors(tmp_path / "t.safetensors", tensors, {"unit": "3", "key": "ab"})
    found, metadata = read_tensors(tmp_path / "t.safetensors")
    assert metadata == {"unit": "3", "key": "ab"}
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def test_damaged_tensors_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    write_tensors(path, {"x": torch.arange(100.0)}, {})
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-7] ^= 1
    for damaged in (whole[:-1], whole[:20], b"", bytes(flipped), b"\x80\x04pickle"):
        path.write_bytes(damaged)
        with pytest.raises(RunFolderError, match="is damaged"):
            read_tensors(path)
    save_file({"x": torch.arange(3)}, path)
    with pytest.raises(RunFolderError, match="checksum"):
        read_tensors(path)
    with pytest.raises(RunFolderError, match="is missing"):
        read_tensors(tmp_path / "none")


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (OSError(errno.ENOSPC, "full"), RunFolderError, "no space left .* free some space and run"),
        (OSError(errno.EROFS, "ro"), RunFolderError, "no permission; choose another `output`"),
        (PermissionError(errno.EACCES, "no"), RunFolderError, "no permission"),
        (OSError(errno.EIO, "Input/output error"), RunFolderError, "Input/output error"),
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
    ],
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    raised: type[BaseException],
    message: str,
) -> None:
    atomic_write(tmp_path / "a/x", b"old")

    def fail(_: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(raised, match=message):
        atomic_write(tmp_path / "a/x", b"new")
    assert contents(tmp_path) == {"a/x": b"old"}


def test_an_array_on_the_disk_is_its_parts_and_leaves_no_file(tmp_path: Path) -> None:
    parts = [np.arange(6).reshape(2, 3), np.arange(6, 12).reshape(3, 2).T[:, :3] % 250]
    made = on_disk(iter(parts), (4, 3), np.uint8, tmp_path / "new")
    assert made.dtype == np.uint8
    assert np.array_equal(made, np.concatenate(parts))
    assert list((tmp_path / "new").iterdir()) == []
    torch.from_numpy(made)[0] = 9  # no warning, and no harm
    assert np.array_equal(made[0], [9, 9, 9])


@pytest.mark.parametrize(
    ("code", "message"),
    [(errno.ENOSPC, "no space left on the disk; free"), (errno.EROFS, "no permission")],
)
def test_a_disk_without_room_for_an_array_is_told(
    code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr("wdistill.core.files.tempfile.TemporaryFile", fail)
    with pytest.raises(RunFolderError, match=message):
        on_disk([np.zeros(3)], (3,), np.uint8, tmp_path)


def test_writing_needs_a_fraction_of_the_set_in_memory(tmp_path: Path) -> None:
    small, copies = distilled_set(), 300
    many = DistilledSet(
        np.tile(small.images, (copies, 1, 1, 1)), np.tile(small.labels, copies),
        np.tile(small.weights / copies, copies), np.tile(small.soft_labels, (copies, 1)),
        small.class_names,
    )  # fmt: skip
    tracemalloc.start()
    write_set(tmp_path, many, manifest())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < many.images.nbytes / 4
    assert_same(read_distilled(tmp_path), many)


def test_an_interrupted_rewrite_is_not_taken_for_a_whole_folder(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(artifact, "write_rows", stop)
    with pytest.raises(KeyboardInterrupt):
        write_data(published, distilled_set(ipc=2))
    with pytest.raises(RunFolderError, match=r"has no ipc\*/wdistill\.json"):
        publish_folder(published.parent)


@pytest.mark.parametrize(
    "change",
    [
        {"images": np.zeros((12, 28, 28), np.uint8)},
        {"images": np.zeros((12, 28, 28, 3), np.float32)},
        {"labels": np.zeros(11, np.int64)},
        {"soft_labels": np.zeros((12, 2), np.float32)},
        {"class_names": ("a", "a", "b")},
    ],
)
def test_a_set_that_does_not_fit_together_is_a_bug(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"instead of|share a name"):
        replace(distilled_set(), **change)
