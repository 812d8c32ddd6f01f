"""Random folders and tables of the oddities that people's files have. Each ends with every image in
a split or in a line that says its number, or is refused in one line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.datasets_on_disk import apart, load
from helpers.field import tiny, zipped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wdistill.data.dataset import ImageData
from wdistill.errors import WdistillError

pytestmark = pytest.mark.usefixtures("own_cache")

NAMES = (
    "cat", "dog", "Cat", "diesel_train", "train", "test tube", "a [1]", "*", "no", "007", "null",
    "-1", "caf\u00e9", "cafe\u0301", "\U0001f600", "b c", "val", "dev", "x.y", "#", "{a}", "__b__",
    "images",
)  # fmt: skip
SPLITS = (
    "train", "Train", "training", "trainval", "val", "valid", "validation", "dev", "test", "eval",
    "Testing", "extra", "train_images", "test-images",
)  # fmt: skip
SUFFIXES = (".png", ".PNG", ".jpg", ".JPEG", ".bmp", ".webp")
KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}
SHAPES = (
    "{class_}", "{split}/{class_}", "{split}/{class_}/images", "data/{split}/{class_}",
    "{class_}/{split}", "{class_}/{other}", "{split}/{other}/{class_}", "{split}", "",
)  # fmt: skip
STRAYS = ("notes.txt", "a.heic", "b.json", ".hidden.png", "noend", "cover.png", "deep/er/x.png",
          "broken", "link", "circle", "copy", "archive", "metadata")  # fmt: skip


@dataclass(frozen=True)
class Folder:
    """shape: of the paths; strays: what lies beside them."""

    shape: str
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    each: int
    suffix: str
    words: bool  # whether names of files speak of splits
    strays: frozenset[str]


folders = st.builds(
    Folder,
    st.sampled_from(SHAPES),
    st.lists(st.sampled_from(NAMES), min_size=2, max_size=4, unique=True).map(tuple),
    st.lists(st.sampled_from(SPLITS), min_size=1, max_size=3, unique_by=str.lower).map(tuple),
    st.integers(2, 4),
    st.sampled_from(SUFFIXES),
    st.booleans(),
    st.frozensets(st.sampled_from(STRAYS), max_size=2),
)


def write_folder(root: Path, folder: Folder) -> int:
    """How many files of images there are, hidden ones and copies included."""
    root.mkdir()
    paths = {
        folder.shape.format(split=split, class_=class_, other=other)
        for split in folder.splits
        for class_ in folder.classes
        for other in ("old", "new")
    }
    written: list[Path] = []
    for place in sorted(paths):
        for index in range(folder.each):
            name = f"{('train', 'test', 'IMG')[index % 3]}_{index}" if folder.words else str(index)
            file = root / place / f"{name}{folder.suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(tiny(len(written), KINDS[folder.suffix.lower()]))
            written.append(file)
    return len(written) + sum(_stray(root, kind, written) for kind in sorted(folder.strays))


def _stray(root: Path, kind: str, written: list[Path]) -> int:
    """How many images it adds."""
    beside = written[0].parent
    if kind == "broken":
        written[0].write_bytes(b"<html>")
    elif kind == "link":
        (beside / "linked.png").symlink_to(written[-1])
        (beside / "gone.png").symlink_to(root / "nowhere.png")
        return 1
    elif kind == "circle":
        (beside / "circle").symlink_to(root)
    elif kind == "copy":
        (written[-1].parent / f"copy{written[0].suffix}").write_bytes(written[0].read_bytes())
        return 1
    elif kind == "archive":
        zipped(beside.parent / "more.zip", ["0.png", "1.png"], first=900)
        return 2
    elif kind == "metadata":
        rows = "".join(f"{file.relative_to(root)},me\n" for file in written)
        (root / "metadata.csv").write_text(f"file_name,author\n{rows}")
    else:
        file = root / kind if kind == "cover.png" else beside / kind
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(tiny(800))
        return int(file.suffix == ".png")
    return 0


COUNTED = (
    r"Left out of training ([\d,]+) of",
    r"Left out ([\d,]+) held out images",
    r"Left out ([\d,]+) images that no metadata",
    r"Split '.*?' \(([\d,]+) images\) has no labels",
    r"([\d,]+) hidden",
    r"'.*?' \(([\d,]+) images\)(?:,|\.$)",
    r"Left out .*?([\d,]+) images[,)]",
)


def accounted(data: ImageData) -> int:
    """Images that are in a split, or whose number is in a line."""
    total = len(data.train) + len(data.eval) + data.unlabelled + data.broken
    for note in data.notes:
        for pattern in COUNTED:
            total += sum(int(number.replace(",", "")) for number in re.findall(pattern, note))
    return total


def check(path: Path, images: int) -> None:
    try:
        data = apart(load(str(path), skip_broken=True))
    except WdistillError as error:
        text = str(error)
        assert text == text.strip()
        assert "\n" not in text
        assert "cannot read dataset" not in text, text
        return
    assert accounted(data) == images, data.notes
    assert len(data.class_names) == len(set(data.class_names)) >= 2
    assert set(data.train.labels) == set(range(len(data.class_names)))
    trained = {data.train.image(row).tobytes() for row in range(len(data.train))}
    tested = {data.eval.image(row).tobytes() for row in range(len(data.eval))}
    assert not trained & tested or data.eval_is_holdout


# --- tables --------------------------------------------------------------------------------------

LABELS = {
    "int": [0, 1, 2, 0, 1, 2], "float": [0.0, 1.0, 2.0, 0.0, 1.0, 2.0],
    "gaps": [5, 900, 7, 5, 900, 7], "null": [0, None, 1, 0, None, 1],
    "nan": [0.0, float("nan"), 1.0] * 2, "minus": [-1, 0, 1, -1, 0, 1],
    "negative": [-1, 1] * 3, "unlabelled": [0, 1, 2, -1, 0, 1], "half": [0.5, 1.0, 0.5] * 2,
    "text": ["no", "007", "null"] * 2, "spaces": ["cat", "cat\n", "dog"] * 2,
    "ends": ["cat\n", "dog\x85"] * 3, "case": ["Cat", "cat", "dog"] * 2,
    "empty": ["", "a", "b"] * 2, "bool": [True, False] * 3, "lists": [[0], [1], [0, 1]] * 2,
    "one": ["same"] * 6, "nothing": [None] * 6, "bytes": [b"a", b"b"] * 3,
}  # fmt: skip
FILES = ("train.parquet", "test.parquet", "extra.parquet", "data/train-00000-of-00001.parquet",
         "data/val-00000-of-00001.parquet", "dev/0.parquet", "a [x].parquet")  # fmt: skip
CELLS = {
    "struct": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
    "bytes": pa.binary(),
    "large": pa.large_binary(),
    "view": pa.binary_view(),
    "struct of views": pa.struct({"bytes": pa.binary_view(), "path": pa.string_view()}),
}
files = st.lists(st.sampled_from(FILES), min_size=1, max_size=3, unique=True)
kinds = st.lists(st.sampled_from(sorted(LABELS)), min_size=1, max_size=2)


def write_tables(root: Path, names: list[str], labels: list[str], cells: str, more: bool) -> int:
    """How many rows there are."""
    for number, name in enumerate(names):
        images = [tiny(6 * number + row) for row in range(6)]
        column = [{"bytes": i, "path": None} for i in images] if "struct" in cells else images
        values = LABELS[labels[number % len(labels)]]
        columns = {"image": pa.array(column, CELLS[cells]), "label": pa.array(values)}
        if more and number:
            columns["source"] = pa.array(["x"] * 6)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), root / name)
    return 6 * len(names)


def rows_in_no_split(data: ImageData) -> int:
    numbers = [re.findall(r"([\d,]+) \.parquet that speak", note) for note in data.notes]
    return 6 * sum(int(number[0]) for number in numbers if number)


# --- the runs ------------------------------------------------------------------------------------

QUICK, MANY = 20, 150
checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


def run_folders(tmp_path: Path, examples: int) -> None:
    @settings(max_examples=examples, suppress_health_check=checks)
    @given(folders)
    def every_image_is_accounted_for(folder: Folder) -> None:
        root = tmp_path / f"photos [{len(list(tmp_path.iterdir()))}]"
        check(root, write_folder(root, folder))

    every_image_is_accounted_for()


def run_tables(tmp_path: Path, examples: int) -> None:
    @settings(max_examples=examples, suppress_health_check=checks)
    @given(files, kinds, st.sampled_from(sorted(CELLS)), st.booleans())
    def every_row_is_accounted_for(
        names: list[str], labels: list[str], cells: str, more: bool
    ) -> None:
        root = tmp_path / f"tables {len(list(tmp_path.iterdir()))}"
        rows = write_tables(root, names, labels, cells, more)
        try:
            beside = rows_in_no_split(load(str(root), skip_broken=True))
        except WdistillError:
            beside = 0
        check(root, rows - beside)

    every_row_is_accounted_for()


def test_folders(tmp_path: Path) -> None:
    run_folders(tmp_path, QUICK)


def test_tables(tmp_path: Path) -> None:
    run_tables(tmp_path, QUICK)


@pytest.mark.slow
def test_many_folders(tmp_path: Path) -> None:
    run_folders(tmp_path, MANY)


@pytest.mark.slow
def test_many_tables(tmp_path: Path) -> None:
    run_tables(tmp_path, MANY)
