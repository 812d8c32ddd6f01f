"""Image files: without loss the same pixels, with loss what `datasets` gives to a reader."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import load_dataset
from helpers.examples import distilled_set
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wdistill.artifact.distilled_set import read_distilled, write_data
from wdistill.artifact.parquet import Pictures
from wdistill.config import CodingConfig
from wdistill.data.content.coding import Coding, decode_file, file_sizes, is_grey
from wdistill.errors import OptionError

CODINGS = (Coding("png"), Coding("webp"), Coding("webp", 80), Coding("webp", 15))


def smooth(seed: int, side: int = 32) -> np.ndarray:
    """A photograph's statistics, roughly: low frequencies of three channels."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_pixels_without_loss_come_back(seed: int, height: int, width: int, grey: bool) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if grey:
        image = np.repeat(image[..., :1], 3, axis=2)
    for coding in CODINGS[:2]:
        assert np.array_equal(decode_file(coding.encode(image, grey), grey), image)


def test_a_grey_png_has_one_channel() -> None:
    image = np.repeat(smooth(0)[..., :1], 3, axis=2)
    file = Coding().encode(image, grey=True)
    with Image.open(io.BytesIO(file)) as opened:
        assert opened.mode == "L"
    assert len(file) < len(Coding().encode(image))


def test_a_coarser_quality_takes_fewer_bytes_and_is_further_off() -> None:
    pixels = torch.from_numpy(np.stack([smooth(seed) for seed in range(8)])).permute(0, 3, 1, 2)
    codings = [Coding("webp"), *(Coding("webp", quality) for quality in (95, 60, 30, 5))]
    sizes = [sum(file_sizes(pixels, coding, grey=False)) for coding in codings]
    errors = [float((coding.seen(pixels) - 0.0 - pixels).square().mean()) for coding in codings]
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)
    assert errors[0] == 0 < errors[1]
    assert max(errors) < float(pixels.float().var()) / 10


def test_any_number_of_leading_dimensions_is_kept() -> None:
    pixels = torch.from_numpy(np.stack([smooth(seed) for seed in range(6)])).permute(0, 3, 1, 2)
    coding = Coding("webp", 40)
    seen = coding.seen(pixels.reshape(2, 3, 3, 32, 32))
    assert torch.equal(seen.flatten(0, 1), coding.seen(pixels))
    assert Coding().seen(pixels) is pixels


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("coding", CODINGS, ids=str)
def test_datasets_gives_a_reader_the_pixels_that_were_labelled(
    tmp_path: Path, coding: Coding, grey: bool
) -> None:
    original = distilled_set().images
    if not grey:
        original = np.stack([smooth(seed, 28) for seed in range(len(original))])
    assert is_grey(original) == grey
    files = Pictures(coding.files(original, grey), tmp_path)
    images = np.stack([decode_file(files[row], grey) for row in range(len(original))])
    tensor = coding.seen(torch.from_numpy(original).permute(0, 3, 1, 2))
    assert np.array_equal(tensor.permute(0, 2, 3, 1).numpy(), images)
    written = replace(distilled_set(), images=images, grey=grey, files=files)
    sizes = write_data(tmp_path / "ipc4", written)
    assert sizes.images == sum(files.sizes)
    assert np.array_equal(read_distilled(tmp_path / "ipc4").images, images)
    assert read_distilled(tmp_path / "ipc4").grey == grey
    rows = load_dataset("parquet", data_dir=str(tmp_path / "ipc4/data"), cache_dir=tmp_path / "c")
    shown = [row["image"] for row in rows["train"]]
    assert {image.mode for image in shown} == {"L" if grey else "RGB"}
    assert np.array_equal(np.stack([np.asarray(image.convert("RGB")) for image in shown]), images)


@pytest.mark.parametrize("quality", ["0", "101", "7.5", "best", "-3", "٣"])
def test_other_qualities_are_refused(quality: str) -> None:
    with pytest.raises(OptionError, match="give auto, lossless or a number from 1 to 100"):
        CodingConfig("webp", quality)


def test_png_has_no_quality() -> None:
    with pytest.raises(OptionError, match="is 60, but PNG has no quality"):
        CodingConfig("png", "60")


def test_settings_name_a_coding_unless_it_is_to_be_chosen() -> None:
    assert Coding.of(CodingConfig("webp", "60")) == Coding("webp", 60)
    assert Coding.of(CodingConfig("webp", "lossless")) == Coding("webp")
    assert Coding.of(CodingConfig("webp", "auto")) is None
    assert Coding.of(CodingConfig("png", "auto")) == Coding("png")
    assert Coding.of(CodingConfig("png")) == Coding("png")
    assert Coding.of(CodingConfig()) == Coding("webp", 60)


def test_images_are_made_for_coarse_files_alone() -> None:
    assert [Coding("webp", q).is_coarse for q in (None, 100, 60, 59, 1)] == [
        False, False, False, True, True,
    ]  # fmt: skip
    assert not Coding("png").is_coarse
