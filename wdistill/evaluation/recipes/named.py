"""Recipes by name: complete protocols of papers, and ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from wdistill.artifact.report import Recipe
from wdistill.config import Labels, RecipeName, StudentConfig
from wdistill.evaluation.recipes.datasets import FieldDataset
from wdistill.networks.architectures import ConvNetConfig
from wdistill.networks.checkpoints.source import STUDENTS, BackboneSource, find_backbone

CONVNET = "convnet"


@dataclass(frozen=True)
class Schedule:
    """Learning rates over the epochs.

    Attributes:
        kind: cosine, half cosine or steps.
        shares: Of ``steps``: after which parts of the epochs the rate falls.
        late: Epochs that each fall comes later than its share.
        factor: What the rate is multiplied by there.
        restarts: Whether the momentum starts from zero there.
        extra: Epochs beside those that are named.
    """

    kind: str
    shares: tuple[tuple[int, int], ...] = ()
    late: int = 0
    factor: float | None = None
    restarts: bool = False
    extra: int = 0

    def drops(self, epochs: int, per_epoch: int) -> tuple[int, ...]:
        """The steps of the optimiser after which the rate falls."""
        return tuple((epochs * a // b + self.late) * per_epoch for a, b in self.shares)


@dataclass(frozen=True)
class NamedRecipe:
    """A protocol: everything that decides an accuracy beside the images.

    Attributes:
        source: Where it is written down.
        network: The student: a built-in architecture, of which ``convnet`` has as many blocks as
            the field gives it for the size of the images.
        labels: What the student is told.
        batches: (images of the set at most, batch size), in rising order; the last holds for all
            larger sets.
        class_weight: Weight of the cross-entropy beside the squared error of logits.
        augmentation: crops, dsa or dsa idc.
        weights: Whether images count as their set says; the published code knows no weights.
        reported: Which of the accuracies its papers report.
        departs: What is different here, and why.
        field_colours: Whether images are normalised as the field's code does, by name of dataset.
    """

    name: RecipeName
    source: str
    network: str
    labels: Labels
    optimizer: str
    lr: float
    weight_decay: float
    momentum: float | None
    schedule: Schedule
    epochs: int
    batches: tuple[tuple[int, int], ...]
    temperature: float
    augmentation: str
    cutmix: float
    crop_min: float | None
    loss: str = "cross-entropy"
    class_weight: float | None = None
    average: float | None = None
    weights: bool = False
    reported: str = "the accuracy after the last epoch"
    departs: tuple[str, ...] = ()
    field_colours: bool = False

    def batch(self, images: int) -> int:
        """Images per step for a set of ``images``."""
        sizes = [size for most, size in self.batches if images <= most]
        return min(sizes[0] if sizes else self.batches[-1][1], images)

    def recipe(
        self, config: StudentConfig, images: int, dataset: FieldDataset | None = None
    ) -> Recipe:
        """This protocol for a set of ``images`` of ``dataset``.

        Args:
            config: Its ``epochs`` or ``steps`` win over those of the protocol, which the result
                says in ``changed``; nothing else of it is used.
            images: Of the set.
            dataset: If the field has rules of its own for it.
        """
        size = self.batch(images)
        per_epoch = math.ceil(images / size)
        epochs = self.epochs
        changed: tuple[str, ...] = ()
        if config.epochs is not None and config.epochs != self.epochs:
            epochs = config.epochs
            changed = (f"{epochs:,} epochs in place of {self.epochs:,}",)
        steps = (epochs + self.schedule.extra) * per_epoch
        if config.steps is not None and config.steps != steps:
            changed = (f"{config.steps:,} steps in place of {steps:,}",)
            steps = config.steps
            epochs, per_epoch = steps, 1
        return Recipe(
            name=self.name,
            changed=changed,
            optimizer=self.optimizer,
            lr=self.lr,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            schedule=self.schedule.kind,
            drops=self.schedule.drops(epochs, per_epoch),
            factor=self.schedule.factor,
            restarts=self.schedule.restarts,
            epochs=round(steps / math.ceil(images / size)),
            steps=steps,
            batch_size=size,
            loss=self.loss,
            class_weight=self.class_weight,
            temperature=self.temperature,
            augmentation=self.augmentation,
            flips=dataset.flips if dataset and self.field_colours else True,
            cutmix=self.cutmix,
            crop_min=self.crop_min,
            average=self.average,
        )

    def student(self, resolution: int) -> BackboneSource:
        """The protocol's network for images of this size."""
        if self.network == CONVNET:
            return field_convnet(resolution)
        return find_backbone(self.network, resolution=resolution, setting=STUDENTS)


def field_convnet(resolution: int) -> BackboneSource:
    """The ConvNet that papers use for images of this size, under its name with its depth.

    Blocks of 128 channels: three at 32 pixels, four at 64, five at 128, that is, as many as leave
    maps of 4 x 4. Images of 28 pixels get a border of two zeros, so that they are 32 wide (as the
    classic code pads its first convolution; it takes them with one channel, we with three equal
    ones).
    """
    border = 2 if resolution == 28 else 0
    depth = max(3, round(math.log2((resolution + 2 * border) / 4)))
    config = ConvNetConfig(width=128, depth=depth, image_size=resolution, border=border)
    return BackboneSource(f"convnet-{depth}", config, None, False, None, False)


_VICO = "github.com/VICO-UoE/DatasetCondensation, utils.py at 53f63a6"
CLASSIC = NamedRecipe(
    name="classic",
    source=f"evaluate_synset of {_VICO}, with DSA (Zhao and Bilen, arXiv 2102.08259 and "
    "2110.04181)",
    network=CONVNET,
    labels="hard",
    optimizer="SGD",
    lr=0.01,
    weight_decay=5e-4,
    momentum=0.9,
    # The code's loop runs one epoch more than it is told, and a new optimiser begins after epoch
    # E // 2 + 1, counted from 0.
    schedule=Schedule("steps", ((1, 2),), late=2, factor=0.1, restarts=True, extra=1),
    epochs=1000,
    batches=((10**9, 256),),
    temperature=1.0,
    augmentation="dsa",
    cutmix=0.0,
    crop_min=None,
    reported="the accuracy after the last epoch, mean over 5 sets and 20 networks for each",
    departs=("batches of an epoch differ by at most one image, where the code's last is smaller",),
    field_colours=True,
)
IDC = NamedRecipe(
    name="idc",
    source="train.py, argument.py and augment.py of "
    "github.com/snu-mllab/Efficient-Dataset-Condensation at 086273c (Kim et al., arXiv 2205.14959)",
    network=CONVNET,
    labels="hard",
    optimizer="SGD",
    lr=0.01,
    weight_decay=5e-4,
    momentum=0.9,
    schedule=Schedule("steps", ((2, 3), (5, 6)), factor=0.2),
    epochs=1000,
    batches=((10**9, 64),),
    temperature=1.0,
    augmentation="dsa idc",
    cutmix=0.5,
    crop_min=None,
    reported="the best of four tests during training, mean over networks",
    departs=("the accuracy after the last epoch is reported, never the best on the test images",),
    field_colours=True,
)
WMDD = NamedRecipe(
    name="wmdd",
    source="Liu et al., arXiv 2311.18531v3, and run.sh of github.com/Liu-Hy/WMDD at 16d3447",
    network="resnet18",
    labels="teacher",
    optimizer="AdamW",
    lr=0.001,
    weight_decay=0.01,
    momentum=None,
    schedule=Schedule("cosine"),
    epochs=300,
    batches=((10**9, 100),),
    temperature=20.0,
    augmentation="crops",
    cutmix=1.0,
    crop_min=0.08,
    weights=True,
    reported="the accuracy after the last epoch, mean over students",
    departs=(
        "the teacher labels each view as it is drawn; the code stores one label of each view and "
        "epoch first, rounded to 16 bits",
        "the images keep the working size; the paper's are 64 or 224 pixels",
        "the cosine ends at zero; the training script is not among the files of that commit",
    ),
)
EDC = NamedRecipe(
    name="edc",
    source="Shao et al., arXiv 2404.13733, and Branch_CIFAR_10/train of github.com/shaoshitong/EDC "
    "at baf6a04",
    network="resnet18",
    labels="teacher",
    optimizer="AdamW",
    lr=0.001,
    weight_decay=0.01,
    momentum=None,
    schedule=Schedule("half cosine"),
    epochs=1000,
    batches=((10, 10), (100, 50), (10**9, 100)),
    temperature=1.0,
    augmentation="crops",
    cutmix=1.0,
    crop_min=0.08,
    loss="squared logits",
    class_weight=0.025,
    average=0.99,
    reported="the best of the tests of the last 200 epochs, of the averaged weights",
    departs=(
        "one teacher labels in place of eight",
        "no RandAugment before the crops",
        "the accuracy after the last epoch is reported, never the best on the test images",
        "the smoothed cosine of the paper, where the script for CIFAR-10 at one image per class "
        "has three steps",
    ),
)
NAMED: Mapping[str, NamedRecipe] = MappingProxyType(
    {recipe.name: recipe for recipe in (CLASSIC, IDC, WMDD, EDC)}
)
