"""Tiny checkpoints, and what an image processor makes of a real picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from data_helpers import picture
from PIL import Image
from transformers import PretrainedConfig, ResNetConfig, ViTConfig

from wdistill.backbone import BackboneSource, find_backbone
from wdistill.pixels import Preprocessing

SIZE = 32
NAMES = ("boot", "coat", "dress", "shirt", "bag")
IDENTITY: Any = ((0.0,) * 3, (1.0,) * 3)


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
