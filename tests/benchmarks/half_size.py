"""Bytes and error of images as WebP, and of images of half the side that a reader scales up.

    python -m tests.benchmarks.half_size --dataset cifar10

No student is trained. The error is the root of the mean squared difference to the image itself,
pixels being from 0 to 1. Images are halved by the mean of four pixels and scaled up bicubically.
"""

from __future__ import annotations

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wdistill.config import DataConfig
from wdistill.data.content.coding import Coding, decode_file
from wdistill.data.dataset import load_data
from wdistill.data.pixels import PixelStore, Preprocessing

IMAGES = 500
QUALITIES = {1: (1, 5, 10, 20, 40, 60), 2: (10, 20, 40, 60, 80, 90)}  # by how much smaller


def scaled(image: NDArray[np.uint8], side: int, how: Image.Resampling) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((side, side), how))


def measured(images: NDArray[np.uint8], smaller: int, quality: int) -> tuple[float, float]:
    """Mean bytes of a file, and the error of what is shown, of images (N, R, R, 3)."""
    side, coding = images.shape[1], Coding("webp", quality)
    sizes, errors = [], []
    for image in images:
        stored = scaled(image, side // smaller, Image.Resampling.BOX)
        file = coding.encode(stored)
        shown = scaled(decode_file(file), side, Image.Resampling.BICUBIC)
        sizes.append(len(file))
        errors.append(np.mean((shown / 255 - image / 255) ** 2))
    return float(np.mean(sizes)), float(np.sqrt(np.mean(errors)))


@click.command(help=__doc__)
@click.option("--dataset", required=True)
def main(dataset: str) -> None:
    data = load_data(DataConfig(dataset=dataset), 0, 1)
    rows = np.linspace(0, len(data.train) - 1, IMAGES).astype(int)
    none = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    pixels = PixelStore(data.train.take(rows), Preprocessing(data.native_size, 0, *none))
    images = pixels.get(range(IMAGES)).permute(0, 2, 3, 1).contiguous().numpy()
    click.echo("| side | WebP quality | bytes of a file | error |\n|---:|---:|---:|---:|")
    for smaller, qualities in QUALITIES.items():
        for quality in qualities:
            size, error = measured(images, smaller, quality)
            click.echo(f"| {images.shape[1] // smaller} | {quality} | {size:.0f} | {error:.4f} |")


if __name__ == "__main__":
    main()
