"""What is in the files: images in both splits, huge ones, tables of several kinds."""

from __future__ import annotations

import importlib
import io
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from accelerate import Accelerator
from helpers.datasets_on_disk import apart, load, message
from helpers.field import classes, per_class, table, tiny, write
from PIL import Image

from wdistill.data.content import decoding
from wdistill.data.content.decoding import decode
from wdistill.data.content.leaks import Pixels, without_copies
from wdistill.data.pixels import PixelStore, Preprocessing
from wdistill.errors import DataError

pytestmark = pytest.mark.usefixtures("own_cache")


# --- images in both splits -----------------------------------------------------------------------


def test_images_of_both_splits_leave_training_and_are_told(tmp_path: Path) -> None:
    folders = ("train/cat", "train/dog", "test/cat", "test/dog")
    root = Path(write(tmp_path / "d", classes(folders)))
    (root / "test" / "cat" / "copy.png").write_bytes((root / "train/cat/2.png").read_bytes())
    (root / "test" / "dog" / "0.png").write_bytes((root / "train/cat/0.png").read_bytes())
    data = apart(load(str(root)))
    assert per_class(data, data.train) == {"cat": 2, "dog": 4}
    assert per_class(data, data.eval) == {"cat": 5, "dog": 4}
    assert (
        "Left out of training 2 of 8 images of split 'train' that stand in split 'test' too, "
        "by their pixels."
    ) in data.notes
    assert data.shared == 2


def photograph(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (90, 70, 3), np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_images_encoded_anew_are_found_by_their_pixels(tmp_path: Path) -> None:
    """Other metadata, another format without loss, a turn by EXIF; not the same on a grid alone."""
    jpeg = encoded(photograph(0), "JPEG")
    seen = Image.open(io.BytesIO(jpeg)).convert("RGB")
    exif = Image.Exif()
    exif[0x010E] = "a comment"
    turned = Image.Exif()
    turned[0x0112] = 3
    comment = exif.tobytes()
    with_comment = jpeg[:2] + b"\xff\xe1" + (len(comment) + 2).to_bytes(2) + comment + jpeg[2:]
    almost = np.array(seen)
    almost[1, 1] ^= 1  # is not among the pixels whose hash is compared first
    cells = [
        jpeg,
        encoded(seen, "PNG", compress_level=0),
        encoded(seen, "WEBP", lossless=True),
        encoded(seen.rotate(180), "PNG", exif=turned),
        with_comment,
        encoded(Image.fromarray(almost), "PNG"),
        *(encoded(photograph(seed), "PNG") for seed in range(1, 5)),
    ]
    for name, part in (("train", cells), ("test", [encoded(seen, "PNG"), tiny(20)])):
        columns = {"image": [{"bytes": cell, "path": None} for cell in part]}
        labels = [row % 2 for row in range(len(part))]
        (tmp_path / "d").mkdir(exist_ok=True)
        pq.write_table(pa.table({**columns, "label": labels}), tmp_path / "d" / f"{name}.parquet")
    loaded = load(str(tmp_path / "d"))
    for side in (28, 90, 128):
        assert apart(loaded, side).train.rows.tolist() == [5, 6, 7, 8, 9]


def test_what_a_part_of_the_classes_has_shown_is_not_taken_for_all(tmp_path: Path) -> None:
    """A shard keeps its answer in its folder, where the whole run may start later."""
    root = Path(write(tmp_path / "d", classes(("train/cat", "train/dog", "test/cat", "test/dog"))))
    for kind in ("cat", "dog"):
        (root / "test" / kind / "copy.png").write_bytes((root / f"train/{kind}/1.png").read_bytes())
    data, plain = load(str(root)), Preprocessing(28, 0, (0.0,) * 3, (1.0,) * 3)
    stores = Pixels(PixelStore(data.train, plain), PixelStore(data.eval, plain))
    record, alone = tmp_path / "copies.json", Accelerator(cpu=True)
    cats = torch.from_numpy(np.flatnonzero(data.train.labels == 0))
    for looked_at, found in ((cats, 1), (None, 2), (cats, 1), (None, 2)):
        assert without_copies(data, stores, alone, looked_at, record)[0].shared == found


def test_a_copy_of_the_training_split_is_refused_as_that(tmp_path: Path) -> None:
    paths = classes(("cat", "dog"))
    write(tmp_path / "d" / "train", paths)
    write(tmp_path / "d" / "test", paths)
    with pytest.raises(DataError) as caught:
        apart(load(str(tmp_path / "d")))
    assert str(caught.value) == (
        "8 of 8 images of split 'train' stand in split 'test' too, among them all of 2 of the "
        "classes; remove the copies from one of the two, or choose another `data.eval_split`"
    )


def test_copies_of_training_images_are_not_held_out(tmp_path: Path) -> None:
    root = Path(write(tmp_path / "d", classes(("cat", "dog"), each=20)))
    for number in range(20):
        (root / "cat" / f"{number} copy.png").write_bytes(tiny(number))
    data = apart(load(str(root)))
    trained = {data.train.image(row).tobytes() for row in range(len(data.train))}
    tested = {data.eval.image(row).tobytes() for row in range(len(data.eval))}
    assert not trained & tested
    assert [note for note in data.notes if "held out images that are in training too" in note]
    assert per_class(data, data.train) == {"cat": 36, "dog": 18}


# --- large images --------------------------------------------------------------------------------


def test_only_the_middle_of_a_very_long_image_is_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    resize = Image.Image.resize

    def watched(image: Image.Image, size: tuple[int, int], *rest: object) -> Image.Image:
        sizes.append(size)
        return resize(image, size, *rest)

    monkeypatch.setattr(Image.Image, "resize", watched)
    plain = Preprocessing(32, 36, (0.0,) * 3, (1.0,) * 3)
    for size in ((1, 20000), (20000, 1), (3, 9999)):
        grey = np.linspace(0, 255, max(size)).astype(np.uint8)
        values = grey.reshape(size[::-1]) if 1 in size else np.repeat(grey, 3).reshape(-1, 3)
        image = Image.fromarray(values).convert("RGB")
        assert plain(image).shape == (3, 32, 32)
        assert abs(float(plain(image).float().mean()) - 127.5) < 1
    assert max(side for size in sizes for side in size) <= 17 * 36
    sizes.clear()
    plain(Image.new("RGB", (300, 40)))
    assert sizes == [(36 * 300 // 40, 36)]


def test_the_middle_of_a_long_image_is_what_it_is_in_the_whole() -> None:
    values = np.random.default_rng(0).integers(0, 256, (8, 800, 3), dtype=np.uint8)
    image = Image.fromarray(values)
    whole = image.resize((36 * 100, 36), Image.Resampling.BILINEAR)
    left, top = (3600 - 32) // 2, 2
    expected = np.asarray(whole.crop((left, top, left + 32, top + 32)))
    found = Preprocessing(32, 36, (0.0,) * 3, (1.0,) * 3)(image).permute(1, 2, 0).numpy()
    assert (found == expected).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16", "F", "P"])
def test_large_images_are_converted_in_strips(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    values = np.random.default_rng(1).integers(0, 65536, (50, 40)).astype(np.uint16)
    if mode in ("I;16", "F"):
        image = Image.fromarray(values if mode == "I;16" else values.astype(np.float32))
    else:
        grey = (values % 256).astype(np.uint8)
        image = Image.fromarray(np.dstack([grey, grey[::-1], grey, 255 - grey])).convert(mode)
    file = io.BytesIO()
    image.save(file, "TIFF" if mode == "F" else "PNG")
    whole = np.asarray(decode(file.getvalue()))
    monkeypatch.setattr("wdistill.data.content.decoding.STRIP", 100)
    assert (np.asarray(decode(file.getvalue())) == whole).all()


def test_large_images_are_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        importlib.reload(decoding)  # sets its filters anew, over those of the test
        assert decoding.decode(tiny(0)).size == (6, 5)
    assert caught == []


# --- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", ["bytes", "struct"])
def test_views_of_bytes_and_text_are_read(tmp_path: Path, image: str) -> None:
    kind = pa.binary_view()
    if image == "struct":
        kind = pa.struct({"bytes": pa.binary_view(), "path": pa.string_view()})
    cells = [tiny(row) for row in range(12)]
    cells = [{"bytes": cell, "path": None} for cell in cells] if image == "struct" else cells
    labels = pa.array(["red", "green", "blue"] * 4, pa.string_view())
    (tmp_path / "d").mkdir()
    columns = pa.table({"image": pa.array(cells, kind), "label": labels})
    pq.write_table(columns, tmp_path / "d" / "train.parquet")
    for path in (tmp_path / "d", tmp_path / "d" / "train.parquet"):
        assert per_class(load(str(path))) == {"blue": 4, "green": 4, "red": 4}


def test_files_with_other_columns_or_types_are_named(tmp_path: Path) -> None:
    table(tmp_path / "a" / "train-0.parquet", [0, 1] * 4)
    table(tmp_path / "a" / "train-1.parquet", [0, 1] * 4, source=["x"] * 8)
    assert message(str(tmp_path / "a")) == (
        "parquet files differ: 'train-1.parquet' has column 'source', which 'train-0.parquet' "
        "lacks; give all files the same columns"
    )
    table(tmp_path / "b" / "train-0.parquet", [0, 1] * 4)
    table(tmp_path / "b" / "train-1.parquet", ["cat", "dog"] * 4)
    assert message(str(tmp_path / "b")) == (
        "parquet files differ: column 'label' is int64 in 'train-0.parquet' and string in "
        "'train-1.parquet'; give all files the same types"
    )


def test_parquet_files_that_speak_of_no_split_are_told(tmp_path: Path) -> None:
    for first, name in enumerate(("train", "test", "extra")):
        table(tmp_path / "d" / f"{name}.parquet", [0, 1] * 4, first=20 * first)
    data = load(str(tmp_path / "d"))
    assert (len(data.train), len(data.eval)) == (8, 8)
    assert [note for note in data.notes if "1 .parquet that speak of no split" in note]


def test_any_name_of_a_folder_of_parquet_files(tmp_path: Path) -> None:
    for first, name in enumerate(("train", "test")):
        table(tmp_path / "a [1]*" / "data" / f"{name}-00000-of-00001.parquet", [0, 1] * 4,
              first=20 * first)  # fmt: skip
    data = load(str(tmp_path / "a [1]*"))
    assert (len(data.train), len(data.eval)) == (8, 8)


def test_pictures_beside_parquet_files_are_counted(tmp_path: Path) -> None:
    table(tmp_path / "d" / "train.parquet", [0, 1] * 4)
    write(tmp_path / "d", ["preview.png"], first=99)
    data = load(str(tmp_path / "d"))
    assert sum(per_class(data).values()) == 8
    assert [note for note in data.notes if "1 images" in note]
