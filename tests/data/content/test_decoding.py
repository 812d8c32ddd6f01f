"""Every mode of image becomes the RGB that a viewer would show."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from helpers.datasets_on_disk import picture, pixels, png
from PIL import Image

from wdistill.data.content.decoding import decode, digest_of_images, encoded_bytes, to_rgb


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def first_pixel(image: Image.Image) -> tuple[int, int, int]:
    rgb = to_rgb(image)
    assert rgb.mode == "RGB"
    assert rgb.size == image.size
    return rgb.getpixel((0, 0))


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("LA", (10, 255), (10, 10, 10)),
        ("LA", (10, 0), (255, 255, 255)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("RGBX", (1, 2, 3, 9), (1, 2, 3)),
        ("RGBA", (200, 0, 0, 255), (200, 0, 0)),
        ("RGBA", (200, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
        ("CMYK", (0, 0, 0, 0), (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("CMYK", (0, 0, 0, 255), (0, 0, 0)),
        ("YCbCr", (255, 128, 128), (255, 255, 255)),
        ("YCbCr", (76, 85, 255), (254, 0, 0)),
        ("HSV", (0, 255, 255), (255, 0, 0)),
        ("I", 65535, (255, 255, 255)),
        ("I", 257 * 100, (100, 100, 100)),
        ("I", 200, (200, 200, 200)),
        ("F", 0.2, (51, 51, 51)),
        ("F", 200.0, (200, 200, 200)),
        ("F", 65535.0, (255, 255, 255)),
    ],
)
def test_mode_becomes_rgb(mode: str, color: object, expected: tuple[int, int, int]) -> None:
    assert first_pixel(Image.new(mode, (3, 2), color)) == expected


def test_sixteen_bit_png_keeps_its_levels() -> None:
    levels = np.array([[0, 257, 257 * 128, 65535]], dtype=np.uint16)
    data = encoded(Image.fromarray(levels))
    assert pixels(decode(data))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_dark_sixteen_bit_png_stays_dark() -> None:
    levels = np.full((2, 2), 200, dtype=np.uint16)
    assert pixels(decode(encoded(Image.fromarray(levels)))).max() == 1


def test_float_image_with_gaps_is_decoded() -> None:
    values = np.array([[0.0, np.nan, 1.0]], dtype=np.float32)
    data = encoded(Image.fromarray(values), "TIFF")
    assert pixels(decode(data))[0, :, 0].tolist() == [0, 0, 255]


def test_grey_photo_has_three_equal_channels() -> None:
    rgb = pixels(decode(png(0)))
    assert rgb.shape == (28, 28, 3)
    assert (rgb == pixels(picture(0))[..., None]).all()


def test_palette_and_its_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 250, 120, 10])
    image.putdata([0, 1])
    assert pixels(decode(encoded(image)))[0].tolist() == [[0, 0, 0], [250, 120, 10]]
    data = encoded(image, transparency=0)
    assert pixels(decode(data))[0].tolist() == [[255, 255, 255], [250, 120, 10]]


@pytest.mark.parametrize(("mode", "color"), [("L", 9), ("RGB", (9, 9, 9))])
def test_transparent_color_becomes_white(mode: str, color: object) -> None:
    image = Image.new(mode, (2, 1), color)
    image.putpixel((1, 0), 50 if mode == "L" else (50, 50, 50))
    data = encoded(image, transparency=color)
    assert pixels(decode(data))[0].tolist() == [[255] * 3, [50] * 3]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, (0, 0)), (2, (2, 0)), (3, (2, 1)), (4, (0, 1)), (5, (0, 0)), (6, (1, 0)), (8, (0, 2))],
)
def test_exif_orientation_is_applied(orientation: int, corner: tuple[int, int], kind: str) -> None:
    """The stored top left pixel, of which the file has 8 x 8, lands where a camera held that way
    saw it.
    """
    image = Image.new("RGB", (3, 2), (0, 0, 255))
    image.putpixel((0, 0), (255, 0, 0))
    image = image.resize((24, 16), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = decode(encoded(image, kind, exif=exif)).reduce(8)
    assert upright.size == ((3, 2) if orientation < 5 else (2, 3))
    red, _, blue = upright.getpixel(corner)
    assert red > 200
    assert blue < 50


def test_orientation_in_xmp_is_applied() -> None:
    """As some programs write it, without EXIF."""
    text = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    segment = b"http://ns.adobe.com/xap/1.0/\0" + text
    data = encoded(Image.new("RGB", (24, 16)), "JPEG")
    length = (len(segment) + 2).to_bytes(2, "big")
    assert decode(data[:2] + b"\xff\xe1" + length + segment + data[2:]).size == (16, 24)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_files_of_usual_kinds_are_not_tried_as_others(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which PIL does in the order in which the kinds were loaded."""
    tried: list[str] = []
    data = encoded(picture(1), kind)
    Image.init()
    for name, (factory, accept) in list(Image.OPEN.items()):

        def opens(*args: Any, name: str = name, factory: Any = factory) -> Any:
            tried.append(name)
            return factory(*args)

        monkeypatch.setitem(Image.OPEN, name, (opens, accept))
    monkeypatch.setattr(Image, "ID", Image.ID[::-1])
    assert decode(data).size == (28, 28)
    assert tried == [kind]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_cost_the_image() -> None:
    data = encoded(picture(1).convert("RGB"), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\xff")
    assert decode(data).size == (28, 28)


@pytest.mark.parametrize(
    "data", [b"", b"not an image", png(0)[:-60], png(0)[:20], b"\x89PNG\r\n\x1a\n" + b"\0" * 99]
)
def test_broken_data_raises(data: bytes) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011
        decode(data)


def test_truncated_jpeg_raises() -> None:
    data = encoded(picture(2).resize((200, 200)).convert("RGB"), "JPEG")
    with pytest.raises(OSError, match="truncated"):
        decode(data[: len(data) // 2])


def test_image_bomb_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        decode(png(0))


def test_bytes_come_from_the_cell_the_file_or_the_archive(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(3))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "inside.png")
    cells = [
        {"bytes": png(3), "path": "a.png"},
        {"bytes": None, "path": str(tmp_path / "a.png")},
        {"bytes": None, "path": f"zip://inside.png::{tmp_path / 'a.zip'}"},
    ]
    assert [encoded_bytes(cell) for cell in cells] == [png(3)] * 3
    with pytest.raises(ValueError, match="no image"):
        encoded_bytes({"bytes": None, "path": None})


def test_digest_depends_on_content_alone(tmp_path: Path) -> None:
    def digest(cells: list[dict | None], parts: int = 1) -> bytes:
        features = datasets.Features({"image": datasets.Image(decode=False)})
        pieces = [
            datasets.Dataset.from_dict({"image": [cells[i] for i in rows]}, features=features)
            for rows in np.array_split(np.arange(len(cells)), parts)
        ]
        return digest_of_images(datasets.concatenate_datasets(pieces), "image")

    stored = [{"bytes": png(row), "path": None} for row in range(10)]
    (tmp_path / "0.png").write_bytes(png(0))
    on_disk = [{"bytes": None, "path": str(tmp_path / "0.png")}, *stored[1:]]
    assert digest(stored) == digest(stored, parts=3) == digest(on_disk)
    assert digest(stored) != digest(stored[::-1])
    assert digest(stored) != digest(stored[:9])
    first, second = png(0), png(1)
    moved = [{"bytes": first + second[:1], "path": None}, {"bytes": second[1:], "path": None}]
    assert digest(stored[:2]) != digest(moved)
