"""Networks in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig

from wdistill.config import BUILT_IN
from wdistill.core.text import displayed
from wdistill.networks.checkpoints.source import BackboneSource

_WIDTHS = ("hidden_sizes", "hidden_size", "embed_dim", "width")
_DEPTHS = (("depths", "block"), ("num_hidden_layers", "layer"), ("depth", "block"))


def architecture(config: PretrainedConfig) -> str:
    """A network in words, such as ``resnet, 16-32-64-128 channels, 1 block a stage``: its type, and
    its widths and depths if the configuration has them under a usual name.
    """
    values = config.to_dict()
    parts = [str(config.model_type).removeprefix("wdistill_") or "network"]
    widths = [_joined(values.get(name)) for name in _WIDTHS]
    parts += [f"{width} channels" for width in widths if width][:1]
    depths = [_depth(values.get(name), unit) for name, unit in _DEPTHS]
    parts += [depth for depth in depths if depth][:1]
    return ", ".join(parts)


def local_architectures(sources: Mapping[str, BackboneSource]) -> dict[str, str]:
    """The architectures of networks from local folders, whose published names say little."""
    names = displayed(sources)
    return {
        names[name]: architecture(source.config)
        for name, source in sources.items()
        if name not in BUILT_IN and source.revision is None
    }


def _depth(value: Any, unit: str) -> str:
    if isinstance(value, list) and value and value == value[:1] * len(value):
        return f"{_depth(value[0], unit)} a stage" if _joined(value) else ""
    joined = _joined(value)
    stages = " a stage" if "-" in joined else ""
    return f"{joined} {unit}{'s' if joined != '1' else ''}{stages}" if joined else ""


def _joined(value: Any) -> str:
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    if not numbers or any(isinstance(n, bool) or not isinstance(n, int) for n in numbers):
        return ""
    return "-".join(map(str, numbers))
