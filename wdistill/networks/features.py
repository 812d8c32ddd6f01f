"""One view of any image classifier: pixels in; features, logits and norm-layer moments out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wdistill.core.devices import Capacity
from wdistill.core.machine.numerics import network_precision
from wdistill.data.pixels import Preprocessing
from wdistill.errors import BackboneError
from wdistill.networks.norms import Handle, is_norm, tap


@dataclass(frozen=True)
class Activations:
    """What a network computes for B images.

    Attributes:
        features: (B, d) float32, the input of the classification head.
        logits: (B, C) float32.
        means: Per norm layer (B, channels) float32, the mean of the layer's *input* over the
            positions (pixels or tokens) of each image.
        variances: The variance, likewise.
    """

    features: Tensor
    logits: Tensor
    means: tuple[Tensor, ...]
    variances: tuple[Tensor, ...]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of them, in the order of the fields."""
        return (self.features, self.logits, *self.means, *self.variances)

    def map(self, function: Callable[[Tensor], Tensor]) -> Activations:
        """``function`` of each of them."""
        return Activations(
            function(self.features),
            function(self.logits),
            tuple(map(function, self.means)),
            tuple(map(function, self.variances)),
        )


def joined(parts: Sequence[Activations]) -> Activations:
    """The activations of consecutive parts of a batch as those of the whole batch."""
    if len(parts) == 1:
        return parts[0]
    return Activations(
        features=torch.cat([part.features for part in parts]),
        logits=torch.cat([part.logits for part in parts]),
        means=tuple(map(torch.cat, zip(*(part.means for part in parts), strict=True))),
        variances=tuple(map(torch.cat, zip(*(part.variances for part in parts), strict=True))),
    )


class FeatureNetwork:
    """A classifier in evaluation mode that also gives its features and norm-layer moments.

    Features are the inputs of the classification head, flattened (concatenated where a network has
    two heads, as distilled DeiT). Norm layers are BatchNorm, LayerNorm, GroupNorm, InstanceNorm and
    RMSNorm modules; a network without any gives no moments.
    """

    def __init__(
        self, model: nn.Module, preprocessing: Preprocessing, device: torch.device
    ) -> None:
        self.model = fast_layout(model.to(device)).eval().requires_grad_(False)
        self.preprocessing = preprocessing
        self.device = device
        self.num_classes = number_of_classes(model)
        self.mean = torch.tensor(preprocessing.mean, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(preprocessing.std, device=device).view(1, 3, 1, 1)
        self.heads = classification_heads(model)
        self.norms = [m for _, m in model.named_modules() if is_norm(m)]
        self._capacity = Capacity()

    @contextmanager
    def _tapped(
        self, batch: int, with_moments: bool
    ) -> Iterator[tuple[list[Tensor], list[tuple[Tensor, Tensor]]]]:
        features: list[Tensor] = []
        moments: list[tuple[Tensor, Tensor]] = []
        handles: list[Handle] = [
            head.register_forward_pre_hook(lambda _, args: features.append(args[0]))
            for head in self.heads
        ]
        if with_moments:
            handles += [tap(norm, batch, moments) for norm in self.norms]
        try:
            yield features, moments
        finally:
            for handle in handles:
                handle.remove()

    def __call__(self, pixels: Tensor, moments: bool = True) -> Activations:
        """pixels: (B, 3, R, R) float in [0, 1] on the network's device.

        Without gradients, a batch that does not fit into the device's memory is taken in parts.
        Raises MemoryLimitError if one image alone does not fit.
        """
        if torch.is_grad_enabled():
            return self._pass(pixels, moments)
        return joined(self._capacity.map(lambda part: self._pass(part, moments), pixels))

    def logits(self, pixels: Tensor) -> Tensor:
        """(B, C) float32, without norm-layer statistics."""
        return self(pixels, moments=False).logits

    def _pass(self, pixels: Tensor, moments: bool) -> Activations:
        batch = len(pixels)
        tapped = self._tapped(batch, moments)
        with network_precision(self.device), tapped as (features, layer_moments):
            logits = self.model((pixels - self.mean) / self.std).logits
        return Activations(
            features=torch.cat([f.reshape(batch, -1) for f in features], dim=1).float(),
            logits=logits.float(),
            means=tuple(mean for mean, _ in layer_moments),
            variances=tuple(variance for _, variance in layer_moments),
        )


def fast_layout(model: nn.Module) -> nn.Module:
    """Lay out a model's filters for channels-last images if it has BatchNorm.

    Its steps then take about a quarter less time on a CPU; layers such as GroupNorm would be
    slower. A network with a convolution that ends the process there stays as it is.
    """
    modules = list(model.modules())
    batch_norm = any(isinstance(module, nn.BatchNorm2d) for module in modules)
    if not batch_norm or any(map(_crashes_channels_last, modules)):
        return model
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _crashes_channels_last(module: nn.Module) -> bool:
    """Whether the gradient of a layer's weights, channels last on a CPU, ends the process: oneDNN
    writes beyond its memory for 1x1 convolutions of stride 2 with fewer than 16 input channels.
    """
    return (
        isinstance(module, nn.Conv2d)
        and module.weight.device.type == "cpu"
        and module.kernel_size == (1, 1)
        and module.stride == (2, 2)
        and module.in_channels < 16
    )


def number_of_classes(model: nn.Module) -> int:
    config: Any = model.config
    return int(config.num_labels)


def classification_heads(model: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    """The last layers of ``model``: linear maps onto the classes, outside the backbone.

    Raises:
        BackboneError: There is none.
    """
    classes = number_of_classes(model)
    backbone = getattr(model, "base_model", model)
    inside = set(backbone.modules())
    every = [module for module in model.modules() if _outputs(module) == classes]
    # Where nothing separates the backbone from its head, the last such layer is the head.
    heads = [module for module in every if module not in inside] or every[-1:]
    if not heads:
        kind = getattr(model.config, "model_type", type(model).__name__)
        raise BackboneError(
            f"no linear classification head found in a {kind!r} network; "
            "use a backbone whose last layer is a linear map onto the classes"
        )
    return heads  # type: ignore[return-value]


def _outputs(module: nn.Module) -> int | None:
    if isinstance(module, nn.Linear):
        return module.out_features
    return module.out_channels if isinstance(module, nn.Conv2d) else None
