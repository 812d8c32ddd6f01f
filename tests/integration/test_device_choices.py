"""More commands on the pretended device, none of which needs the set of another.

They stand beside test_device.py so that two workers share them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from helpers.pretended_checks import manifest_of, played
from helpers.pretended_command import DeviceProcess
from helpers.pretended_scenes import Command

pytestmark = pytest.mark.slow


def test_a_vision_transformer_in_bf16(
    device: DeviceProcess, commands: Mapping[str, Command]
) -> None:
    """Whose synthesis sees images as they will be decoded, and whose labels a committee gives."""
    done = played(device, commands, "vit")
    assert {"_scaled_dot_product_attention_math", "native_layer_norm"} & {*done["operations"]}
    assert manifest_of(commands["vit"]).config.mixed_precision == "bf16"


def test_labels_are_chosen(device: DeviceProcess, commands: Mapping[str, Command]) -> None:
    """By short students, of images that start from a mean and whose weights are free."""
    played(device, commands, "choices")


def test_images_for_convnets(device: DeviceProcess, commands: Mapping[str, Command]) -> None:
    """In the states of ConvNets that are trained for it."""
    played(device, commands, "convnets")
    assert manifest_of(commands["convnets"]).config.synthesis.aim == "convnet"


def test_an_estimate(device: DeviceProcess, commands: Mapping[str, Command]) -> None:
    """Of all stages but the students, which other commands train."""
    said = played(device, commands, "estimate")["out"]
    assert re.search(r"\n  synthesis +\d", said)
    assert re.search(r"\n  measured in .* on pretend", said)
