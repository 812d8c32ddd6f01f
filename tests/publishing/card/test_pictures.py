"""The preview shows the images as they are, with names that fit."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from helpers.examples import distilled_set
from PIL import Image

from wdistill.publishing.card.pictures import (
    _font,
    loss_plot,
    preview_grid,
    progress_grid,
    save_png,
    shorten,
)

SHARK = "great white shark, white shark, man-eater, man-eating shark"


def test_small_images_are_enlarged_pixel_by_pixel() -> None:
    distilled = distilled_set(ipc=6)
    grid = np.asarray(preview_grid(distilled))
    first = distilled.images[0].repeat(2, axis=0).repeat(2, axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(grid, (56, 56, 3))[14, :, 0]
    assert any(np.array_equal(window, first) for window in windows)


@pytest.mark.parametrize("ipc", [1, 3, 10])
def test_nothing_is_clipped(ipc: int) -> None:
    names = (SHARK, *(f"class {c}\nof\tten" for c in range(9)))
    grid = np.asarray(preview_grid(distilled_set(names, ipc)))
    edge = np.concatenate([grid[:8].ravel(), grid[-4:].ravel(), grid[:, :8].ravel()])
    assert (edge == 255).all()
    assert (grid[:, -8:] == 255).all()


def test_progress_shows_each_image_at_every_moment() -> None:
    """Three greys of one set: cells of a row are the start, the middle and the end of one image."""
    names = distilled_set().class_names
    greys = np.array([10, 120, 230], np.uint8).reshape(1, 3, 1, 1, 1)
    images = np.broadcast_to(greys, (2, 3, 28, 28, 3))
    several = {0: images, **dict.fromkeys(range(1, len(names)), images[:1])}
    grid = np.asarray(progress_grid(several, names))
    line = grid[14 + 28, -(14 + 6 * 60) :, 0].tolist()  # the cells of the first row
    assert [grey for grey, _ in groupby(line) if grey != 255] == [10, 120, 230] * 2


def test_loss_terms_are_drawn_as_shares_of_their_start() -> None:
    steps = np.arange(0, 100, 25, dtype=np.float32)
    one = np.asarray(loss_plot(steps, {"a": 8 / (1 + steps)}))
    scaled = np.asarray(loss_plot(steps, {"a": 2 / (1 + steps)}))
    flat = np.asarray(loss_plot(steps, {"a": np.ones(4, dtype=np.float32)}))
    assert np.array_equal(one, scaled)
    assert not np.array_equal(one, flat)


def test_many_classes_are_thinned_out_evenly() -> None:
    distilled = distilled_set(tuple(f"class {c}" for c in range(41)), ipc=6)
    grid = preview_grid(distilled, max_classes=5, max_per_class=5)
    assert grid.height == 14 + 5 * 60 + 30
    assert preview_grid(distilled).height == 14 + 20 * 60 + 30


def test_large_images_are_reduced_and_oblong_ones_keep_their_shape() -> None:
    grid = preview_grid(distilled_set(ipc=5, size=(224, 112)))
    assert grid.height == 14 + 3 * (56 + 4) + 30


def test_names_are_shortened_to_fit() -> None:
    font = _font(15)
    assert shorten("Trouser", font, 200) == "Trouser"
    assert shorten("a\n\u202eb\t c", font, 200) == "a b c"
    short = shorten(SHARK, font, 200)
    assert short.startswith("great white")
    assert short.endswith("…")
    assert font.getlength(short) <= 200
    assert shorten("x" * 100_000, font, 50).endswith("…")


def test_the_same_set_gives_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_png(tmp_path / name, preview_grid(distilled_set()))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with Image.open(tmp_path / "a") as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
