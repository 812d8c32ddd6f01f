"""A small, fixed publishable folder of real images, for the tests that read one."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

import wdistill
from wdistill.artifact.distilled_set import DistilledSet, remove_other_report, write_data
from wdistill.artifact.layout import MANIFEST_FILE
from wdistill.artifact.manifest import Manifest
from wdistill.config import FORMAT_VERSION, RunConfig
from wdistill.labels.views import LabelViews

SCHEMAS = Path(wdistill.__file__).parent / "artifact" / "schemas"
NAMES = ("T-shirt/top", "Trouser", "Pullover")


def distilled_set(
    names: tuple[str, ...] = NAMES, ipc: int = 4, size: tuple[int, int] = (28, 28)
) -> DistilledSet:
    table = pq.read_table(
        Path(wdistill.__file__).parent / "data/embedded/fashion-mnist-train.parquet"
    )
    source = table["label"].to_numpy()
    classes = len(names)
    rows = np.concatenate([np.flatnonzero(source == c % 10)[:ipc] for c in range(classes)])
    images = [
        np.asarray(Image.open(io.BytesIO(table["image"][int(row)].as_py()["bytes"])).convert("RGB"))
        for row in rows
    ]
    if size != (28, 28):
        images = [np.asarray(Image.fromarray(image).resize(size)) for image in images]
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), ipc).astype(np.int64)
    soft = rng.dirichlet(np.full(classes, 0.5), len(labels)) + 2 * np.eye(classes)[labels]
    return DistilledSet(
        images=np.stack(images),
        labels=labels,
        weights=rng.dirichlet(np.full(ipc, 3.0), classes).reshape(-1).astype(np.float32),
        soft_labels=(soft / soft.sum(1, keepdims=True)).astype(np.float32),
        class_names=tuple(names),
    )


def manifest_json(names: tuple[str, ...] = NAMES, ipc: int = 4, **changes: Any) -> dict[str, Any]:
    """As the pipeline writes wdistill.json; ``changes`` name a path: ``source__license="mit"``."""
    classes = range(len(names))
    value: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "wdistill_version": "0.1.0",
        "created": "2026-11-22T17:00:00Z",
        "command": "wdistill run --ipc 4 --iterations 100",
        "config": json.loads(json.dumps(RunConfig().to_dict())),
        "config_changed": ["barycenter.ipc", "synthesis.iterations"],
        "config_hash": "0123456789abcdef",
        "source": {
            "id": "fashion_mnist-subset",
            "kind": "embedded",
            "config_name": None,
            "revision": None,
            "fingerprint": "feedc0de",
            "license": "mit",
            "license_name": None,
            "license_link": None,
            "access": "open",
            "pretty_name": "Fashion-MNIST (subset)",
            "url": "https://github.com/zalandoresearch/fashion-mnist",
            "train_split": "train",
            "eval_split": "test",
            "eval_is_holdout": False,
            "groups": 0,
            "image_column": "image",
            "label_column": "label",
            "train_images": 10000,
            "eval_images": 2000,
            "unlabelled": 0,
            "shared": 0,
            "broken": 0,
        },
        "classes": list(names),
        "ipc": ipc,
        "counts": None,
        "resolution": 28,
        "images": ipc * len(names),
        "coding": {
            "format": "webp",
            "quality": 60,
            "grey": False,
            "coder": "libwebp 1.6.0",
            "tried": [],
        },
        "labels": {"giver": "teacher", "hard_soft": False, "temperature": None, "tried": []},
        "budget": None,
        "teacher": {
            "backbone": "resnet10-w16",
            "revision": None,
            "origin": "from_scratch",
            "architecture": "resnet, 16-32-64-128 channels, 1 block a stage",
            "accuracy": 0.8812,
            "weights_sha256": "ab" * 32,
            "parameters": 123456,
        },
        "revisions": {},
        "local_students": {},
        "barycenter": {
            "w2": [12.25 + c for c in classes],
            "w2_random": [20.5 + 2 * c for c in classes],
        },
        "distances": {
            "nearest_real_rmse": [
                [round(0.0312 + 0.01 * c + 0.002 * j, 4) for j in range(ipc)] for c in classes
            ]
        },
        "label_views": None,
        "seconds": {"teacher": 61.5, "survey": 3.25, "synthesis": 40.0, "relabel": 1.0},
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "environment": {},
        "device": "cpu (2 threads)",
        "processes": 1,
        "threads": 2,
        "bytes": {"images": 11768, "soft_labels": 144, "parquet": 12684, "label_views": 0},
    }
    value["config"]["barycenter"] |= {"ipc": ipc, "weights": "free"}
    value["config"]["synthesis"]["iterations"] = 100
    for path, change in changes.items():
        *parents, key = path.split("__")
        target = value
        for parent in parents:
            target = target[parent]
        target[key] = change
    return value


def manifest(names: tuple[str, ...] = NAMES, ipc: int = 4, **changes: Any) -> Manifest:
    """The same, read."""
    return Manifest.parse(manifest_json(names, ipc, **changes), Path("wdistill.json"))


def write_set(
    folder: Path, distilled: DistilledSet, described: Manifest, views: LabelViews | None = None
) -> bool:
    """Write a set as the end of a run does; whether a report of another set is gone."""
    removed = remove_other_report(folder, distilled, views)
    sizes = write_data(folder, distilled, views)
    described.model_copy(update={"bytes": sizes}).write(folder / MANIFEST_FILE)
    return removed
