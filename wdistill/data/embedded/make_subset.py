"""Make the embedded subset of Fashion-MNIST from the four official ``*-ubyte.gz`` files.

    python -m wdistill.data.embedded.make_subset /usr/share/datasets/fashion-mnist

The choice of images depends on the seed below alone; the bytes of the files also depend on the
versions of Pillow and pyarrow, which README.md beside this script names.
"""

from __future__ import annotations

import gzip
import hashlib
import io
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features, Image
from PIL import Image as PILImage

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SEED = 20170825  # the day of the first commit of Fashion-MNIST
PARTS = {"train": ("train", 1000), "test": ("t10k", 200)}


def read_idx(path: Path) -> np.ndarray:
    """An array from the IDX format: magic number, dimensions (big endian), bytes."""
    data = gzip.decompress(path.read_bytes())
    rank = data[3]
    shape = np.frombuffer(data, ">u4", count=rank, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(tuple(map(int, shape)))


def choose(labels: np.ndarray, per_class: int, seed: tuple[int, int]) -> np.ndarray:
    """``per_class`` rows of each class, drawn without replacement, in their original order."""
    generator = np.random.default_rng(seed)
    rows = [
        generator.choice(np.flatnonzero(labels == label), per_class, replace=False)
        for label in range(len(CLASS_NAMES))
    ]
    return np.sort(np.concatenate(rows))


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PILImage.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def write_split(images: np.ndarray, labels: np.ndarray, rows: np.ndarray, path: Path) -> None:
    """Parquet that ``datasets`` reads back with its features; file names keep the original row."""
    features = Features({"image": Image(), "label": ClassLabel(names=list(CLASS_NAMES))})
    stem = path.stem.rsplit("-", 1)[-1]
    encoded = [{"bytes": png(images[row]), "path": f"{stem}-{row:05d}.png"} for row in rows]
    table = pa.Table.from_pydict(
        {"image": encoded, "label": labels[rows].astype(np.int64)}, schema=features.arrow_schema
    )
    pq.write_table(table, path, compression="zstd", compression_level=19, row_group_size=1000)


@click.command(help="Make the subset from FOLDER, which holds the four official *-ubyte.gz files.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(__file__).parent,
    help="Folder that the two parquet files go to (default: beside this script).",
)
def main(folder: Path, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    for number, (split, (prefix, per_class)) in enumerate(PARTS.items()):
        images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
        labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
        rows = choose(labels, per_class, (SEED, number))
        path = output / f"fashion-mnist-{split}.parquet"
        write_split(images, labels, rows, path)
        content = hashlib.sha256(images[rows].tobytes() + labels[rows].tobytes()).hexdigest()
        click.echo(f"{path.name}: {len(rows)} images, {path.stat().st_size} bytes")
        click.echo(f"  file    sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")
        click.echo(f"  content sha256 {content}")


if __name__ == "__main__":
    main()
