"""Tiny checkpoints, and what an image processor makes of a real picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoModelForImageClassification,
    PretrainedConfig,
    PreTrainedModel,
    ResNetConfig,
    ViTConfig,
)

from helpers.datasets_on_disk import picture
from wdistill.core.seeds import stream
from wdistill.data.pixels import Preprocessing
from wdistill.networks.backbones import Backbone, load_backbone
from wdistill.networks.checkpoints.source import BackboneSource, find_backbone
from wdistill.networks.features import classification_heads

SIZE = 32
NAMES = ("boot", "coat", "dress", "shirt", "bag")
IDENTITY: Any = ((0.0,) * 3, (1.0,) * 3)
PIXELS = Preprocessing(SIZE, 0, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))


def tiny_config(kind: str, names: tuple[str, ...] = NAMES) -> PretrainedConfig:
    classes = {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
    if kind == "resnet":
        return ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **classes
        )
    return ViTConfig(
        hidden_size=16,
        image_size=SIZE,
        patch_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        **classes,
    )


def found(folder: Path | str) -> BackboneSource:
    return find_backbone(str(folder), resolution=SIZE)


def collage(columns: int, rows: int) -> Image.Image:
    """Real pictures side by side, with three different ones as the colours of each."""
    planes = [
        np.block([[np.asarray(picture(60 * p + 7 * r + c)) for c in range(columns)]
                  for r in range(rows)])
        for p in range(3)
    ]  # fmt: skip
    return Image.fromarray(np.stack(planes, axis=-1))


def assert_same_input(preprocessing: Preprocessing, processor: Any, image: Image.Image) -> None:
    """Equal up to one grey level at a few pixels: resizing may round otherwise."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    ours = (preprocessing(image).float() / 255 - mean) / std
    theirs = torch.from_numpy(np.asarray(processor(image, return_tensors="np").pixel_values[0]))
    assert ours.shape == theirs.shape
    levels = (ours - theirs).mul(std).abs() * 255
    assert levels.max() < 1.01
    assert levels.mean() < 0.05


def inputs(count: int = 12, size: int = SIZE) -> Tensor:
    return torch.randn(count, 3, size, size, generator=stream(0, "inputs"))


def lively(model: PreTrainedModel, size: int = SIZE) -> PreTrainedModel:
    """Batch statistics that are not the initial ones, and logits that differ between inputs."""
    with torch.no_grad():
        model.train()(inputs(size=size) * 2 + 1)
        model.eval()
        for head in classification_heads(model):
            features = []
            handle = head.register_forward_pre_hook(lambda _, args, to=features: to.append(args[0]))
            model(inputs(size=size))
            handle.remove()
            x = features[0]
            head.weight.div_(x.std() * 0.02)
            head.bias.copy_(-(head.weight @ x.mean(0)))
    return model


def checkpoint(
    folder: Path, kind: str = "resnet", names: tuple[str, ...] = NAMES
) -> PreTrainedModel:
    torch.manual_seed(3)
    model = lively(AutoModelForImageClassification.from_config(tiny_config(kind, names)))
    model.save_pretrained(folder)
    return model


def load(folder: Path, names: tuple[str, ...], seed: int = 0) -> Backbone:
    return load_backbone(found(folder), names, PIXELS, seed)


def logits(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval()(x).logits


def head_names(model: PreTrainedModel) -> set[str]:
    heads = classification_heads(model)
    return {
        f"{name}.{part}"
        for name, module in model.named_modules()
        if any(module is head for head in heads)
        for part in ("weight", "bias")
    }


def same_state(a: nn.Module, b: nn.Module) -> bool:
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(torch.equal(value, y[name]) for name, value in x.items())
