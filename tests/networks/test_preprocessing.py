"""Pixels are those of the checkpoint's own image processor, or it is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.backbones import IDENTITY, SIZE, found, tiny_config

from wdistill.networks.checkpoints.source import BackboneSource, find_backbone
from wdistill.networks.preprocessing import preprocessing_for, working_resolution

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
COMMON = {"do_normalize": True, "image_mean": MEAN, "image_std": STD, "resample": 3}
VIT = {**COMMON, "image_processor_type": "ViTImageProcessor"}
CONVNEXT = {**COMMON, "image_processor_type": "ConvNextImageProcessor"}
CLIP = {**COMMON, "image_processor_type": "CLIPImageProcessor"}
SQUARE = {**VIT, "size": {"height": 224, "width": 224}}
CROP = {"do_center_crop": True, "crop_size": {"height": 224, "width": 224}}
PROCESSORS: dict[str, tuple[dict[str, Any], int, int]] = {  # native size, side before the crop
    "vit": (SQUARE, 224, 0),
    "vit, old": ({**VIT, "size": 224}, 224, 0),
    "vit, oldest": (
        {**COMMON, "feature_extractor_type": "ViTFeatureExtractor", "size": 224}, 224, 0,
    ),
    "convnext": ({**CONVNEXT, "size": {"shortest_edge": 224}, "crop_pct": 0.875}, 224, 256),
    "convnext, old": ({**CONVNEXT, "size": 224, "crop_pct": 0.875}, 224, 256),
    "resnet-50": ({**CONVNEXT, "size": {"shortest_edge": 160}, "crop_pct": 0.8}, 160, 200),
    "clip": ({**CLIP, "size": {"shortest_edge": 224}, **CROP}, 224, 224),
    "mobilenet": ({**CLIP, "size": {"shortest_edge": 256}, **CROP}, 224, 256),
    "deit": (
        {**COMMON, "image_processor_type": "DeiTImageProcessor",
         "size": {"height": 256, "width": 256}, **CROP}, 224, 256,
    ),
}  # fmt: skip


def described(folder: Path, processor: dict[str, Any] | None) -> BackboneSource:
    tiny_config("resnet").save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return found(folder)


@pytest.mark.parametrize("name", PROCESSORS)
def test_size_crop_and_normalisation_are_the_processors(tmp_path: Path, name: str) -> None:
    processor, native, resize = PROCESSORS[name]
    source = described(tmp_path, processor)
    assert working_resolution(source, None, 500) == native
    result = preprocessing_for(source, native, IDENTITY)
    assert (result.resolution, result.resize, result.warp) == (native, resize, name == "deit")
    assert (result.mean, result.std, result.resample) == (tuple(MEAN), tuple(STD), 3)
    smaller = preprocessing_for(source, native // 4, IDENTITY)
    assert working_resolution(source, native // 4, 500) == native // 4
    assert smaller == replace(result, resolution=native // 4, resize=resize // 4)


def test_a_processor_that_does_not_normalise(tmp_path: Path) -> None:
    source = described(tmp_path, {**SQUARE, "do_normalize": False})
    result = preprocessing_for(source, 224, IDENTITY)
    assert (result.mean, result.std) == IDENTITY


@pytest.mark.parametrize(("resolution", "resize"), [(28, 28), (64, 64), (112, 128), (224, 256)])
def test_without_a_processor_the_images_own_statistics_count(
    tmp_path: Path, resolution: int, resize: int
) -> None:
    statistics: Any = ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    result = preprocessing_for(described(tmp_path, None), resolution, statistics)
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
