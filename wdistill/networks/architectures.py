"""Architectures for training from scratch, as Hugging Face models.

This file imports nothing from wdistill: ``save_pretrained`` copies it beside the weights, so that
``AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True)`` works without
wdistill, and without ``trust_remote_code`` after ``import wdistill.networks.architectures``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    PretrainedConfig,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
)
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention

SMALL_IMAGE = 64  # largest side, in pixels, that gets the small stem


class SmallStemResNetConfig(ResNetConfig):
    """ResNet for images of 64 pixels or less; fields as in ``ResNetConfig``."""

    model_type = "wdistill_resnet"


class SmallStemResNet(ResNetForImageClassification):
    """ResNet whose stem is one 3x3 convolution of stride 1, no pooling (He et al. 2015, 4.2)."""

    config_class = SmallStemResNetConfig

    def __init__(self, config: SmallStemResNetConfig) -> None:
        super().__init__(config)
        self.resnet.embedder.embedder.convolution = nn.Conv2d(
            config.num_channels, config.embedding_size, kernel_size=3, padding=1, bias=False
        )
        self.resnet.embedder.pooler = nn.Identity()
        self.post_init()


class _HalvedOnCPU(torch.autograd.Function):
    """Means of 2x2 pixels, (B, C, H, W) with H and W even; several times as fast on a CPU as
    PyTorch's own, both ways.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        lines = x[..., ::2, :] + x[..., 1::2, :]
        return (lines[..., ::2] + lines[..., 1::2]).mul_(0.25)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad * 0.25
        lines = torch.stack((grad, grad), -1).flatten(-2)
        return torch.stack((lines, lines), -2).flatten(-3, -2)


class HalvingMeanPool(nn.Module):
    """``nn.AvgPool2d(2)``."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return nn.functional.avg_pool2d(x, 2)
        height, width = (side - side % 2 for side in x.shape[-2:])
        return _HalvedOnCPU.apply(x[..., :height, :width])  # type: ignore[no-any-return]


class ConvNetConfig(PretrainedConfig):
    """The dataset-distillation field's ConvNet (Gidaris and Komodakis 2018; DC, DM, MTT).

    width: channels of every block; depth: number of blocks; image_size: pixels of a side; border:
    zeros around the normalised image beside those of the first convolution (the field's code takes
    images of 28 pixels as 32).
    """

    model_type = "wdistill_convnet"

    def __init__(
        self,
        width: int = 128,
        depth: int = 3,
        image_size: int = 32,
        num_channels: int = 3,
        border: int = 0,
        **kwargs: Any,
    ) -> None:
        self.width = width
        self.depth = depth
        self.image_size = image_size
        self.num_channels = num_channels
        self.border = border
        super().__init__(**kwargs)


class ConvNet(PreTrainedModel):
    """Blocks of 3x3 convolution, instance norm, ReLU and 2x2 mean pooling, then a linear head."""

    config_class = ConvNetConfig
    base_model_prefix = "blocks"
    main_input_name = "pixel_values"

    def __init__(self, config: ConvNetConfig) -> None:
        super().__init__(config)
        layers: list[nn.Module] = []
        channels = config.num_channels
        for block in range(config.depth):
            padding = 1 if block else 1 + config.border
            layers += [
                nn.Conv2d(channels, config.width, kernel_size=3, padding=padding),
                nn.GroupNorm(config.width, config.width),  # one channel a group: instance norm
                nn.ReLU(),
                HalvingMeanPool(),
            ]
            channels = config.width
        self.blocks = nn.Sequential(*layers)
        side = (config.image_size + 2 * config.border) // 2**config.depth
        self.classifier = nn.Linear(config.width * side * side, config.num_labels)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()

    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, **kwargs: Any
    ) -> ImageClassifierOutputWithNoAttention:
        logits = self.classifier(self.blocks(pixel_values).flatten(1))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits)


for _config, _model in ((SmallStemResNetConfig, SmallStemResNet), (ConvNetConfig, ConvNet)):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoModelForImageClassification.register(_config, _model, exist_ok=True)
    _config.register_for_auto_class()
    _model.register_for_auto_class("AutoModelForImageClassification")
_RESNETS = {
    "resnet18": {"hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2]},
    "resnet10-w16": {"hidden_sizes": [16, 32, 64, 128], "depths": [1, 1, 1, 1]},
}


def built_in_config(name: str, resolution: int) -> PretrainedConfig:
    """Configuration of the built-in architecture ``name`` for square images of ``resolution``.

    resnet18: He et al. 2015; resnet10-w16: one basic block a stage, 16 to 128 channels;
    convnet: 3 blocks of 128 channels; convnet-w64: of 64 channels, and as many blocks as leave maps
    of about 4 x 4 (3 at 32 pixels, 6 at 224), as the field does for larger images; vit: 6 layers of
    192 channels (those of ViT-Tiny, Touvron et al. 2021), patches of 4 or, above 64 pixels, 16.
    """
    if name == "vit":
        return ViTConfig(
            hidden_size=192,
            num_hidden_layers=6,
            num_attention_heads=3,
            intermediate_size=768,
            image_size=resolution,
            patch_size=4 if resolution <= SMALL_IMAGE else 16,
        )
    if name == "convnet":
        return ConvNetConfig(image_size=resolution)
    if name == "convnet-w64":
        depth = max(3, round(math.log2(resolution / 4)))
        return ConvNetConfig(width=64, depth=depth, image_size=resolution)
    settings = _RESNETS[name]
    kind = SmallStemResNetConfig if resolution <= SMALL_IMAGE else ResNetConfig
    return kind(
        embedding_size=settings["hidden_sizes"][0],
        layer_type="basic",
        **settings,
    )
