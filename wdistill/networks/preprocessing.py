"""A checkpoint's image processor as this tool's preprocessing: size, crop and normalisation."""

from __future__ import annotations

from typing import Any

from PIL import Image

from wdistill.config import BUILT_IN
from wdistill.data.pixels import Preprocessing
from wdistill.errors import BackboneError
from wdistill.networks.checkpoints.configuration import image_size
from wdistill.networks.checkpoints.source import BackboneSource

PixelStatistics = tuple[tuple[float, float, float], tuple[float, float, float]]
LARGE_IMAGE = 224  # working size for images above the small-stem limit, the ImageNet convention
CROP_SHARE = 224 / 256  # centre crop of the shorter side, the ImageNet convention
SMALL_IMAGES_UP_TO = 64


def working_resolution(source: BackboneSource, requested: int | None, native_size: int) -> int:
    """``requested``, else the processor's size, else the images' own if small, else 224."""
    if requested is not None:
        return requested
    if source.processor is not None:
        return _processor_sizes(source.processor)[0]
    side = image_size(source.config)
    if source.name not in BUILT_IN and side is not None:
        return side
    return native_size if native_size <= SMALL_IMAGES_UP_TO else LARGE_IMAGE


def _side(size: Any) -> int:
    if isinstance(size, dict):
        return int(size.get("height") or size.get("shortest_edge") or LARGE_IMAGE)
    return int(size[0] if isinstance(size, list | tuple) else size)


def _processor_sizes(processor: dict[str, Any]) -> tuple[int, int]:
    """(resolution, shorter side before the centre crop; 0 for a plain resize to a square)."""
    size = processor.get("size", LARGE_IMAGE)
    if processor.get("do_center_crop"):
        crop = _side(processor.get("crop_size", size))
        return crop, max(crop, _side(size))
    if "crop_pct" in processor:  # ConvNeXt's convention, which warps at 384 and above
        side, share = _side(size), float(processor["crop_pct"] or CROP_SHARE)
        return side, int(side / share) if side < 384 else 0
    if isinstance(size, dict) and "shortest_edge" in size:
        return _side(size), _side(size)
    return _side(size), 0


def preprocessing_for(
    source: BackboneSource, resolution: int, statistics: PixelStatistics
) -> Preprocessing:
    """The processor's own normalisation and crop; without one, ``statistics`` of the images."""
    if source.processor is None:
        small = resolution <= SMALL_IMAGES_UP_TO
        resize = resolution if small else round(resolution / CROP_SHARE)
        return Preprocessing(resolution, resize, *statistics)
    _check_modelled(source, source.processor)
    native, resize = _processor_sizes(source.processor)
    resample = source.processor.get("resample")
    mean, std = (
        tuple(float(v) for v in source.processor.get(key) or default)
        for key, default in (("image_mean", [0.0] * 3), ("image_std", [1.0] * 3))
    )
    if source.processor.get("do_normalize") is False:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return Preprocessing(
        resolution=resolution,
        resize=round(resize * resolution / native),
        mean=mean,  # type: ignore[arg-type]
        std=std,  # type: ignore[arg-type]
        resample=int(Image.Resampling.BILINEAR if resample is None else resample),
    )


def _check_modelled(source: BackboneSource, processor: dict[str, Any]) -> None:
    """Raise BackboneError for settings of an image processor that are not implemented here."""
    scale = float(processor.get("rescale_factor") or 1 / 255)
    wrong = {
        "do_flip_channel_order": bool(processor.get("do_flip_channel_order")),
        "include_top": bool(processor.get("include_top")),
        "rescale_offset": bool(processor.get("rescale_offset")),
        "rescale_factor": abs(scale * 255 - 1) > 1e-3,
        "image_mean": len(processor.get("image_mean") or [0.0] * 3) != 3,
    }
    for name in (name for name, present in wrong.items() if present):
        raise BackboneError(
            f"the image processor of {source.name!r} sets {name} to {processor[name]!r}, which is "
            "not supported; choose another backbone"
        )
