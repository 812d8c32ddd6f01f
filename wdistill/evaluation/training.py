"""Train a fresh student on a handful of images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wdistill.artifact.report import Recipe
from wdistill.config import Optimizer, RecipeName, StudentConfig
from wdistill.core.machine.graphs import Graphs, GraphSwitch
from wdistill.core.machine.numerics import network_precision
from wdistill.core.machine.transfer import to_device
from wdistill.core.seeds import stream, stream_seed
from wdistill.data.augment import apply_mix, apply_views, mix_targets, random_mix, random_views
from wdistill.data.dsa import dsa, dsa_idc
from wdistill.data.pixels import PixelStore, Preprocessing, to_float
from wdistill.errors import NumericalError
from wdistill.evaluation.recipes.datasets import FieldDataset
from wdistill.evaluation.recipes.named import NAMED
from wdistill.evaluation.recipes.optimise import StudentOptimizer
from wdistill.labels.soft import soften
from wdistill.labels.views import LabelViews, ViewedImages, replay
from wdistill.networks.features import FeatureNetwork, fast_layout, number_of_classes

_NAMES: dict[Optimizer, str] = {"adamw": "AdamW", "sgd": "SGD"}
MOMENTUM = 0.9  # of SGD, as in DatasetCondensation


@dataclass(frozen=True)
class TrainingSet:
    """Images and labels that a student is trained on.

    Attributes:
        images: (n, 3, R, R) uint8, or a store of n images.
        targets: (n,) int64 classes, or (n, C) float32 probabilities.
        weights: (n,) float32, mean 1.
        soft: Whether the targets come from the teacher.
        teacher: Labels every augmented batch; ``targets`` are then ignored.
        augment: Whether to use crops, flips and CutMix.
        views: The only views that the student is trained on, with their stored labels.
    """

    images: Tensor | PixelStore
    targets: Tensor
    weights: Tensor
    soft: bool
    teacher: FeatureNetwork | None = None
    augment: bool = True
    views: LabelViews | None = None


@dataclass(frozen=True)
class Training:
    """How and where a student is trained.

    Attributes:
        seed: Seed of its batches and views.
        autocast: Type of the forward pass; None for float32.
        graphs: Whether to use CUDA graphs.
    """

    recipe: Recipe
    seed: int
    device: torch.device
    autocast: torch.dtype | None = None
    graphs: GraphSwitch = field(default_factory=GraphSwitch)


@dataclass(frozen=True)
class Batch:
    """What a student sees in one step.

    Attributes:
        images: (B, 3, R, R) in [0, 1], augmented.
        targets: (B, C) probabilities.
        weights: (B,).
        logits: (B, C) of the teacher, where it labels every batch.
        classes: (B,) of the images themselves, before any was mixed with another.
    """

    images: Tensor
    targets: Tensor
    weights: Tensor
    logits: Tensor | None = None
    classes: Tensor | None = None


def recipe_for(
    config: StudentConfig,
    images: int,
    name: RecipeName = "default",
    dataset: FieldDataset | None = None,
    optimizer: Optimizer = "adamw",
) -> Recipe:
    """The recipe of that name for a set of ``images``; all baselines use the same recipe.

    Args:
        config: What is used of it depends on the recipe; never ``optimizers``.
        dataset: If the field has rules of its own for it.
        optimizer: Of recipe default; the others have their own.
    """
    if name != "default":
        return NAMED[name].recipe(config, images, dataset)
    steps, batch_size = config.budget(images)
    lr, weight_decay = config.rates(optimizer)
    return Recipe(
        optimizer=_NAMES[optimizer],
        lr=lr,
        weight_decay=weight_decay,
        momentum=MOMENTUM if optimizer == "sgd" else None,
        epochs=round(steps / math.ceil(images / batch_size)),
        steps=steps,
        batch_size=batch_size,
        temperature=config.label_temperature,
        crop_min=config.crop_min,
    )


def student_loss(logits: Tensor, targets: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """mean_j w_j KL(p_j || softmax(z_j / T)); at T = 1 its gradient is cross-entropy's.

    logits, targets: (B, C); weights: (B,). Not multiplied by T^2, as in the official recipe: Adam
    does not see the scale of a loss. For SGD, :func:`train_student` does that.
    """
    log_probabilities = (logits / temperature).log_softmax(1)
    divergence = F.kl_div(log_probabilities, targets, reduction="none").sum(1)
    return (weights * divergence).mean()


def squared_logits_loss(logits: Tensor, batch: Batch, class_weight: float) -> Tensor:
    """mean (z - z_teacher)^2 + w CE(z, class), EDC's loss; logits z: (B, C), w ``class_weight``.

    Without logits of a teacher it is the cross-entropy with the targets alone.
    """
    if batch.logits is None or batch.classes is None:
        return student_loss(logits, batch.targets, batch.weights, 1.0)
    return F.mse_loss(logits, batch.logits) + class_weight * F.cross_entropy(logits, batch.classes)


def train_student(
    model: nn.Module,
    data: TrainingSet,
    preprocessing: Preprocessing,
    training: Training,
    on_step: Callable[[Tensor], object] = lambda _: None,
) -> nn.Module:
    """Train ``model`` in place as the recipe says, to the last step.

    Args:
        model: The student.
        data: Its training images and labels.
        preprocessing: Normalisation of its input.
        training: Recipe, seed and device.
        on_step: Called with the loss of each step.

    Raises:
        NumericalError: The last loss is not finite.
    """
    recipe, device = training.recipe, training.device
    fast_layout(model.to(device)).train()
    optimizer = StudentOptimizer(model, recipe)
    torch.manual_seed(stream_seed(training.seed, "dropout"))  # drawn from the global generator
    loss = torch.zeros(())
    colours = _statistics(preprocessing, device)
    gradients = _Gradients(optimizer, training, temperature_of(data, recipe), colours)
    graphs = Graphs(training.graphs, device, preprocessing.resolution)
    batches = student_batches(data, number_of_classes(model), training, preprocessing)
    for batch in itertools.islice(batches, recipe.steps):
        loss = _step(graphs, gradients, batch)
        on_step(loss)
    if not bool(torch.isfinite(loss)):
        way_out = "use `mixed_precision=no`" if training.autocast else "choose another network"
        raise NumericalError(f"a student's loss is not finite; {way_out}")
    optimizer.finish()
    return model.eval()


@dataclass(frozen=True, eq=False)
class _Gradients:
    """The loss of a batch and its gradients, by the same operations for all batches of a size."""

    optimizer: StudentOptimizer
    training: Training
    temperature: float
    colours: tuple[Tensor, Tensor]

    def __call__(self, *fields: Tensor) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """fields: of the batch."""
        batch, (mean, std) = Batch(*fields), self.colours
        recipe, autocast = self.training.recipe, self.training.autocast
        device, temperature = batch.images.device, self.temperature
        with network_precision(device):
            with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                logits = self.optimizer.model((batch.images - mean) / std).logits.float()
            if recipe.class_weight is not None:
                loss = squared_logits_loss(logits, batch, recipe.class_weight)
            else:
                loss = student_loss(logits, batch.targets, batch.weights, temperature)
            # SGD sees the scale of a loss, which falls with T^2 (Hinton et al. 2015, section 2).
            scale = temperature**2 if recipe.optimizer == "SGD" else 1.0
            return loss.detach(), self.optimizer.gradients(loss * scale)


def _step(graphs: Graphs, gradients: _Gradients, batch: Batch) -> Tensor:
    """One step of a student; the loss before it."""
    fields = [batch.images, batch.targets, batch.weights]
    if batch.logits is not None and batch.classes is not None:
        fields += [batch.logits, batch.classes]
    loss, of_parameters = graphs.run(gradients, *fields)
    gradients.optimizer.step(of_parameters)
    return loss.clone()  # the next step overwrites it


def _statistics(preprocessing: Preprocessing, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the channels, (1, 3, 1, 1) each."""
    mean, std = (
        torch.tensor(values, device=device).view(1, 3, 1, 1)
        for values in (preprocessing.mean, preprocessing.std)
    )
    return mean, std


def temperature_of(data: TrainingSet, recipe: Recipe) -> float:
    """The softmax temperature: the recipe's for a teacher's labels, otherwise 1."""
    return recipe.temperature if data.soft else 1.0


def student_batches(
    data: TrainingSet, classes: int, training: Training, preprocessing: Preprocessing
) -> Iterator[Batch]:
    """Infinite batches of augmented images with what the student is told of them."""
    recipe, device = training.recipe, training.device
    temperature = temperature_of(data, recipe)
    images = data.images.to(device) if isinstance(data.images, Tensor) else data.images
    weights = data.weights.to(device)
    targets = data.targets.to(device)
    colours = _statistics(preprocessing, device)
    generator = stream(training.seed, "student")
    batch_size = min(recipe.batch_size, len(weights))
    if data.views is not None and isinstance(images, Tensor):
        viewed_images = ViewedImages(data.views, images, data.weights, classes)
        for viewed in replay(viewed_images, temperature, batch_size, generator):
            yield Batch(*viewed)
    while True:
        order = torch.randperm(len(weights), generator=generator)
        # Batches of nearly equal size: a last batch of one image would break BatchNorm.
        for part in torch.tensor_split(order, math.ceil(len(weights) / batch_size)):
            rows = to_device(part, device)
            pixels = images[rows] if isinstance(images, Tensor) else images.get(part)
            target = targets[rows]
            own = target if target.dim() == 1 else target.argmax(1)
            if target.dim() == 1:
                target = F.one_hot(target, classes).float()
            elif data.soft:
                target = soften(target, temperature)
            batch = Batch(to_float(pixels, device), target, weights[rows], classes=own)
            if data.augment:
                batch = _augmented(batch, recipe, colours, generator)
            if data.teacher is not None:
                with torch.no_grad():
                    logits = data.teacher(batch.images, moments=False).logits
                target = (logits / temperature).softmax(1)
                batch = replace(batch, targets=target, logits=logits)
            yield batch


def _augmented(
    batch: Batch, recipe: Recipe, colours: tuple[Tensor, Tensor], generator: torch.Generator
) -> Batch:
    """The batch through random views or DSA, and with the recipe's share of CutMix.

    colours: mean and deviation of the channels, (1, 3, 1, 1) each.
    """
    images = batch.images
    if recipe.augmentation == "crops":
        views = random_views(len(images), recipe.crop_min or 1.0, generator)
        images = apply_views(images, views)
    else:
        mean, std = colours
        augment = dsa if recipe.augmentation == "dsa" else dsa_idc
        images = augment((images - mean) / std, generator, recipe.flips) * std + mean
    if recipe.cutmix < 1 and float(torch.rand((), generator=generator)) >= recipe.cutmix:
        return replace(batch, images=images)
    mix = random_mix(len(images), images.shape[-1], generator)
    # The weight of a mixed image is the area-weighted mean of both weights; its target is the
    # weighted mean of both targets.
    weight = mix_targets(batch.weights, mix)
    weighted_target = mix_targets(batch.weights[:, None] * batch.targets, mix)
    target = weighted_target / weight.clamp(min=1e-12)[:, None]
    return replace(batch, images=apply_mix(images, mix), targets=target, weights=weight)
