"""A teacher after a short training on real images of three classes."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from helpers.runs import embedded_table
from wdistill.config import TeacherConfig
from wdistill.data.pixels import PixelStore, Preprocessing
from wdistill.data.splits import ImageSplit
from wdistill.networks.backbones import load_backbone
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.training import Checkpoint, train_teacher

NAMES = ("t-shirt", "trouser", "pullover")
PIXELS = Preprocessing(28, 28, (0.3, 0.3, 0.3), (0.35, 0.35, 0.35))


def trained(
    name: str, batch: int, epochs: int, accelerator: Accelerator, path: Path
) -> dict[str, Tensor]:
    """The state of a built-in network after ``epochs`` over 120 images; path: of its checkpoint.

    It has a parameter that no image uses, as a mask token is.
    """
    table = embedded_table("train", 40, len(NAMES))
    rows = datasets.Dataset(datasets.table.InMemoryTable(table))
    rows = rows.cast_column("image", datasets.Image(decode=False))
    labels = table["label"].to_numpy().astype(np.int64)
    store = PixelStore(ImageSplit(labels, rows, np.arange(len(labels)), "train", "image"), PIXELS)
    backbone = load_backbone(find_backbone(name, resolution=28), NAMES, PIXELS, 0)
    backbone.model.register_parameter("mask_token", torch.nn.Parameter(torch.ones(3)))
    config = TeacherConfig(epochs=epochs, batch_size=batch)
    train_teacher(backbone, store, config, 7, accelerator, Checkpoint(path, "key"))
    return {key: value.contiguous() for key, value in backbone.model.state_dict().items()}
