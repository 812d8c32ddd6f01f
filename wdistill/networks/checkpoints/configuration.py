"""What a network's configuration says of its images and classes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from transformers import PretrainedConfig

from wdistill.errors import BackboneError

CHANNELS = 3  # images are RGB
UNFIT = {
    "imagegpt": "takes the numbers of colours in a list of 512, not pixels",
    "pp_lcnet": "gives no logits in transformers",
    "shieldgemma2": "answers a question about an image and takes a text beside it",
    "siglip2": "takes patches cut from images, not images (those of a fixed size are 'siglip')",
}


def check_usable(config: PretrainedConfig, subject: str) -> None:
    """Raise BackboneError where no image of this tool can be the input, or nothing differentiable
    comes out.

    subject: the setting and the name, with which the message begins.
    """
    kind = config.model_type
    if kind in UNFIT:
        raise BackboneError(
            f"{subject} is a {kind!r} network, which {UNFIT[kind]}; choose another network"
        )
    quantised = getattr(config, "quantization_config", None)
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise BackboneError(
            f"{subject} has quantised weights ({method or 'of an unknown kind'}), which pass no "
            "gradient; choose the checkpoint that it was made from"
        )
    channels = _channels(config)
    if channels not in (None, CHANNELS):
        raise BackboneError(
            f"{subject} takes images of {channels} channel{'s' * (channels != 1)}, and those here "
            "have 3 (RGB); choose another network"
        )
    image_size(config, subject)


def image_size(config: PretrainedConfig, subject: str = "a network") -> int | None:
    """Pixels of a side, of the network itself or of its ``vision_config``; None: any.

    Raises:
        BackboneError: It takes images that are not square.
    """
    for owner in _owners(config):
        value = getattr(owner, "image_size", None)
        sides = list(dict.fromkeys(value)) if isinstance(value, list | tuple) else [value]
        if len(sides) > 1:
            raise BackboneError(
                f"{subject} takes images of {' x '.join(map(str, sides))} px, and those here are "
                "square; choose another network"
            )
        side = sides[0] if sides else None
        if isinstance(side, int) and not isinstance(side, bool):
            return side
    return None


def configured(
    config: PretrainedConfig, class_names: Sequence[str], resolution: int | None = None
) -> PretrainedConfig:
    """A copy with one output a class, for images of ``resolution`` where it is given."""
    config = prepared(config)
    set_classes(config, class_names)
    for owner in _owners(config) if resolution else ():
        value = getattr(owner, "image_size", None)
        if isinstance(value, int):
            owner.image_size = resolution
        elif isinstance(value, list | tuple):
            owner.image_size = type(value)([resolution] * len(value))
    return config


def prepared(config: PretrainedConfig) -> PretrainedConfig:
    """A copy whose network returns logits by name, whatever its file says."""
    config = copy.deepcopy(config)
    config.return_dict = True
    if getattr(config, "architectures", None) is None:
        config.architectures = []  # transformers looks for one of several classes in it
    return config


def set_classes(config: PretrainedConfig, class_names: Sequence[str]) -> None:
    """Name the outputs, as many as there are names."""
    config.num_labels = len(class_names)  # PVT has a number of its own beside the names
    config.id2label = dict(enumerate(class_names))
    config.label2id = {name: index for index, name in enumerate(class_names)}


def _owners(config: PretrainedConfig) -> Iterator[Any]:
    yield config
    vision = getattr(config, "vision_config", None)
    if vision is not None:
        yield vision


def _channels(config: PretrainedConfig) -> Any:
    values = (getattr(owner, "num_channels", None) for owner in _owners(config))
    return next((value for value in values if isinstance(value, int)), None)
