"""A stranger's student: trains on a set from the Hub with `datasets` and PyTorch alone.

    python student.py REPO_ID REAL_FOLDER

REAL_FOLDER holds parquet files of the splits train and test with the columns image and label.
Prints the accuracy on the test split of a small network that has seen the distilled images and
their soft labels, and of one that has seen as many random real images.
"""

from __future__ import annotations

import json
import sys

import datasets
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEPS, BATCH = 400, 64


def pixels(rows: datasets.Dataset) -> Tensor:
    arrays = [np.asarray(image.convert("RGB")) for image in rows["image"]]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1


def network(classes: int) -> nn.Module:
    def block(before: int, after: int) -> list[nn.Module]:
        convolution = nn.Conv2d(before, after, 3, padding=1)
        return [convolution, nn.GroupNorm(after, after), nn.ReLU(), nn.AvgPool2d(2)]

    layers = [*block(3, 32), *block(32, 64), *block(64, 64)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(576, classes))


def accuracy(images: Tensor, targets: Tensor, test: tuple[Tensor, Tensor], seed: int) -> float:
    """On ``test``, after training with ``targets`` (N, classes) on mirrored, shifted images."""
    torch.manual_seed(seed)
    model = network(targets.shape[1])
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=5e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=STEPS)
    for _ in range(STEPS):
        rows = torch.randint(len(images), (BATCH,))
        shift = torch.randint(-3, 4, (2,)).tolist()
        batch = images[rows].roll(shift, (2, 3))
        if torch.rand(()) < 0.5:
            batch = batch.flip(3)
        loss = F.cross_entropy(model(batch), targets[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        guesses = torch.cat([model(part).argmax(1) for part in test[0].split(500)])
    return float((guesses == test[1]).float().mean())


def main(repo_id: str, folder: str) -> None:
    distilled = datasets.load_dataset(repo_id, split="train")
    real = datasets.load_dataset("parquet", data_files={
        split: f"{folder}/{split}.parquet" for split in ("train", "test")
    })  # fmt: skip
    test = pixels(real["test"]), torch.tensor(real["test"]["label"])
    classes = len(distilled.features["label"].names)
    count = len(distilled) // classes
    labels = np.array(real["train"]["label"])
    rng, found = np.random.default_rng(0), {}
    picked = [rng.choice(np.flatnonzero(labels == c), count, replace=False) for c in range(classes)]
    random_real = real["train"].select(np.concatenate(picked))
    hard = F.one_hot(torch.tensor(random_real["label"]), classes).float()
    found["random"] = accuracy(pixels(random_real), hard, test, 0)
    soft = torch.tensor(distilled["soft_label"])
    found["distilled"] = accuracy(pixels(distilled), soft, test, 0)
    print(json.dumps(found | {"images": len(distilled), "wdistill": "wdistill" in sys.modules}))


if __name__ == "__main__":
    main(*sys.argv[1:])
