"""The datasets of the field's tables: their normalisation there, and their test images."""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class FieldDataset:
    """A dataset for which papers report accuracies.

    Attributes:
        name: As papers write it.
        ids: Last parts of Hub ids and names of folders that mean it, in lower case.
        classes: Their number.
        test_images: Images of the split on which papers test.
        mean: Of each channel, pixels in [0, 1], as the classic code subtracts it (utils.py of
            github.com/VICO-UoE/DatasetCondensation).
        std: What the classic code divides by, which for CIFAR-10 is not the deviation of all its
            pixels, but nearer to the mean deviation of single images.
        flips: Whether the field flips its images.
    """

    name: str
    ids: tuple[str, ...]
    classes: int
    test_images: int
    mean: Colour
    std: Colour
    flips: bool = True


FIELD_DATASETS = (
    FieldDataset(
        "CIFAR-10", ("cifar10", "cifar-10", "cifar_10"), 10, 10_000,
        (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010),
    ),
    FieldDataset(
        "CIFAR-100", ("cifar100", "cifar-100", "cifar_100"), 100, 10_000,
        (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762),
    ),
    FieldDataset(
        "Fashion-MNIST", ("fashion_mnist", "fashion-mnist", "fashionmnist"), 10, 10_000,
        (0.2861,) * 3, (0.3530,) * 3,
    ),
    FieldDataset("MNIST", ("mnist",), 10, 10_000, (0.1307,) * 3, (0.3081,) * 3, flips=False),
    FieldDataset(
        "SVHN", ("svhn",), 10, 26_032,
        (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970), flips=False,
    ),
    FieldDataset(
        "Tiny ImageNet", ("tiny-imagenet", "tiny_imagenet", "tinyimagenet", "tiny-imagenet-200"),
        200, 10_000, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225),
    ),
)  # fmt: skip


def field_dataset(dataset_id: str) -> FieldDataset | None:
    """The dataset that a Hub id or the name of a folder means: ``uoft-cs/cifar10`` is CIFAR-10."""
    last = dataset_id.rstrip("/").rpartition("/")[2].lower()
    return next((dataset for dataset in FIELD_DATASETS if last in dataset.ids), None)
