"""Small files of the kinds that people have, each image with a content of its own."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from wdistill.data.dataset import ImageData
from wdistill.data.splits import ImageSplit


def tiny(number: int, kind: str = "PNG") -> bytes:
    """An image of 6 x 5 pixels that no other number has."""
    values = np.random.default_rng(number).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind)
    return file.getvalue()


def write(root: Path, paths: Iterable[str], first: int = 0) -> str:
    """An image at each path below ``root``."""
    for number, path in enumerate(paths):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(tiny(first + number))
    return str(root)


def classes(folders: Iterable[str], each: int = 4) -> list[str]:
    """Paths of so many images in each folder."""
    return [f"{folder}/{index}.png" for folder in folders for index in range(each)]


def zipped(path: Path, paths: Iterable[str], first: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(paths):
            archive.writestr(name, tiny(first + number))


def tarred(path: Path, files: Mapping[str, bytes], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def table(
    path: Path, labels: list, kind: pa.DataType | None = None, first: int = 0, **columns: list
) -> str:
    """A parquet file with an image and a label a row."""
    cells = [{"bytes": tiny(first + row), "path": None} for row in range(len(labels))]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": cells, "label": pa.array(labels, kind), **columns}), path)
    return str(path)


def per_class(data: ImageData, split: ImageSplit | None = None) -> dict[str, int]:
    """How many images of each class there are, in a split or in both."""
    splits = [split] if split else [data.train, data.eval]
    numbers = np.concatenate([part.labels for part in splits])
    counts = np.bincount(numbers, minlength=len(data.class_names))
    return dict(zip(data.class_names, counts.tolist(), strict=True))
