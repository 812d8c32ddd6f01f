"""Train a fresh student on a handful of images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wdistill.augment import apply_mix, apply_views, mix_targets, random_mix, random_views
from wdistill.config import EvalConfig
from wdistill.errors import NumericalError
from wdistill.pixels import Preprocessing, to_float
from wdistill.seeds import stream, stream_seed


@dataclass(frozen=True)
class TrainingSet:
    """images: (n, 3, R, R) uint8; targets: (n, C) float32, one-hot or soft, rows sum to 1;
    weights: (n,) float32, mean 1 within each class; soft: whether the targets are the teacher's.
    """

    images: Tensor
    targets: Tensor
    weights: Tensor
    soft: bool


def student_loss(logits: Tensor, targets: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """mean_j w_j KL(p_j || softmax(z_j / T)); at T = 1 its gradient is cross-entropy's.

    logits, targets: (B, C); weights: (B,). Not multiplied by T^2, as in the official recipe: Adam
    does not see the scale of a loss.
    """
    log_probabilities = (logits / temperature).log_softmax(1)
    divergence = F.kl_div(log_probabilities, targets, reduction="none").sum(1)
    return (weights * divergence).mean()


def soften(probabilities: Tensor, temperature: float) -> Tensor:
    """softmax(log p / T): probabilities at temperature 1 seen at temperature T."""
    tiny = torch.finfo(probabilities.dtype).tiny
    return (probabilities.clamp(min=tiny).log() / temperature).softmax(1)


def train_student(
    model: nn.Module,
    data: TrainingSet,
    preprocessing: Preprocessing,
    config: EvalConfig,
    seed: int,
    device: torch.device,
    autocast: torch.dtype | None = None,
) -> nn.Module:
    """Train ``model`` in place: AdamW, cosine to zero, crops, flips and CutMix, to the last epoch.

    Raises NumericalError if the loss is not finite.
    """
    model.to(device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.lr, weight_decay=config.weight_decay
    )
    temperature = config.temperature if data.soft else 1.0
    targets = soften(data.targets, temperature) if data.soft else data.targets
    images, targets, weights = (
        data.images.to(device),
        targets.to(device),
        data.weights.to(device),
    )
    mean = torch.tensor(preprocessing.mean, device=device).view(1, 3, 1, 1)
    std = torch.tensor(preprocessing.std, device=device).view(1, 3, 1, 1)
    count = len(images)
    epochs, batch_size = config.budget(count)
    steps_per_epoch = math.ceil(count / batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps_per_epoch)
    generator = stream(seed, "student")
    torch.manual_seed(stream_seed(seed, "dropout"))  # dropout draws from the global generator
    loss = torch.zeros(())
    for _ in range(epochs):
        order = torch.randperm(count, generator=generator)
        # Batches of nearly equal size: a last batch of one image would break BatchNorm.
        for part in torch.tensor_split(order, steps_per_epoch):
            views = random_views(len(part), config.crop_min, generator)
            mix = random_mix(len(part), images.shape[-1], generator)
            rows = part.to(device)
            batch = apply_mix(apply_views(to_float(images[rows], device), views), mix)
            with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                logits = model((batch - mean) / std).logits.float()
            # A mixed image weighs what its two parts weigh, and so do their targets in its own.
            share = mix_targets(weights[rows], mix)
            mixed = mix_targets(weights[rows, None] * targets[rows], mix)
            mixed = mixed / share.clamp(min=1e-12)[:, None]
            loss = student_loss(logits, mixed, share, temperature)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    if not bool(torch.isfinite(loss)):
        raise NumericalError("a student's loss is not finite; use --mixed-precision no")
    return model.eval()
