"""Pixels are those of the checkpoint's own image processor, or it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.backbones import IDENTITY, SIZE, assert_same_input, collage, found, tiny_config
from transformers import AutoImageProcessor, ConvNextImageProcessor, ViTImageProcessor

from wdistill.errors import BackboneError
from wdistill.networks.checkpoints.source import BackboneSource, find_backbone
from wdistill.networks.preprocessing import preprocessing_for, working_resolution

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
COMMON = {"do_normalize": True, "image_mean": MEAN, "image_std": STD, "resample": 3}
SQUARE = {**COMMON, "size": {"height": 224, "width": 224}}
PROCESSORS: dict[str, tuple[dict[str, Any], int, int]] = {  # native size, side before the crop
    "vit": (SQUARE, 224, 0),
    "vit, old": ({**COMMON, "size": 224}, 224, 0),
    "convnext": ({**COMMON, "size": {"shortest_edge": 224}, "crop_pct": 0.875}, 224, 256),
    "convnext, old": ({**COMMON, "size": 224, "crop_pct": 0.875}, 224, 256),
    "resnet-50": ({**COMMON, "size": {"shortest_edge": 160}, "crop_pct": 0.8}, 160, 200),
    "clip": (
        {
            **COMMON,
            "size": {"shortest_edge": 224},
            "do_center_crop": True,
            "crop_size": {"height": 224, "width": 224},
        },
        224,
        224,
    ),
    "mobilenet": (
        {
            **COMMON,
            "size": {"shortest_edge": 256},
            "do_center_crop": True,
            "crop_size": {"height": 224, "width": 224},
        },
        224,
        256,
    ),
}


def described(processor: dict[str, Any] | None, name: str = "net") -> BackboneSource:
    return BackboneSource(name, tiny_config("resnet"), processor, True, None, False)


@pytest.mark.parametrize("name", PROCESSORS)
def test_size_crop_and_normalisation_are_the_processors(name: str) -> None:
    processor, native, resize = PROCESSORS[name]
    source = described(processor)
    assert working_resolution(source, None, 500) == working_resolution(source, None, 28) == native
    result = preprocessing_for(source, native, IDENTITY)
    assert (result.resolution, result.resize) == (native, resize)
    assert (result.mean, result.std, result.resample) == (tuple(MEAN), tuple(STD), 3)


@pytest.mark.parametrize("name", PROCESSORS)
def test_the_crop_scales_with_the_resolution(name: str) -> None:
    processor, native, resize = PROCESSORS[name]
    source = described(processor)
    assert working_resolution(source, native // 4, 500) == native // 4
    result = preprocessing_for(source, native // 4, IDENTITY)
    assert (result.resolution, result.resize) == (native // 4, resize // 4)
    assert (result.mean, result.std) == (tuple(MEAN), tuple(STD))


def test_a_processor_that_does_not_normalise() -> None:
    result = preprocessing_for(described({**SQUARE, "do_normalize": False}), 224, IDENTITY)
    assert (result.mean, result.std) == IDENTITY


@pytest.mark.parametrize(
    "setting",
    [{"rescale_factor": 1 / 127.5}, {"do_flip_channel_order": True}, {"image_mean": [0.5]}],
)
def test_what_is_not_modelled_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(BackboneError, match=f"sets {next(iter(setting))} to .* not supported"):
        preprocessing_for(described({**SQUARE, **setting}), 224, IDENTITY)


@pytest.mark.parametrize(("resolution", "resize"), [(28, 28), (64, 64), (112, 128), (224, 256)])
def test_without_a_processor_the_images_own_statistics_count(resolution: int, resize: int) -> None:
    statistics: Any = ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    result = preprocessing_for(described(None), resolution, statistics)
    assert (result.resolution, result.resize) == (resolution, resize)
    assert (result.mean, result.std) == statistics


@pytest.mark.parametrize(("native", "expected"), [(28, 28), (64, 64), (65, 224), (500, 224)])
def test_built_in_networks_take_small_images_as_they_are(native: int, expected: int) -> None:
    source = find_backbone("convnet", resolution=native)
    assert working_resolution(source, None, native) == expected
    assert working_resolution(source, 40, native) == 40


def test_a_network_without_processor_keeps_the_size_of_its_configuration() -> None:
    source = BackboneSource("net", tiny_config("vit"), None, True, None, False)
    assert working_resolution(source, None, 500) == SIZE


REAL_PROCESSORS = {
    "vit": lambda: ViTImageProcessor(size={"height": 96, "width": 96}, image_std=STD),
    "vit bicubic": lambda: ViTImageProcessor(size={"height": 224, "width": 224}, resample=3),
    "convnext": lambda: ConvNextImageProcessor(size={"shortest_edge": 224}, image_mean=MEAN),
    "convnext small": lambda: ConvNextImageProcessor(size={"shortest_edge": 168}),
    "convnext large": lambda: ConvNextImageProcessor(size={"shortest_edge": 384}),
    "convnext odd": lambda: ConvNextImageProcessor(size={"shortest_edge": 112}),
    "convnext crop": lambda: ConvNextImageProcessor(size={"shortest_edge": 224}, crop_pct=0.9),
    "nearest": lambda: ViTImageProcessor(size={"height": 96, "width": 96}, resample=0),
}


@pytest.mark.parametrize("shape", [(12, 9), (9, 12), (6, 3)], ids=["wide", "tall", "two to one"])
@pytest.mark.parametrize("name", REAL_PROCESSORS)
def test_pixels_are_those_of_the_checkpoints_own_processor(
    tmp_path: Path, name: str, shape: tuple[int, int]
) -> None:
    tiny_config("resnet").save_pretrained(tmp_path)
    REAL_PROCESSORS[name]().save_pretrained(tmp_path)
    source = found(tmp_path)
    preprocessing = preprocessing_for(source, working_resolution(source, None, 300), IDENTITY)
    image = collage(*shape)
    assert_same_input(preprocessing, AutoImageProcessor.from_pretrained(tmp_path), image)
