"""Accuracy of a teacher that is trained on real images, and what single parts of its recipe do.

    python -m tests.benchmarks.teacher --dataset FOLDER --seeds 2
    python -m tests.benchmarks.teacher --dataset FOLDER --batch-size 128
    python -m tests.benchmarks.teacher --dataset FOLDER --smoothing 0.1

The second command is the recipe of before batches were chosen by the size of the dataset, the third
smooths the labels. Seconds are those of the processor, which others that use the machine do not
change.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from accelerate import Accelerator
from torch.nn import functional as F

from wdistill.config import DataConfig, TeacherConfig
from wdistill.core.seeds import stream_seed
from wdistill.data.dataset import ImageData, load_data
from wdistill.data.pixels import PixelStore
from wdistill.networks import training
from wdistill.networks.backbones import load_backbone
from wdistill.networks.checkpoints.source import find_backbone
from wdistill.networks.features import FeatureNetwork
from wdistill.networks.preprocessing import preprocessing_for
from wdistill.networks.teacher import NO_NORMALISATION, pixel_statistics


def stores(data: ImageData, backbone: str, size: int) -> tuple[PixelStore, PixelStore]:
    """Training and test images, normalised."""
    processing = partial(preprocessing_for, find_backbone(backbone, resolution=size), size)
    train, test = (PixelStore(s, processing(NO_NORMALISATION)) for s in (data.train, data.eval))
    seen = processing(pixel_statistics(train, 0))
    return train.normalised(seen), test.normalised(seen)


def measure(
    data: ImageData, images: tuple[PixelStore, PixelStore], config: TeacherConfig, seed: int,
    accelerator: Accelerator,
) -> dict[str, Any]:  # fmt: skip
    train, test = images
    seen, began = train.preprocessing, time.process_time()
    source = find_backbone(config.backbone, resolution=seen.resolution)
    start = stream_seed(seed, "teacher") % 2**31
    backbone = load_backbone(source, data.class_names, seen, start)
    backbone.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = training.Checkpoint(Path(folder) / "epoch.safetensors", "")
        training.train_teacher(backbone, train, config, seed, accelerator, checkpoint)
    used = time.process_time() - began
    network = FeatureNetwork(backbone.model, seen, accelerator.device)
    accuracy = training.measure_accuracy(network, test, accelerator)
    return {"seed": seed, "accuracy": round(100 * accuracy, 2), "seconds": round(used)}


@click.command()
@click.option("--dataset", help="[default: the embedded one]")
@click.option("--images", type=int, help="Only so many training images, drawn at random.")
@click.option("--backbone", default="resnet10-w16")
@click.option("--resolution", type=int, default=64)
@click.option("--epochs", type=int, default=10)
@click.option("--seeds", type=int, default=1)
@click.option("--batch-size", type=int, help="[default: wdistill's]")
@click.option("--smoothing", type=float, default=0.0, help="Of the labels in the loss.")
@click.option("--crop-min", type=float, default=training.TRAIN_CROP_MIN)
@click.option("--warm-up", type=float, default=training.WARM_UP)
@click.option("--bf16", is_flag=True)
def main(
    dataset: str | None, images: int | None, backbone: str, resolution: int, epochs: int,
    seeds: int, batch_size: int | None, smoothing: float, crop_min: float, warm_up: float,
    bf16: bool,
) -> None:  # fmt: skip
    training.TRAIN_CROP_MIN, training.WARM_UP = crop_min, warm_up
    F.cross_entropy = partial(F.cross_entropy, label_smoothing=smoothing)
    data = load_data(DataConfig(dataset=dataset, resolution=resolution), seed=0, ipc=1)
    if images:
        order = np.random.default_rng(0).permutation(len(data.train))
        data = replace(data, train=data.train.take(np.sort(order[:images])))
    pixels = stores(data, backbone, resolution)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16" if bf16 else "no")
    config = TeacherConfig(backbone=backbone, epochs=epochs, batch_size=batch_size)
    for seed in range(seeds):
        print(json.dumps(measure(data, pixels, config, seed, accelerator)), flush=True)


if __name__ == "__main__":
    main()
