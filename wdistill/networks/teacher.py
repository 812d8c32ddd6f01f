"""One teacher: which images it accepts, what its features depend on, and how it is saved."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch

from wdistill.config import FORMAT_VERSION, TeacherConfig
from wdistill.core.devices import less_precise
from wdistill.core.seeds import stream
from wdistill.core.settings import Precision, stable_hash
from wdistill.core.text import clean
from wdistill.data.dataset import ImageData
from wdistill.data.pixels import PixelStore, Preprocessing
from wdistill.errors import BackboneError, WdistillError
from wdistill.networks.backbones import Backbone, new_network, weights_sha256
from wdistill.networks.checkpoints.source import BackboneSource
from wdistill.networks.features import FeatureNetwork, number_of_classes
from wdistill.networks.preprocessing import PixelStatistics
from wdistill.networks.training import TRAIN_CROP_MIN, WARM_UP, recipe_for

STATISTICS_SAMPLE = 5000  # training images behind the normalisation of a network without processor
NO_NORMALISATION: PixelStatistics = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def pixel_statistics(store: PixelStore, seed: int) -> PixelStatistics:
    """Mean and standard deviation per channel of a sample of the training images, in [0, 1]."""
    order = torch.randperm(len(store), generator=stream(seed, "pixel-statistics"))
    moments = [
        (batch.double().div(255).mean((0, 2, 3)), batch.double().div(255).pow(2).mean((0, 2, 3)))
        for batch in store.batches(order[:STATISTICS_SAMPLE].sort().values, 500)
    ]
    mean = torch.stack([m for m, _ in moments]).mean(0)
    std = (torch.stack([s for _, s in moments]).mean(0) - mean**2).clamp(min=1e-4).sqrt()
    return tuple(round(v, 4) for v in mean.tolist()), tuple(round(v, 4) for v in std.tolist())


def check_new_network(
    source: BackboneSource, class_names: Sequence[str], preprocessing: Preprocessing
) -> None:
    """Raise BackboneError unless a network of ``source`` with random weights takes the images."""
    model = new_network(source, class_names, preprocessing.resolution, 0)
    backbone = Backbone(source.name, model, preprocessing, "from_scratch", source.revision)
    check_accepts(backbone, source.setting)


def check_accepts(backbone: Backbone, setting: str = "teacher.backbone") -> None:
    """Raise BackboneError unless the network maps images to one finite logit per class."""
    subject = f"`{setting}` {backbone.name!r}"
    size, classes = backbone.preprocessing.resolution, number_of_classes(backbone.model)
    network = FeatureNetwork(backbone.model, backbone.preprocessing, torch.device("cpu"))
    try:
        with torch.no_grad():
            logits = network(torch.zeros(2, 3, size, size)).logits
    except WdistillError:
        raise
    except Exception as error:
        first = clean(str(error).strip().split("\n")[0]) or type(error).__name__
        raise BackboneError(
            f"{subject} does not take images of {size} px: {first}; "
            "choose another `data.resolution`, or leave it out"
        ) from error
    finally:
        backbone.model.requires_grad_(True)
    if logits.shape != (2, classes):
        shape = " x ".join(map(str, logits.shape[1:]))
        raise BackboneError(
            f"{subject} gives {shape} outputs an image for {classes} classes, whatever its "
            "configuration says; choose another network"
        )
    if not bool(logits.isfinite().all()):
        raise BackboneError(
            f"{subject} gives outputs for a black image that are no finite numbers; choose "
            "another network"
        )


def _network_settings(backbone: Backbone) -> dict[str, Any]:
    """What the architecture computes, beyond its weights: activations, epsilons and so on."""
    settings: dict[str, Any] = backbone.model.config.to_dict()
    for name in ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "auto_map"):
        settings.pop(name, None)
    return settings


def save_checkpoint(backbone: Backbone, folder: Path) -> None:
    """An ordinary Hugging Face checkpoint: config, safetensors weights, image processor."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    backbone.model.save_pretrained(partial)
    size, resize = backbone.preprocessing.resolution, backbone.preprocessing.resize
    kind = "DeiTImageProcessor" if backbone.preprocessing.warp else "CLIPImageProcessor"
    by_shorter_side = resize and not backbone.preprocessing.warp
    side = resize or size
    processor = {
        "image_processor_type": kind if resize else "ViTImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": side} if by_shorter_side else {"height": side, "width": side},
        "do_center_crop": bool(resize),
        "crop_size": {"height": size, "width": size},
        "resample": backbone.preprocessing.resample,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(backbone.preprocessing.mean),
        "image_std": list(backbone.preprocessing.std),
    }
    (partial / "preprocessor_config.json").write_text(json.dumps(processor, indent=2))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def features_key(data: ImageData, backbone: Backbone, digest: str, seed: int) -> str:
    """A hash of everything that the features of the images depend on.

    digest: of the backbone's weights.
    """
    return stable_hash(
        {
            "format": FORMAT_VERSION,
            "data": data.source.fingerprint,
            "weights": digest,
            "network": _network_settings(backbone),
            # A hold-out is drawn with the seed; the evaluation split of a dataset is not.
            "images": [
                *data.stored, data.eval_split,
                seed if data.eval_is_holdout else None,
            ],
            "pixels": vars(backbone.preprocessing),
        }
    )  # fmt: skip


def training_key(
    data: ImageData, backbone: Backbone, config: TeacherConfig, seed: int, precision: Precision
) -> str:
    """A hash of everything that the training of ``backbone`` depends on."""
    batch = config.batch(len(data.train))
    return stable_hash(
        {
            "format": FORMAT_VERSION,
            "data": data.source.fingerprint,
            "seed": seed,
            "precision": precision,
            "start": weights_sha256(backbone.model),
            "network": _network_settings(backbone),
            "training": [
                config.epochs, batch, *astuple(recipe_for(backbone, batch)), WARM_UP, TRAIN_CROP_MIN
            ],
            "pixels": vars(backbone.preprocessing),
            **less_precise(),
        }
    )  # fmt: skip
