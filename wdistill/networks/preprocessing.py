"""How images become the input of a network: as its image processor says, at the run's size."""

from __future__ import annotations

from dataclasses import replace

from wdistill.config import BUILT_IN
from wdistill.data.pixels import Preprocessing
from wdistill.networks.checkpoints.configuration import image_size
from wdistill.networks.checkpoints.source import BackboneSource
from wdistill.networks.processors import own_preprocessing

PixelStatistics = tuple[tuple[float, float, float], tuple[float, float, float]]
LARGE_IMAGE = 224  # working size for images above the small-stem limit, the ImageNet convention
CROP_SHARE = 224 / 256  # centre crop of the shorter side, the ImageNet convention
SMALL_IMAGES_UP_TO = 64


def working_resolution(source: BackboneSource, requested: int | None, native_size: int) -> int:
    """``requested``, else the processor's size, else the images' own if small, else 224."""
    if requested is not None:
        return requested
    own = own_preprocessing(source)
    if own is not None:
        return own.resolution
    side = image_size(source.config)
    if source.name not in BUILT_IN and side is not None:
        return side
    return native_size if native_size <= SMALL_IMAGES_UP_TO else LARGE_IMAGE


def preprocessing_for(
    source: BackboneSource, resolution: int, statistics: PixelStatistics
) -> Preprocessing:
    """The processor's own normalisation and crop; without one, ``statistics`` of the images."""
    own = own_preprocessing(source)
    if own is None:
        small = resolution <= SMALL_IMAGES_UP_TO
        resize = resolution if small else round(resolution / CROP_SHARE)
        return Preprocessing(resolution, resize, *statistics)
    resize = round(own.resize * resolution / own.resolution)
    return replace(own, resolution=resolution, resize=resize)
