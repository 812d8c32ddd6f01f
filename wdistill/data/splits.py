"""Image files of any kind to upright RGB."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import datasets
import numpy as np
import pyarrow as pa
from PIL import Image, ImageOps

from wdistill.core.log import Progress
from wdistill.data.columns import read_labels
from wdistill.errors import DataError

T = TypeVar("T")
WHITE = (255, 255, 255, 255)
# The pixels are fine, and large photo collections hold many such files.
warnings.filterwarnings("ignore", message="Corrupt EXIF data", module=r"PIL\.")


def encoded_bytes(cell: dict[str, Any] | None) -> bytes:
    """The file behind a cell of an image column: its bytes, or those at its path.

    The path may lead into an archive or to the Hub (``zip://a.png::/data/images.zip``).
    """
    if cell is None or (cell.get("bytes") is None and cell.get("path") is None):
        raise ValueError("there is no image")
    if cell.get("bytes") is not None:
        return bytes(cell["bytes"])
    path = str(cell["path"])
    if "://" not in path:
        return Path(path).read_bytes()
    embedded = datasets.Image().embed_storage(pa.array([cell], datasets.Image.pa_type))
    return bytes(embedded[0]["bytes"].as_py())


def decode(data: bytes) -> Image.Image:
    """Upright RGB from an encoded image; any exception means that it cannot be decoded."""
    if not data:
        raise ValueError("the file is empty")
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return to_rgb(image)


def stored_size(data: bytes) -> tuple[int, int]:
    """Of an encoded image, from its first bytes."""
    if not data:
        raise ValueError("the file is empty")
    with Image.open(io.BytesIO(data)) as image:
        return image.size


def to_rgb(image: Image.Image) -> Image.Image:
    """Turned as its EXIF orientation says, on white where transparent, 8 bits per channel."""
    image = _upright(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(image)).convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    if "transparency" in image.info or image.mode in ("LA", "PA", "RGBA", "RGBa"):
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, WHITE), layer).convert("RGB")
    return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF says nothing about the pixels, and PIL raises many kinds
        return image


def _eight_bits(image: Image.Image) -> np.ndarray:
    """Grey levels of the wide modes on the scale 0..255.

    I;16 is 16-bit. I (32-bit) and F hold whatever the file held: the range tells which, 0..1
    (F only), 0..255 or 0..65535.
    """
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=65535.0)
    highest = values.max(initial=0.0)
    if image.mode == "F" and highest <= 1.0:
        values = values * 255.0
    elif image.mode.startswith("I;") or highest > 255.0:
        values = values / 257.0
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def digest_of_images(dataset: Any, column: str) -> bytes:
    """SHA-256 of all encoded images, whatever the files or chunks that they are stored in."""
    content, lengths = hashlib.sha256(), hashlib.sha256()
    for batch in dataset.with_format("arrow").iter(batch_size=1000):
        for chunk in batch.column(column).chunks:
            cells = chunk.field("bytes")
            if cells.null_count:
                parts = [_stored_bytes(cell) for cell in chunk.to_pylist()]
            else:
                parts = cells.to_pylist()
            content.update(b"".join(parts))
            lengths.update(np.array([len(part) for part in parts], "<i8").tobytes())
    return content.digest() + lengths.digest()


def _stored_bytes(cell: dict[str, Any] | None) -> bytes:
    try:
        return encoded_bytes(cell)
    except (OSError, ValueError):  # missing; reported when the image is asked for
        return b""


HOLDOUT = 0.1  # share of each class


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """Rows of one class-labelled split; images are decoded when asked for."""

    labels: np.ndarray  # (N,) int64
    dataset: Any  # datasets.Dataset with undecoded images
    rows: np.ndarray  # (N,) int64, positions in ``dataset``
    name: str
    column: str
    groups: np.ndarray | None = None  # (N,) int64: domain, client, ...; in any numbering
    fingerprint: str = ""  # of the whole dataset

    def __len__(self) -> int:
        return len(self.rows)

    def image(self, row: int) -> Image.Image:
        """Upright RGB image of ``row``."""
        return self._read(row, decode)

    def size(self, row: int) -> tuple[int, int]:
        """Width and height of the image of ``row`` as it is stored, which need no decoding."""
        return self._read(row, stored_size)

    def _read(self, row: int, read: Callable[[bytes], T]) -> T:
        position = int(self.rows[row])
        cell = self.dataset[position][self.column]
        try:
            return read(encoded_bytes(cell))
        except Exception as error:  # PIL raises many kinds on damaged files
            file = f" ({cell['path']})" if cell and cell.get("path") else ""
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            where = f"row {position} of split {self.name!r}{file}"
            raise DataError(
                f"broken image in {where}: {reason}; repair it or pass `data.skip_broken=True`"
            ) from error

    def take(self, chosen: np.ndarray) -> ImageSplit:
        """The split with only these rows, in this order."""
        groups = None if self.groups is None else self.groups[chosen]
        return replace(self, labels=self.labels[chosen], rows=self.rows[chosen], groups=groups)


def labelled_split(
    dataset: Any, name: str, columns: tuple[str, str]
) -> tuple[ImageSplit, tuple[str, ...]]:
    """Labels, and the images kept undecoded; the class names are those of this split alone."""
    image_column, label_column = columns
    labels, class_names = read_labels(dataset, label_column, name)
    images = dataset.with_format(None).select_columns([image_column])
    images = images.cast_column(image_column, datasets.Image(decode=False))
    return ImageSplit(labels, images, np.arange(len(labels)), name, image_column), class_names


def renamed(split: ImageSplit, names: tuple[str, ...], class_names: tuple[str, ...]) -> ImageSplit:
    """The split with its labels in the order of the training classes, matched by name."""
    position = {name: index for index, name in enumerate(class_names)}
    used = np.unique(split.labels[split.labels >= 0])
    strange = [names[label] for label in used if names[label] not in position]
    if strange:
        raise DataError(
            f"split {split.name!r} has class {strange[0]!r} which the training split lacks; "
            "choose another `data.eval_split`"
        )
    order = np.array([*(position.get(name, -1) for name in names), -1], dtype=np.int64)
    return replace(split, labels=order[split.labels])


def without_broken(split: ImageSplit, quiet: bool = True) -> ImageSplit:
    """Only the rows whose image can be decoded; every image is tried once."""

    def sound(rows: np.ndarray) -> list[bool]:
        return [_is_sound(split, int(row)) for row in rows]

    batches = np.array_split(np.arange(len(split)), max(1, len(split) // 64))
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        Progress(f"checking {split.name} images", len(split), "img", quiet=quiet) as bar,
    ):
        keep: list[bool] = []
        for flags in pool.map(sound, batches):
            keep += flags
            bar.update(len(flags))
    return split.take(np.flatnonzero(keep))


def _is_sound(split: ImageSplit, row: int) -> bool:
    try:
        split.image(row)
    except DataError:
        return False
    return True


def hold_out(split: ImageSplit, classes: int, seed: int) -> list[ImageSplit]:
    """Training and evaluation rows: a tenth of each class, at least one where it has two."""
    held = np.zeros(len(split), dtype=bool)
    for label in range(classes):
        rows = np.flatnonzero(split.labels == label)
        count = max(1, round(HOLDOUT * len(rows))) if len(rows) > 1 else 0
        held[np.random.default_rng((seed, label)).permutation(rows)[:count]] = True
    return [split.take(np.flatnonzero(~held)), split.take(np.flatnonzero(held))]
