"""Pixels are those of the checkpoint's own image processor, or it is refused by a field's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from helpers.backbones import IDENTITY, assert_same_input, collage, found, tiny_config
from PIL import Image
from transformers import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
)
from transformers.models.auto.image_processing_auto import (
    IMAGE_PROCESSOR_MAPPING,
    AutoImageProcessor,
)

from wdistill.data.content.decoding import to_rgb
from wdistill.data.pixels import Preprocessing
from wdistill.errors import BackboneError
from wdistill.networks.checkpoints.source import BackboneSource
from wdistill.networks.preprocessing import preprocessing_for, working_resolution
from wdistill.networks.processors import AS_PIL

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]


def described(folder: Path, kind: str, **fields: Any) -> Preprocessing:
    """What a checkpoint in ``folder`` says of images, with the processor ``kind``."""
    tiny_config("resnet").save_pretrained(folder)
    values = {"image_processor_type": f"{kind}ImageProcessor", **fields}
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    source = found(folder)
    return preprocessing_for(source, working_resolution(source, None, 300), IDENTITY)


def odd_images() -> list[Image.Image]:
    """Ten as people have them, as this tool decodes them: in RGB, on white."""
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 4), dtype=np.uint8)
    rgba = Image.fromarray(noise)
    images = [
        collage(3, 2),
        collage(1, 4),
        rgba,
        rgba.convert("L"),
        rgba.convert("P"),
        rgba.convert("LA"),
        rgba.convert("CMYK"),
        rgba.convert("RGB").resize((1, 30)),
        rgba.convert("RGB").resize((2, 2)),
        rgba.convert("RGB").resize((611, 333), Image.Resampling.BICUBIC),
    ]
    return [to_rgb(image) for image in images]


def check_same(folder: Path, preprocessing: Preprocessing) -> None:
    processor = AutoImageProcessor.from_pretrained(folder, **AS_PIL)
    for image in odd_images():
        assert_same_input(preprocessing, processor, image)


SAME: dict[str, dict[str, Any]] = {  # sizes that keep the test quick, in each class's own form
    "Beit": {"size": 33},
    "Bit": {"size": {"shortest_edge": 40}, "crop_size": 32},
    "CLIP": {"size": {"shortest_edge": 40}, "crop_size": 33},
    "ConvNext": {"size": {"shortest_edge": 32}},
    "DeiT": {"size": 40, "crop_size": 33},
    "EfficientNet": {"size": 32, "rescale_offset": True, "rescale_factor": 1 / 127.5},
    "Gemma3": {"size": 32},
    "Levit": {"size": {"shortest_edge": 32}, "crop_size": 32},
    "MobileNetV1": {"size": {"shortest_edge": 40}, "crop_size": 32},
    "MobileNetV2": {"size": {"shortest_edge": 41}, "crop_size": 32},
    "Perceiver": {"size": 32, "do_center_crop": False},
    "PoolFormer": {"size": {"shortest_edge": 32}, "crop_size": 32},
    "Pvt": {"size": 32},
    "Segformer": {"size": 32},
    "Siglip": {"size": {"height": 32, "width": 32}},
    "ViT": {"size": 32},
}
REFUSED = {  # as their classes are without a word in the file
    "Donut": "sets size to .*'height': 2560, 'width': 1920.*, and images here are square",
    "ImageGPT": "gives no pixels",
    "MobileViT": "sets do_flip_channel_order to True, which is not supported",
    "PPLCNet": "cannot be read|sets size|makes other pixels",
    "Perceiver": "sets do_center_crop to True, and crops before it scales",
    "Siglip2": "sets size to None",
    "TextNet": "sets size to .*'shortest_edge': 640",
    "TimmWrapper": "cannot be read",
}


def test_every_family_is_among_them() -> None:
    classes = {
        getattr(kind, "__name__", "")
        for config in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
        if config in IMAGE_PROCESSOR_MAPPING
        for kind in dict(IMAGE_PROCESSOR_MAPPING[config]).values()
    }
    kinds = {name.removesuffix("Pil").removesuffix("ImageProcessor") for name in classes}
    assert kinds - {"Placeholder"} <= SAME.keys() | REFUSED.keys()
    assert len(kinds) > 15


@pytest.mark.parametrize("kind", SAME)
def test_pixels_of_ten_odd_images_are_the_processors_own(tmp_path: Path, kind: str) -> None:
    try:
        preprocessing = described(tmp_path, kind, **SAME[kind])
    except BackboneError:  # versions of transformers do not find Segformer's without torchvision
        with pytest.raises(ValueError, match="image processor"):
            AutoImageProcessor.from_pretrained(tmp_path, **AS_PIL)
        return
    assert preprocessing.resolution in (32, 33)
    check_same(tmp_path, preprocessing)


@pytest.mark.parametrize("kind", REFUSED)
def test_a_family_that_is_not_modelled_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    with pytest.raises(BackboneError, match=REFUSED[kind]) as caught:
        described(tmp_path, kind)
    assert "\n" not in str(caught.value)


VIT = {"size": 32, "image_mean": MEAN, "image_std": STD}
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "no rescaling": ("ViT", {"do_rescale": False}),
    "rescaled to two": ("ViT", {"rescale_factor": 1 / 127.5}),
    "not normalised": ("ViT", {"do_normalize": False}),
    "one mean": ("ViT", {"image_mean": 0.5, "image_std": 0.5}),
    "nearest": ("ViT", {"resample": 0}),
    "lanczos": ("ViT", {"resample": 1}),
    "ignored": ("ViT", {"crop_pct": 0.5, "include_top": True, "size_divisor": 7}),
    "padded to nothing": ("ViT", {"do_pad": True}),
    "divided twice": ("EfficientNet", {"include_top": True}),
    "divided once": ("EfficientNet", {"include_top": False, "rescale_offset": False}),
    "warped": ("ConvNext", {"size": {"shortest_edge": 384}}),
    "another share": ("ConvNext", {"size": 33, "crop_pct": 0.8}),
    "no share": ("PoolFormer", {"crop_pct": 1, "crop_size": 32, "size": {"shortest_edge": 32}}),
    "a square first": ("CLIP", {"size": {"height": 40, "width": 40}, "crop_size": 32}),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_the_processors_own(tmp_path: Path, name: str) -> None:
    kind, fields = SETTINGS[name]
    check_same(tmp_path, described(tmp_path, kind, **{**VIT, **fields}))


CROP = {"do_center_crop": True, "crop_size": 32}
UNMODELLED: dict[str, tuple[str, dict[str, Any]]] = {  # the field first
    "oblong": ("ViT", {"size": {"height": 32, "width": 64}}),
    "oblong list": ("ViT", {"size": [32, 64]}),
    "oblong crop": ("CLIP", {"crop_size": {"height": 32, "width": 24}, "size": 40}),
    "crop beyond": ("CLIP", {"crop_size": 33, "size": {"shortest_edge": 32}}),
    "longest": ("ViT", {"size": {"longest_edge": 32}, "do_pad": True}),
    "both edges": ("CLIP", {"size": {"shortest_edge": 32, "longest_edge": 64}}),
    "at most": ("ViT", {"size": {"max_height": 32, "max_width": 32}}),
    "shape kept": ("CLIP", {"size": {"shortest_edge": 32}, "do_center_crop": False}),
    "not its form": ("ConvNext", {"size": {"height": 32, "width": 32}}),
    "as they come": ("ViT", {"do_resize": False}),
    "blue first": ("ViT", {"do_flip_channel_order": True}),
    "grey": ("ViT", {"do_grayscale": True}),
    "one channel": ("ViT", {"image_mean": [0.5]}),
    "not a number": ("ViT", {"image_mean": [0.5, None, 0.5]}),
    "division by zero": ("ViT", {"image_std": [0, 0, 0]}),
    "filter in words": ("ViT", {"resample": "bicubic"}),
    "filter unknown": ("ViT", {"resample": 9}),
}


@pytest.mark.parametrize("name", UNMODELLED)
def test_what_is_not_modelled_is_refused_by_its_field(tmp_path: Path, name: str) -> None:
    kind, fields = UNMODELLED[name]
    field = next(iter(fields))
    with pytest.raises(BackboneError, match=rf"ImageProcessor\) sets {field} to ") as caught:
        described(tmp_path, kind, **{**VIT, **fields})
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"`teacher.backbone` {str(tmp_path)!r}: its image processor (")


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("TextNet", {"size": {"shortest_edge": 64}, **CROP}, "makes other pixels"),
        ("Donut", {"size": {"height": 32, "width": 32}}, "makes other pixels"),
        ("NoSuch", {"size": 32}, "cannot be read"),
    ],
)
def test_a_processor_that_fails_or_does_more_is_found_out(
    tmp_path: Path, kind: str, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(BackboneError, match=message):
        described(tmp_path, kind, **fields)


def test_the_evaluation_transform_of_timm_is_read_from_its_configuration() -> None:
    config = transformers.PretrainedConfig()
    config.model_type = "timm_wrapper"
    config.pretrained_cfg = {
        "input_size": [3, 160, 160], "interpolation": "bicubic", "crop_pct": 0.95, "mean": MEAN,
        "std": STD,
    }  # fmt: skip
    source = BackboneSource("net", config, None, True, None, False)
    assert working_resolution(source, None, 40) == 160
    expected = Preprocessing(160, 168, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), 3)
    assert preprocessing_for(source, 160, IDENTITY) == expected
