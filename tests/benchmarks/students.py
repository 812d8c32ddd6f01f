"""Our training of a student against the usual loop, on the same student and batches, in one run.

    taskset -c 0,1 env OMP_WAIT_POLICY=passive python -m tests.benchmarks.students --dataset cifar10

The usual loop is a torch DataLoader over images in memory, each cut, resized and flipped by PIL
and made a normalised tensor by itself, as torchvision's transforms do (RandomResizedCrop with
bilinear resizing, RandomHorizontalFlip, ToTensor, Normalize), then CutMix in the loop. Ours keeps
all images on the device as uint8 and cuts, flips and mixes a batch at once. Both train in float32,
or ours in bf16 with --bf16, with AdamW and a cosine. Rounds alternate and the first is not counted.
Given is the median over rounds of the ratio of seconds, since other work on the machine slows both
of a pair; and the same for the images alone, without a student.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from wdistill.config import RATES, DataConfig, StudentConfig
from wdistill.core.devices import device_name, keep_freed_memory, versions
from wdistill.core.files import write_json
from wdistill.data.dataset import load_data
from wdistill.data.pixels import PixelStore, Preprocessing
from wdistill.evaluation.sets.baselines import random_rows
from wdistill.evaluation.training import (
    Training,
    TrainingSet,
    recipe_for,
    student_batches,
    train_student,
)
from wdistill.networks.backbones import new_network
from wdistill.networks.checkpoints.source import BackboneSource, find_backbone

CLASSES = tuple("abcdefghij")
CROP_RATIO = math.log(4 / 3)


class PilImages(Dataset[tuple[Tensor, int]]):
    """Images in memory, changed one by one."""

    def __init__(self, pixels: Tensor, labels: Tensor, recipe: StudentConfig, seen: Preprocessing):
        self.pixels = pixels.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels, self.recipe, self.seen = labels.tolist(), recipe, seen

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.pixels[index])
        left, top, width, height = self._box(*image.size)
        size = (self.seen.resolution, self.seen.resolution)
        image = image.crop((left, top, left + width, top + height))
        image = image.resize(size, Image.Resampling.BILINEAR)
        if torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (self.seen.mean, self.seen.std))
        return tensor.sub_(mean).div_(std), self.labels[index]

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Of a random crop: tried until it fits, as torchvision does."""
        for _ in range(10):
            area = width * height * float(torch.empty(1).uniform_(self.recipe.crop_min, 1))
            ratio = math.exp(float(torch.empty(1).uniform_(-CROP_RATIO, CROP_RATIO)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                left = int(torch.randint(0, width - w + 1, (1,)))
                return left, int(torch.randint(0, height - h + 1, (1,))), w, h
        return 0, 0, width, height


def cutmix(images: Tensor) -> tuple[Tensor, float]:
    """Pastes a box of each image's partner into it; the partners, and the share that stays."""
    size, partner = images.shape[-1], torch.randperm(len(images), device=images.device)
    half = size * math.sqrt(1 - np.random.beta(1, 1)) / 2
    y, x = np.random.randint(size), np.random.randint(size)
    top, bottom = (int(np.clip(y + sign * half, 0, size)) for sign in (-1, 1))
    left, right = (int(np.clip(x + sign * half, 0, size)) for sign in (-1, 1))
    images[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
    return partner, 1 - (bottom - top) * (right - left) / size**2


def usual_images(loader: DataLoader[Any], device: torch.device) -> Iterator[tuple[Any, ...]]:
    """Batches after CutMix, without end: images, labels, partners' labels, share that stays."""
    while True:
        for batch in loader:
            images, labels = (part.to(device) for part in batch)
            partner, kept = cutmix(images)
            yield images, labels, labels[partner], kept


def usual_loop(model: nn.Module, batches: Iterator[tuple[Any, ...]], steps: int) -> None:
    model.train()
    lr, weight_decay = RATES["adamw"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for images, labels, others, kept in itertools.islice(batches, steps):
        logits = model(images).logits
        loss = kept * F.cross_entropy(logits, labels) + (1 - kept) * F.cross_entropy(logits, others)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        loss.item()  # which such loops print


@dataclass(frozen=True)
class Case:
    """What both loops are given. student: None for the images alone; workers: of the usual loop."""

    student: BackboneSource | None
    batch: int
    workers: int
    steps: int
    device: torch.device
    autocast: torch.dtype | None

    def network(self, size: int, seed: int) -> nn.Module | None:
        if self.student is None:
            return None
        return new_network(self.student, CLASSES, size, seed).to(self.device)

    def usual(self, model: nn.Module | None, data: PilImages) -> None:
        keep = self.workers > 0
        loader = DataLoader(
            data, self.batch, shuffle=True, num_workers=self.workers, persistent_workers=keep
        )
        batches = usual_images(loader, self.device)
        if model is None:
            drain(batches, self.steps)
        else:
            usual_loop(model, batches, self.steps)

    def ours(self, model: nn.Module | None, given: TrainingSet, data: PilImages) -> None:
        config = replace(data.recipe, steps=self.steps, batch_size=self.batch)
        recipe = recipe_for(config, len(given.weights))
        training = Training(recipe, 0, self.device, self.autocast)
        if model is None:
            drain(student_batches(given, len(CLASSES), training, data.seen), self.steps)
        else:
            train_student(model, given, data.seen, training)


def drain(batches: Iterator[Any], count: int) -> None:
    for _ in itertools.islice(batches, count):
        pass


def seconds(work: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def compared(case: Case, data: PilImages, given: TrainingSet, rounds: int) -> dict[str, Any]:
    """Steps per second of both loops, and by how much ours is faster."""
    pairs = []
    for turn in range(rounds + 1):
        nets = [case.network(data.seen.resolution, turn) for _ in range(2)]
        loops = (
            partial(case.usual, nets[0], data),
            partial(case.ours, nets[1], given, data),
        )
        order = (0, 1) if turn % 2 else (1, 0)
        taken = {which: seconds(loops[which], case.device) for which in order}
        pairs.append((taken[0], taken[1]))
    pairs = pairs[1:]
    ratios = [usual / ours for usual, ours in pairs]
    return {
        "student": case.student.name if case.student else None,
        "batch_size": case.batch,
        "workers": case.workers,
        "steps_per_second": {
            name: round(case.steps / median(pair[i] for pair in pairs), 2)
            for i, name in enumerate(("usual", "ours"))
        },
        "ratio": round(median(ratios), 2),
        "ratios": [round(value, 2) for value in ratios],
    }


@click.command()
@click.option("--dataset", required=True)
@click.option("--student", "students", multiple=True, default=("resnet10-w16", "convnet-w64"))
@click.option("--workers", multiple=True, type=int, default=(0, 2), show_default=True)
@click.option("--ipc", default=50, show_default=True, help="Real images per class to train on.")
@click.option("--batch-size", multiple=True, type=int, default=(32, 128), show_default=True)
@click.option("--steps", default=60, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--bf16", is_flag=True, help="Ours alone.")
@click.option("--device", default="cpu", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path))
def main(
    dataset: str, students: tuple[str, ...], workers: tuple[int, ...], ipc: int,
    batch_size: tuple[int, ...], steps: int, rounds: int, bf16: bool, device: str,
    output: Path | None,
) -> None:  # fmt: skip
    keep_freed_memory()
    where, real = torch.device(device), load_data(DataConfig(dataset), 0, ipc)
    size = real.native_size
    seen = Preprocessing(size, size, (0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
    store = PixelStore(real.train, seen)
    chosen = random_rows(store.labels, [ipc] * len(CLASSES), 0, 0)
    pixels, labels = store.get(chosen), store.labels[chosen]
    data = PilImages(pixels, labels, StudentConfig(), seen)
    given = TrainingSet(pixels, labels, torch.ones(len(labels)), soft=False)
    rows = []
    for name, batch, count in itertools.product((None, *students), batch_size, workers):
        source = None if name is None else find_backbone(name, resolution=size)
        autocast = torch.bfloat16 if bf16 else None
        case = Case(source, batch, count, steps if name else 10 * steps, where, autocast)
        rows.append(compared(case, data, given, rounds))
        click.echo(json.dumps(rows[-1]))
    result = {
        "resolution": size,
        "images": len(labels),
        "steps": steps,
        "ours_in_bf16": bf16,
        "rows": rows,
        "threads": torch.get_num_threads(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "device": device_name(where),
        "versions": versions(),
    }
    if output:
        write_json(output, result)


if __name__ == "__main__":
    main()
