"""Train a classifier on the real images, and measure it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from wdistill.config import TeacherConfig
from wdistill.core.devices import without_accelerate_settings
from wdistill.core.files import read_tensors, write_tensors
from wdistill.core.log import Progress
from wdistill.core.machine.meeting import meet
from wdistill.core.machine.numerics import network_precision
from wdistill.core.machine.transfer import to_device
from wdistill.core.processes import summed
from wdistill.core.seeds import stream, stream_seed
from wdistill.data.augment import apply_views, random_views
from wdistill.data.pixels import PixelStore, to_float
from wdistill.errors import NumericalError, RunFolderError, WeakTeacherError
from wdistill.networks.backbones import Backbone
from wdistill.networks.features import FeatureNetwork
from wdistill.networks.norms import BATCH_NORMS, of_all_processes

WARM_UP = 0.2  # share of the steps in which the OneCycle learning rate rises
TRAIN_CROP_MIN = 0.5  # smallest area share of a training crop


@dataclass(frozen=True)
class Recipe:
    """optimizer: SGD with Nesterov momentum for networks with BatchNorm, else AdamW."""

    optimizer: str
    lr: float
    weight_decay: float


def recipe_for(backbone: Backbone, batch_size: int) -> Recipe:
    """Learning rates by kind of network and start, for batches of 128: [own]; those of other
    batches by the square root of their size (Krizhevsky 2014); SGD's weight decay: [official].
    """
    scratch, scale = backbone.origin == "from_scratch", math.sqrt(batch_size / 128)
    if any(isinstance(m, BATCH_NORMS) for m in backbone.model.modules()):
        return Recipe("SGD", scale * (0.1 if scratch else 0.01), 5e-4)
    return Recipe("AdamW", scale * (1e-3 if scratch else 1e-4), 0.05)


def one_cycle(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up, then linear to zero."""
    peak = max(1, round(WARM_UP * steps))
    return (step + 1) / peak if step < peak else (steps - step) / max(1, steps - peak)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "SGD":
        return torch.optim.SGD(
            model.parameters(),
            lr=recipe.lr,
            momentum=0.9,
            nesterov=True,
            weight_decay=recipe.weight_decay,
        )
    return torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of a training is kept after each epoch.

    Attributes:
        path: The file.
        key: A hash of everything that the training depends on; a state of another key is ignored.
    """

    path: Path
    key: str

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> None:
        """Write the state after ``epoch`` epochs."""
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items() if torch.is_tensor(v)}
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        write_tensors(self.path, plain, {"key": self.key, "epoch": str(epoch)})

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Load the state if it is sound and of the same key.

        Returns:
            The number of epochs that it has been trained; 0 if there is no such state.
        """
        try:
            tensors, metadata = read_tensors(self.path)
        except (RunFolderError, FileNotFoundError):
            return 0
        if metadata.get("key") != self.key:
            return 0
        model.load_state_dict(
            {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
        )
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, field = name.split(".", 2)
                state.setdefault(int(index), {})[field] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        return int(metadata["epoch"])


@without_accelerate_settings()
def train_teacher(
    backbone: Backbone,
    store: PixelStore,
    config: TeacherConfig,
    seed: int,
    accelerator: Accelerator,
    checkpoint: Checkpoint,
) -> None:
    """Train ``backbone.model`` in place on the images of ``store``.

    Cross-entropy, random resized crops and flips, OneCycle. Every process takes its share of each
    global batch, so neither the schedule nor the statistics of BatchNorm depend on the number of
    processes. The state is saved in
    ``checkpoint`` after each epoch, and training goes on from there.

    Raises:
        NumericalError: The loss is not finite.
    """
    batch_size = config.batch(len(store))
    recipe = recipe_for(backbone, batch_size)
    several = accelerator.num_processes > 1
    if several:
        _freeze_unused(backbone)
    meet(accelerator)
    model, optimizer = accelerator.prepare(backbone.model, _optimizer(backbone.model, recipe))
    plain = accelerator.unwrap_model(model)
    share = max(1, batch_size // accelerator.num_processes)
    steps_per_epoch = max(1, len(store) // (share * accelerator.num_processes))
    steps = config.epochs * steps_per_epoch
    first = checkpoint.restore(plain, optimizer)
    quiet = store.quiet or not accelerator.is_main_process
    with (
        Progress("teacher", steps, "step", first * steps_per_epoch, quiet) as bar,
        of_all_processes(plain) if several else nullcontext(),
    ):
        model.train()
        for epoch in range(first, config.epochs):
            step = epoch * steps_per_epoch
            # Dropout and stochastic depth draw from the global generator.
            torch.manual_seed(stream_seed(seed, "dropout", epoch, accelerator.process_index))
            for pixels, labels in _batches(backbone, store, share, seed, epoch, accelerator):
                for group in optimizer.param_groups:
                    group["lr"] = recipe.lr * one_cycle(step, steps)
                optimizer.zero_grad()
                with network_precision(accelerator.device):
                    with accelerator.autocast():
                        loss = F.cross_entropy(model(pixels).logits.float(), labels)
                    accelerator.backward(loss)
                optimizer.step()
                step += 1
                bar.update()
            if not math.isfinite(value := float(loss.detach())):
                lower = accelerator.mixed_precision != "no"
                way_out = "use `mixed_precision=no`" if lower else "choose another network"
                raise NumericalError(
                    f"the teacher's loss is not finite in epoch {epoch + 1}; {way_out}"
                )
            bar.describe(f"loss {value:.3f} in epoch {epoch + 1}")
            accelerator.log({"teacher/loss": value}, step=epoch + 1)
            if accelerator.is_main_process:
                checkpoint.save(plain, optimizer, epoch + 1)
    model.eval()
    accelerator.free_memory()


def _freeze_unused(backbone: Backbone) -> None:
    """Parameters that no image uses, such as a mask token, get no gradient, and the processes would
    wait for it. Training does not change them either way.
    """
    model, size = backbone.model.eval(), backbone.preprocessing.resolution
    device = next(model.parameters()).device
    model(torch.zeros(1, 3, size, size, device=device)).logits.sum().backward()
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None


def _batches(
    backbone: Backbone,
    store: PixelStore,
    share: int,
    seed: int,
    epoch: int,
    accelerator: Accelerator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's part of every global batch of the epoch, augmented and normalised."""
    processes, rank = accelerator.num_processes, accelerator.process_index
    generator = stream(seed, "teacher", epoch)
    order = torch.randperm(len(store), generator=generator)
    size = share * processes
    order = order[: max(1, len(order) // size) * size].view(-1, min(size, len(order)))
    assigned = order[:, rank::processes]
    mean = torch.tensor(backbone.preprocessing.mean, device=accelerator.device).view(1, 3, 1, 1)
    std = torch.tensor(backbone.preprocessing.std, device=accelerator.device).view(1, 3, 1, 1)
    batches = store.batches(assigned.flatten(), assigned.shape[1])
    for rows, pixels in zip(assigned, batches, strict=True):
        views = random_views(order.shape[1], TRAIN_CROP_MIN, generator)
        part = type(views)(views.box[rank::processes], views.flip[rank::processes])
        images = apply_views(to_float(pixels, accelerator.device), part)
        yield (images - mean) / std, to_device(store.labels[rows], accelerator.device)


@torch.no_grad()
def measure_accuracy(
    network: FeatureNetwork, store: PixelStore, accelerator: Accelerator, batch_size: int = 256
) -> float:
    """Top-1 accuracy on all of ``store``, from 0 to 1; the images are divided among processes."""
    rows = torch.arange(accelerator.process_index, len(store), accelerator.num_processes)
    correct = torch.zeros((), device=accelerator.device)
    batches, total = store.batches(rows, batch_size), math.ceil(len(rows) / batch_size)
    quiet = store.quiet or not accelerator.is_main_process
    with Progress("teacher accuracy", total, "batch", quiet=quiet) as bar:
        for chunk, pixels in zip(rows.split(batch_size), batches, strict=True):
            logits = network(to_float(pixels, network.device), moments=False).logits
            correct += (logits.argmax(1) == to_device(store.labels[chunk], network.device)).sum()
            bar.update()
    return float(summed(correct, accelerator)) / len(store)


def check_not_weak(accuracy: float, store: PixelStore, backbone: Backbone) -> None:
    """Raise WeakTeacherError where ``accuracy`` is within 5% of the way from chance to perfect
    (plus three standard errors); chance is the share of the most frequent class.
    """
    chance = float(torch.bincount(store.labels).max()) / len(store)
    noise = 3 * math.sqrt(chance * (1 - chance) / len(store))
    limit = chance + 0.05 * (1 - chance) + noise
    if accuracy >= limit:
        return
    cause = {
        "as_is": "its classes match by name, so the resolution or the normalisation is the likely "
        f"cause (images reach it at {backbone.preprocessing.resolution} px)",
        "fine_tuned": "it was fine-tuned too briefly, or the labels are noise; "
        "raise `teacher.epochs`",
        "from_scratch": "it was trained too briefly or on too few images; raise `teacher.epochs` "
        "or start from a pretrained `teacher.backbone`",
    }[backbone.origin]
    raise WeakTeacherError(
        f"teacher {backbone.name!r} has accuracy {accuracy:.1%} and chance is {chance:.1%}: "
        f"{cause}; `teacher.allow_weak=True` goes on"
    )
