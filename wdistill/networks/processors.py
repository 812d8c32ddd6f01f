"""A checkpoint's image processor, read as this tool's preprocessing and compared with itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image
from transformers import BaseImageProcessor, PretrainedConfig

# Where transformers itself exports it, some versions ask for torchvision.
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from wdistill.core.text import clean
from wdistill.data.pixels import Preprocessing
from wdistill.errors import BackboneError
from wdistill.networks.checkpoints.source import BackboneSource

LEVIT_SHARE = 256 / 224  # of LeViT's size is the shorter side before its crop
CONVNEXT_WARPS_FROM = 384  # pixels; ConvNeXt's processor crops below
SHAPES = ((48, 48), (31, 97), (97, 30), (260, 181), (5, 4))  # (height, width) of trials
# Processors that scale as PIL does, in the words of this version and of older ones.
AS_PIL: dict[str, Any] = (
    {"backend": "pil"}
    if find_spec("transformers.image_processing_backends")
    else {"use_fast": False}
)
NEVER = ("do_flip_channel_order", "do_grayscale")
WAY_OUT = "change that in a copy of its preprocessor_config.json, or choose another network"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class ImageProcessor:
    """What an image processor says when its class has filled in what its file leaves out."""

    subject: str
    kind: str
    fields: Mapping[str, Any]

    def refused(self, field: str, why: str, way_out: str = WAY_OUT) -> BackboneError:
        return BackboneError(
            f"{self.subject}: its image processor ({self.kind}) sets {field} to "
            f"{clean(self.fields.get(field))}, {why}; {way_out}"
        )


def own_preprocessing(source: BackboneSource) -> Preprocessing | None:
    """What the image processor of ``source`` does, at its own size; None if there is none.

    Raises:
        BackboneError: It does what is not modelled here, or gives other pixels than it says.
    """
    if source.processor is None:
        return _of_timm(source.config)
    try:
        processor = AutoImageProcessor.from_pretrained(
            source.name,
            revision=source.revision,
            trust_remote_code=source.trust_remote_code,
            **AS_PIL,
        )
    except Exception as error:
        first = clean(str(error).strip().split("\n")[0])
        raise BackboneError(
            f"{source.subject}: its image processor cannot be read ({first}); {WAY_OUT}"
        ) from error
    kind = type(processor).__name__.removesuffix("Pil")
    described = ImageProcessor(source.subject, kind, processor.to_dict())
    mean, std = _normalisation(described)
    resolution, resize, warp = _geometry(described)
    resample = _resample(described)
    result = Preprocessing(resolution, resize, mean, std, resample, warp)
    _compare(described, processor, result)
    return result


def _check_modelled(processor: ImageProcessor) -> None:
    fields = processor.fields
    for field in NEVER:
        if fields.get(field):
            raise processor.refused(field, "which is not supported", "choose another network")
    if not fields.get("do_resize"):
        raise processor.refused("do_resize", "and images have to be of one size here")
    if processor.kind.startswith("Perceiver") and fields.get("do_center_crop"):
        raise processor.refused("do_center_crop", "and crops before it scales")


def _geometry(processor: ImageProcessor) -> tuple[int, int, bool]:
    """resolution, resize and warp of the preprocessing."""
    _check_modelled(processor)
    side, resize, by_shorter_side = _scaled_sides(processor)
    crop = side
    if processor.fields.get("do_center_crop"):
        crop = _crop_side(processor)
    elif by_shorter_side and not processor.kind.startswith("ConvNext"):
        raise processor.refused(
            "size", "so that images are as wide as they come, and those here are square"
        )
    if crop > resize:
        raise processor.refused("crop_size", f"more than the {resize} px of the scaled image")
    if by_shorter_side:
        return crop, resize, False
    return crop, resize if crop < resize else 0, crop < resize


def _scaled_sides(processor: ImageProcessor) -> tuple[int, int, bool]:
    """A side in pixels, the side to which images are scaled for it, and whether that is the shorter
    one of images that keep their shape.
    """
    fields, kind = processor.fields, processor.kind
    side, by_shorter_side = _scaled_side(processor)
    share = float(fields.get("crop_pct") or 1)
    if kind.startswith("PoolFormer") and share != 1:
        return side, int(side / share), True
    if kind.startswith("ConvNext") and not by_shorter_side:
        raise processor.refused("size", "where this class wants a shortest_edge")
    if not by_shorter_side:
        return side, side, False
    if kind.startswith("Levit"):
        return side, int(LEVIT_SHARE * side), True
    if not kind.startswith("ConvNext"):
        return side, side, True
    small = side < CONVNEXT_WARPS_FROM
    return side, int(side / share) if small else side, small


def _scaled_side(processor: ImageProcessor) -> tuple[int, bool]:
    """A side in pixels, and whether it is the shorter one of images that keep their shape."""
    size = dict(processor.fields.get("size") or {})
    sides = {name: int(value) for name, value in size.items() if value}
    if sides.keys() == {"height", "width"} and len(set(sides.values())) == 1:
        return sides["height"], False
    if sides.keys() == {"shortest_edge"}:
        return sides["shortest_edge"], True
    raise processor.refused("size", "and images here are square")


def _crop_side(processor: ImageProcessor) -> int:
    size = processor.fields.get("crop_size")
    sides = [size] if isinstance(size, int) else [v for v in dict(size or {}).values() if v]
    if len(set(sides)) != 1:
        raise processor.refused("crop_size", "and images here are square")
    return int(sides[0])


def _resample(processor: ImageProcessor) -> int:
    resample = processor.fields.get("resample")
    if resample is None:
        return int(Image.Resampling.BILINEAR)
    if not isinstance(resample, int) or int(resample) not in list(Image.Resampling):
        raise processor.refused("resample", "where transformers wants a number of PIL from 0 to 5")
    return int(resample)


Triple = tuple[float, float, float]


def _normalisation(processor: ImageProcessor) -> tuple[Triple, Triple]:
    """m and s, so that (p - m) / s of pixels p in [0, 1] is what the processor gives.

    Of levels v = 255 p it makes (f v - o - mean) / std, and EfficientNet's once more / std.
    """
    fields, efficient = processor.fields, processor.kind.startswith("EfficientNet")
    mean, std = _triple(processor, "image_mean"), _triple(processor, "image_std")
    if not all(std):
        raise processor.refused("image_std", "by which nothing can be divided")
    if not fields.get("do_normalize"):
        mean, over = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    else:
        over = std
    if efficient and fields.get("include_top"):
        over = _of_three(*(a * b for a, b in zip(over, std, strict=True)))
    factor = float(fields["rescale_factor"]) * 255 if fields.get("do_rescale") else 255.0
    if abs(factor - 1) < 1e-3:
        factor = 1.0  # 1 / 255, as files round it
    offset = float(bool(efficient and fields.get("rescale_offset") and fields.get("do_rescale")))
    if factor == 1.0 and not offset:
        return mean, over
    return (
        _of_three(*((value + offset) / factor for value in mean)),
        _of_three(*(value / factor for value in over)),
    )


def _of_three(*values: float) -> Triple:
    first, second, third = values
    return first, second, third


def _triple(processor: ImageProcessor, field: str) -> Triple:
    value = processor.fields.get(field)
    if value is None:
        value = 0.0 if field == "image_mean" else 1.0
    values = list(value) if isinstance(value, list | tuple) else [value] * 3
    numbers = [v for v in values if isinstance(v, int | float) and math.isfinite(v)]
    if len(numbers) != 3 or len(values) != 3:
        raise processor.refused(field, "and images here have three channels")
    return _of_three(*(float(number) for number in numbers))


def trial_images() -> Iterator[Image.Image]:
    """Small images of odd shapes, in RGB, with edges and slopes in each channel."""
    for height, width in SHAPES:
        rows, columns = np.mgrid[:height, :width]
        waves = [columns * 7 + rows * 3, (columns // 5 + rows // 4) % 2 * 255, rows * columns]
        yield Image.fromarray(np.stack(waves, -1).astype(np.uint8))


def _compare(
    described: ImageProcessor, processor: BaseImageProcessor, preprocessing: Preprocessing
) -> None:
    """Raise BackboneError unless the processor's own pixels are ours, but for one grey level."""
    mean, std = (np.array(v).reshape(3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    for image in trial_images():
        try:
            output = processor(image, return_tensors="np")
            theirs = np.asarray(output["pixel_values"][0], dtype=np.float64)
        except Exception as error:
            first = clean(str(error).strip().split("\n")[0]) or type(error).__name__
            raise BackboneError(
                f"{described.subject}: its image processor ({described.kind}) gives no pixels of "
                f"an image ({first}); {WAY_OUT}"
            ) from error
        levels = preprocessing(image).numpy()
        if (
            theirs.shape != levels.shape
            or np.abs((theirs * std + mean) * 255 - levels).max() > 1.01
        ):
            raise BackboneError(
                f"{described.subject}: its image processor ({described.kind}) makes other pixels "
                f"of an image of {image.width} x {image.height} px than its size, crop_size and "
                "image_mean say, which is not supported; choose another network"
            )


def _of_timm(config: PretrainedConfig) -> Preprocessing | None:
    """The evaluation transform of a timm checkpoint, which stands in its config.json."""
    if config.model_type != "timm_wrapper":
        return None
    fields = dict(getattr(config, "pretrained_cfg", None) or {})
    side = int((fields.get("input_size") or (3, 224, 224))[1])
    name = str(fields.get("interpolation") or "bicubic").upper()
    return Preprocessing(
        resolution=side,
        resize=math.floor(side / float(fields.get("crop_pct") or 0.875)),
        mean=_of_three(*(fields.get("mean") or IMAGENET[0])),
        std=_of_three(*(fields.get("std") or IMAGENET[1])),
        resample=int(Image.Resampling[name]),
        warp=fields.get("crop_mode") == "squash",
    )
