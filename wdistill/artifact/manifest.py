"""wdistill.json: what was made, from what, how, with which versions."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wdistill._version import __version__
from wdistill.config import FORMAT_VERSION, RunConfig, stable_hash
from wdistill.core.devices import device_name, versions
from wdistill.core.text import without_folders
from wdistill.data.dataset import ImageData
from wdistill.labels.views import LabelViews


def describe_source(data: ImageData) -> dict[str, Any]:
    return {
        **asdict(data.source),
        "train_split": data.train_split,
        "eval_split": data.eval_split,
        "eval_is_holdout": data.eval_is_holdout,
        "image_column": data.image_column,
        "label_column": data.label_column,
        "groups": 0 if data.train.groups is None else len(np.unique(data.train.groups)),
        "train_images": len(data.train),
        "eval_images": len(data.eval),
        "unlabelled": data.unlabelled,
        "broken": data.broken,
    }


def _stored(config: RunConfig, views: LabelViews | None) -> dict[str, Any] | None:
    if views is None:
        return None
    return {
        "views": views.count,
        "topk": views.logits.shape[1],
        "levels": config.label_views.levels,
        "temperature": config.evaluate.temperature,  # at which ``rest`` has the others' share
    }


def build_manifest(
    *,
    config: RunConfig,
    command: str,
    data: ImageData,
    resolution: int,
    teacher: dict[str, Any],
    revisions: dict[str, str],
    local_students: dict[str, str],
    w2: NDArray[np.float64],
    w2_random: NDArray[np.float64],
    nearest_rmse: NDArray[np.float32],
    stored: LabelViews | None,
    seconds: dict[str, float],
    device: torch.device,
    processes: int,
) -> dict[str, Any]:
    """The manifest, but for ``bytes``, which writing the folder fills in.

    revisions: commits of the students and feature spaces that are on the Hub, by their ids;
    local_students: architectures of those that are not, by their published names; w2,
    w2_random: one value per class; nearest_rmse: (classes, ipc).
    """
    ipc = config.barycenter.ipc
    return {
        "format_version": FORMAT_VERSION,
        "wdistill_version": __version__,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": shlex.join(without_folders(shlex.split(command))),
        "config": without_folders(config.to_dict()),
        "config_changed": without_folders(config.changed()),
        "config_hash": stable_hash(config.to_dict()),
        "source": describe_source(data),
        "classes": list(data.class_names),
        "ipc": ipc,
        "resolution": resolution,
        "images": ipc * len(data.class_names),
        "teacher": teacher,
        "revisions": revisions,
        "local_students": local_students,
        "barycenter": {
            "weights": config.barycenter.weights,
            "w2": w2.tolist(),
            "w2_random": w2_random.tolist(),
        },
        "distances": {"nearest_real_rmse": nearest_rmse.astype(float).round(4).tolist()},
        "labels": {"views": config.relabel.views, "stored": _stored(config, stored)},
        "seconds": {stage: round(value, 2) for stage, value in seconds.items()},
        "versions": versions(),
        "device": device_name(device),
        "processes": processes,
        "threads": torch.get_num_threads(),  # sums on a CPU are rounded differently
    }
