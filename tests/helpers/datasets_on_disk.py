"""Real images, from the embedded subset, in every form that a dataset can have."""

from __future__ import annotations

import io
from functools import cache
from importlib.resources import files
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from accelerate import Accelerator
from PIL import Image

from wdistill.config import DataConfig
from wdistill.data.content.leaks import Pixels, without_copies
from wdistill.data.dataset import ImageData, load_data
from wdistill.data.pixels import PixelStore, Preprocessing
from wdistill.errors import DataError

CLOTHES = ("boot", "coat", "dress")
THREE = [0, 1, 2] * 4  # twelve rows, four of each class


@cache
def fashion(split: str = "test") -> pa.Table:
    data = (
        files("wdistill.data").joinpath("embedded", f"fashion-mnist-{split}.parquet").read_bytes()
    )
    return pq.read_table(io.BytesIO(data))


def png(row: int) -> bytes:
    """The encoded bytes of a real image."""
    return fashion().column("image")[row % len(fashion())]["bytes"].as_py()


def picture(row: int) -> Image.Image:
    with Image.open(io.BytesIO(png(row))) as image:
        return image.copy()


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


def rows_of(labels: list, first: int = 0, **columns: list) -> dict:
    """Columns ``image`` and ``label`` with one real image per label."""
    cells = [{"bytes": png(first + row), "path": None} for row in range(len(labels))]
    return {"image": cells, "label": labels, **columns}


def dataset_of(labels: list, kind: object = None, first: int = 0) -> datasets.Dataset:
    """One split; ``kind`` is the label's feature, by default a ``ClassLabel`` of ``CLOTHES``."""
    kind = kind or datasets.ClassLabel(names=list(CLOTHES))
    features = datasets.Features({"image": datasets.Image(), "label": kind})
    return datasets.Dataset.from_dict(rows_of(labels, first), features=features)


def save(folder: Path, **splits: datasets.Dataset) -> str:
    """A ``save_to_disk`` folder with these splits."""
    datasets.DatasetDict(splits).save_to_disk(str(folder))
    return str(folder)


def write_tree(folder: Path, counts: dict[str, int], first: int = 0) -> str:
    """A folder of images, one sub-folder per class (``train/boot`` for splits)."""
    row = first
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            (folder / name / f"{index:02d}.png").write_bytes(png(row))
            row += 1
    return str(folder)


def write_parquet(path: Path, columns: dict) -> str:
    """Parquet without Hugging Face's schema, as other tools write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return str(path)


def load(dataset: str | None, ipc: int = 1, seed: int = 0, **options: object) -> ImageData:
    return load_data(DataConfig(dataset=dataset, **options), seed, ipc)


def apart(data: ImageData, side: int = 28) -> ImageData:
    """Without images that stand in both splits, as a run at ``side`` pixels takes the data."""
    plain = Preprocessing(side, 0, (0.0,) * 3, (1.0,) * 3)
    stores = Pixels(PixelStore(data.train, plain), PixelStore(data.eval, plain))
    return without_copies(data, stores, Accelerator(cpu=True))[0]


def message(dataset: str | None, ipc: int = 1, **options: object) -> str:
    """The one line of the error."""
    with pytest.raises(DataError) as caught:
        load(dataset, ipc, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def counts(labels: np.ndarray) -> list[int]:
    return np.bincount(labels).tolist()
