"""Stand-ins, on a loopback Hub and in a folder, for everything that the papers name.

Each dataset has its columns' names and real images of Fashion-MNIST; each model is tiny.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset, Features
from datasets import Image as ImageFeature
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
)

from helpers.hub_server import HubServer
from helpers.miniature import PROCESSOR
from helpers.runs import EMBEDDED, embedded_table, small_source

PER_CLASS = {"train": 24, "test": 6}
DATASETS = {
    "ILSVRC/imagenet-1k": ("imagenet-1k", "image", ("label",)),
    "uoft-cs/cifar10": ("cifar10", "img", ("label",)),
    "uoft-cs/cifar100": ("cifar100", "img", ("fine_label", "coarse_label")),
    "ethz/food101": ("food101", "image", ("label",)),
}


def fill(hub: HubServer, folder: Path) -> None:
    """The Hub of a user called you, and what ``folder`` has beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (alias, image, labels) in DATASETS.items():
        hub.create_repo("dataset", name)
        hub.alias("dataset", alias, name)
        hub.commit_files("dataset", name, dataset_files(image, labels))
    for name, model in models().items():
        hub.create_repo("model", name)
        hub.commit_files("model", name, model_files(folder / "models" / name, model))
    photos(folder / "photos")
    small_source(folder / "small", PER_CLASS["train"])
    some = dataset("train", "image", ("label",)).filter(lambda _, row: row % 24 < 3, True)
    others = folder / "somebody-elses-set"
    others.mkdir()
    some.to_parquet(others / "train.parquet")


def dataset(split: str, image: str, labels: tuple[str, ...]) -> Dataset:
    table = embedded_table(split, PER_CLASS[split])
    names = Features.from_arrow_schema(pq.read_schema(EMBEDDED / "fashion-mnist-test.parquet"))
    kinds = {image: ImageFeature()} | dict.fromkeys(labels, names["label"])
    columns: dict[str, Any] = {image: table["image"].to_pylist()}
    return Dataset.from_dict(
        columns | {label: table["label"].to_pylist() for label in labels}, Features(kinds)
    )


def dataset_files(image: str, labels: tuple[str, ...]) -> dict[str, bytes]:
    files = {"README.md": b"---\nlicense: mit\n---\n"}
    for split in PER_CLASS:
        buffer = io.BytesIO()
        dataset(split, image, labels).to_parquet(buffer)
        files[f"data/{split}-00000-of-00001.parquet"] = buffer.getvalue()
    return files


def models() -> dict[str, PreTrainedModel]:
    resnet = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3
    )
    convnext = ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, num_labels=3)
    return {
        "microsoft/resnet-18": ResNetForImageClassification(resnet),
        "facebook/convnext-tiny-224": ConvNextForImageClassification(convnext),
    }


def model_files(folder: Path, model: PreTrainedModel) -> dict[str, bytes]:
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def photos(folder: Path) -> None:
    """A folder of images, one folder a class."""
    for index, row in enumerate(dataset("train", "image", ("label",))):
        path = folder / str(row["label"]) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        row["image"].save(path)
