"""Image files of any kind to upright RGB."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from PIL import Image, ImageOps

WHITE = (255, 255, 255, 255)
STARTS = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}
STRIP = 2**22  # pixels of a large image that are converted at once
# The pixels are fine, and large photo collections hold many such files.
warnings.filterwarnings("ignore", message="Corrupt EXIF data", module=r"PIL\.")
# Up to twice that size an image is read like any other, and beyond it PIL raises an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


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
    with Image.open(io.BytesIO(data), formats=_formats(data)) as image:
        image.load()
        return to_rgb(image)


def _formats(data: bytes) -> tuple[str, ...] | None:
    """What the first bytes say, in place of all kinds, of which PIL may try 24 before JPEG."""
    for start, kind in STARTS.items():
        if data.startswith(start):
            return (kind,)
    return None


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
        return _joined(image, _eight_bits(image))
    if "transparency" in image.info or image.mode in ("La", "LA", "PA", "RGBA", "RGBa"):
        return _joined(image, map(_on_white, _strips(image)))
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, WHITE), layer).convert("RGB")


def _strips(image: Image.Image) -> Iterator[Image.Image]:
    """Parts from top to bottom, so that what is made of them need not fit into memory twice."""
    rows = max(1, STRIP // image.width)
    if rows >= image.height:
        yield image
        return
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _joined(image: Image.Image, strips: Iterator[Image.Image]) -> Image.Image:
    """An image of the same size as ``image`` of strips from top to bottom."""
    result, top = Image.new("RGB", image.size), 0
    for strip in strips:
        result.paste(strip.convert("RGB"), (0, top))
        top += strip.height
    return result


def _upright(image: Image.Image) -> Image.Image:
    """Turned in place: a copy of a large image may take gigabytes."""
    if image.format == "JPEG" and not {"exif", "xmp"} & image.info.keys():
        return image  # PIL would look for them in all places of all kinds of files
    try:
        ImageOps.exif_transpose(image, in_place=True)
        return image
    except Exception:  # damaged EXIF says nothing about the pixels, and PIL raises many kinds
        return image


def _eight_bits(image: Image.Image) -> Iterator[Image.Image]:
    """Grey levels of the wide modes on the scale 0..255.

    I;16 is 16-bit. I (32-bit) and F hold whatever the file held: the range tells which, 0..1
    (F only), 0..255 or 0..65535.
    """
    highest = max(float(_wide(strip).max(initial=0.0)) for strip in _strips(image))
    for strip in _strips(image):
        values = _wide(strip)
        if image.mode == "F" and highest <= 1.0:
            values = values * 255.0
        elif image.mode.startswith("I;") or highest > 255.0:
            values = values / 257.0
        yield Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _wide(image: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=65535.0)


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
