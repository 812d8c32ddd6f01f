"""A miniature ImageNet-1K and a ResNet-18 that knows it, for a Hub on loopback.

The 1,000 class names are the lemmas of ImageNet's synsets in WordNet 3.0 (Princeton University), in
the order of their identifiers. The pictures are not ImageNet's: class k is one real Fashion-MNIST
image in a colour of its own, and its images are shifted copies of that.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image
from transformers import ResNetConfig, ResNetForImageClassification

from helpers.runs import EMBEDDED

NAMES = tuple((Path(__file__).parent / "imagenet-1k-classes.txt").read_text().splitlines())
TRAIN_SHIFTS = ((0, 0), (2, 0), (0, 2), (2, 2))
PROCESSOR = {  # as microsoft/resnet-18 has it
    "crop_pct": 0.875, "do_normalize": True, "do_resize": True,
    "image_processor_type": "ConvNextImageProcessor",
    "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    "resample": 3, "size": {"shortest_edge": 224},
}  # fmt: skip


def unique_names() -> list[str]:
    """ClassLabel refuses repeated names; ImageNet has two cranes."""
    seen: dict[str, int] = {}
    names = []
    for name in NAMES:
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}{seen[name]}")
    return names


def pictures(shift: tuple[int, int], side: int = 36) -> np.ndarray:
    """(1000, side, side, 3) uint8: one picture per class, shifted."""
    table = pq.read_table(EMBEDDED / "fashion-mnist-train.parquet").slice(0, len(NAMES))
    tints = np.random.default_rng(0).uniform(0.3, 1, (len(NAMES), 2, 3))
    result = np.empty((len(NAMES), side, side, 3), np.uint8)
    for index, cell in enumerate(table["image"].to_pylist()):
        grey = np.zeros((side, side), np.float32)
        image = Image.open(io.BytesIO(cell["bytes"]))
        grey[4 + shift[0] : 32 + shift[0], 4 + shift[1] : 32 + shift[1]] = np.asarray(image)
        light, dark = tints[index]
        share = grey[..., None] / 255
        result[index] = (255 * (share * light + (1 - share) * dark * 0.5)).astype(np.uint8)
    return result


def png(pixels: np.ndarray) -> dict[str, object]:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def imagenet_files(folder: Path) -> dict[str, bytes]:
    """Parquet files of the three splits; the test split is labelled -1, as in the original."""
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=unique_names())})
    every = {"train": TRAIN_SHIFTS, "validation": ((1, 1),), "test": ((1, 0),)}
    files = {}
    for split, shifts in every.items():
        images = np.concatenate([pictures(shift) for shift in shifts])
        labels = np.tile(np.arange(len(NAMES)), len(shifts))
        if split == "test":
            labels = np.full_like(labels, -1)
        rows = {"image": [png(image) for image in images], "label": labels.tolist()}
        path = folder / f"{split}.parquet"
        Dataset.from_dict(rows, features=features).to_parquet(path)
        files[f"data/{split}-00000-of-00001.parquet"] = path.read_bytes()
    return files


def resnet18_files(folder: Path, resolution: int) -> dict[str, bytes]:
    """A checkpoint of ResNet-18's true architecture and label names (two of them equal).

    Random convolutions; the head holds the class means of whitened features, so that the
    network knows the miniature's classes at ``resolution``.
    """
    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2],
        layer_type="basic", id2label=dict(enumerate(NAMES)),
    )  # fmt: skip
    model = ResNetForImageClassification(config).eval()
    mean, std = (
        torch.tensor(PROCESSOR[key]).view(1, 3, 1, 1) for key in ("image_mean", "image_std")
    )
    resize = round(resolution / 0.875)
    features = []
    with torch.no_grad():
        for shift in TRAIN_SHIFTS:
            small = [
                np.asarray(
                    Image.fromarray(picture).resize((resize, resize), Image.Resampling.BICUBIC)
                )
                for picture in pictures(shift)
            ]
            margin = (resize - resolution) // 2
            x = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 255
            x = x[:, :, margin : margin + resolution, margin : margin + resolution]
            features.append(model.resnet((x - mean) / std).pooler_output.flatten(1))
        means = torch.stack(features).mean(0)
        centre, scale = means.mean(0), means.std(0) + 1e-3
        head = model.classifier[1]
        unit = torch.nn.functional.normalize((means - centre) / scale)
        head.weight.copy_(10 * unit / scale)
        head.bias.copy_(-10 * (unit / scale) @ centre)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return {path.name: path.read_bytes() for path in folder.iterdir()}
