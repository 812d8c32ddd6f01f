"""What a student sees: images and labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from wdistill.artifact.candidate import weights_alike
from wdistill.config import LabelViewsConfig
from wdistill.core.files import on_disk
from wdistill.core.seeds import stream, stream_seed
from wdistill.data.content.coding import Coding
from wdistill.data.pixels import PixelStore
from wdistill.errors import OptionError
from wdistill.evaluation.sets.baselines import TILES, mosaics, noise_images, random_rows
from wdistill.evaluation.sets.tiles import decoded
from wdistill.evaluation.students.jobs import Job, StudentSetting
from wdistill.evaluation.training import TrainingSet
from wdistill.labels.rounding import rounded
from wdistill.labels.soft import soft_labels
from wdistill.labels.views import LabelViews, ViewRecipe, label_views

DECODED_AT_ONCE = 256


def training_set(setting: StudentSetting, job: Job) -> TrainingSet:
    """The images and labels that a job's student sees."""
    soft, views = None, None
    images: Tensor | PixelStore
    if job.images in ("distilled", "noise"):
        given = setting.candidate()
        images, labels, weights, soft = given.pixels, given.labels, given.weights, given.soft
        views = given.views if job.labels == "views" else None
        if job.images == "noise":
            images = noise_images(given.pixels, setting.seed, job.seed)
    else:
        rows, weights = _real_rows(setting, job)
        labels = setting.train.labels[rows]
        images = setting.train if job.images == "full" else _pixels(setting, rows)
        if job.images == "tiles" and isinstance(images, Tensor):
            images = _tiled(images, setting.coding)
        if job.labels == "soft" and isinstance(images, Tensor) and setting.hard_soft:
            soft = F.one_hot(labels, len(setting.class_names)).float()
        elif job.labels == "soft" and isinstance(images, Tensor) and setting.giver is not None:
            generator = stream(setting.seed, "relabel-random", job.seed)
            soft = soft_labels(setting.giver, images, setting.relabel, generator)
        if job.labels == "views" and isinstance(images, Tensor) and setting.giver is not None:
            views = _views_alike(setting, images, job.seed)
    missing = {"soft": soft is None, "views": views is None}
    if missing.get(job.labels):
        raise OptionError(
            f"there are no labels of kind {job.labels} for the {job.images} images; leave out "
            f"`evaluate.labels` {job.labels}, or name the network that gives them with `teacher`"
        )
    targets = soft if job.labels == "soft" and soft is not None else labels
    weights = weights if setting.weighted else torch.ones(len(weights))
    online = setting.network if job.labels == "teacher" else None
    soft_targets = job.labels != "hard"
    return TrainingSet(images, targets, weights, soft_targets, online, job.augment, views)


def _real_rows(setting: StudentSetting, job: Job) -> tuple[Tensor, Tensor]:
    """Rows of real images, and their weights."""
    labels = setting.train.labels
    if job.images == "random":
        counts = setting.counts_at(job.ipc)
        rows = random_rows(labels, counts, setting.seed, job.seed)
        if setting.counts is None:
            return rows, torch.ones(len(rows))
        return rows, weights_alike(setting.candidate(), labels[rows])
    if job.images == "full":
        return torch.arange(len(labels)), torch.ones(len(labels))
    return setting.chosen[job.images]


def _tiled(images: Tensor, coding: Coding) -> Tensor:
    """Images four of which were stored as one, as its decoder gives them back."""
    stored = coding.seen(mosaics(images)).float() / 255
    return (decoded(stored, TILES) * 255).round().to(torch.uint8)


def _pixels(setting: StudentSetting, rows: Tensor) -> Tensor:
    """(n, 3, R, R) uint8 of real images, as files of the set's kind would give them."""
    store = setting.train
    shape = (len(rows), 3, store.preprocessing.resolution, store.preprocessing.resolution)
    parts = store.batches(rows, DECODED_AT_ONCE)
    batches = (setting.coding.seen(batch).numpy() for batch in parts)
    return torch.from_numpy(on_disk(batches, shape, np.uint8, setting.scratch))


def _views_alike(setting: StudentSetting, pixels: Tensor, draw: int) -> LabelViews | None:
    """Labels of the views of real images, as many and as coarse as those of the set."""
    own = setting.candidate().views
    if own is None or setting.giver is None:
        return None
    config = LabelViewsConfig(
        own.count, own.logits.shape[1], crop_min=setting.recipe.crop_min or 1.0
    )
    seed = stream_seed(setting.seed, "label-views-random", draw)
    temperature = setting.recipe.temperature
    views = label_views(setting.giver, pixels, ViewRecipe(config, temperature, seed))
    return rounded(views, config.levels, len(setting.class_names), temperature)
