"""Named recipes are the protocols that they say they are."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from typing import Any, get_args

import pytest
import torch
from torch import nn

from wdistill.config import FIXED, EvaluateConfig, RecipeName, StudentConfig
from wdistill.errors import OptionError
from wdistill.evaluation.recipes.datasets import FIELD_DATASETS, field_dataset
from wdistill.evaluation.recipes.named import CLASSIC, EDC, IDC, NAMED, WMDD, field_convnet
from wdistill.networks.architectures import ConvNet


def classic_rates(epochs: int, images: int) -> list[float]:
    """The learning rate of each step, by the loop that the classic code describes."""
    rate, rates, after = 0.01, [], [epochs // 2 + 1]
    for epoch in range(epochs + 1):
        rates += [rate] * math.ceil(images / 256)
        if epoch in after:
            rate *= 0.1
    return rates


@pytest.mark.parametrize("epochs", [1000, 300, 101, 2])
@pytest.mark.parametrize("images", [10, 100, 500])
def test_classic_takes_the_steps_of_the_classic_code(epochs: int, images: int) -> None:
    recipe = CLASSIC.recipe(StudentConfig(epochs=epochs), images)
    rates = classic_rates(epochs, images)
    (drop,) = recipe.drops
    assert recipe.steps == len(rates)
    assert rates[:drop] == [0.01] * drop
    assert rates[drop:] == pytest.approx([0.001] * (len(rates) - drop))
    assert (recipe.batch_size, recipe.restarts) == (min(256, images), True)


def test_idc_falls_at_two_thirds_and_five_sixths_of_its_epochs() -> None:
    recipe = IDC.recipe(StudentConfig(), 100)  # two batches of 64 at most
    assert (recipe.steps, recipe.drops) == (2000, (2 * 666, 2 * 833))
    assert (recipe.factor, recipe.cutmix, recipe.restarts) == (0.2, 0.5, False)


@pytest.mark.parametrize(("images", "size"), [(10, 10), (100, 50), (500, 100)])
def test_edc_takes_batches_that_are_small_against_the_set(images: int, size: int) -> None:
    recipe = EDC.recipe(StudentConfig(), images)
    assert recipe.batch_size == size
    assert recipe.steps == 1000 * math.ceil(images / size)


def test_wmdd_is_the_official_validation() -> None:
    recipe = WMDD.recipe(StudentConfig(), 100)
    assert (recipe.epochs, recipe.steps, recipe.temperature) == (300, 300, 20.0)
    assert (recipe.optimizer, recipe.lr, recipe.schedule) == ("AdamW", 0.001, "cosine")
    assert (WMDD.labels, WMDD.network) == ("teacher", "resnet18")


def test_every_recipe_but_ours_is_described_with_its_source() -> None:
    assert {"default", *NAMED} == set(get_args(RecipeName))
    for recipe in NAMED.values():
        assert "arXiv" in recipe.source
        assert recipe.reported
        with pytest.raises(FrozenInstanceError):
            recipe.epochs = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        NAMED["ours"] = CLASSIC  # type: ignore[index]


def test_a_change_is_recorded_and_the_published_number_is_none() -> None:
    assert CLASSIC.recipe(StudentConfig(), 100).changed == ()
    assert CLASSIC.recipe(StudentConfig(epochs=1000), 100).changed == ()
    (change,) = CLASSIC.recipe(StudentConfig(epochs=300), 100).changed
    assert change == "300 epochs in place of 1,000"
    shorter = CLASSIC.recipe(StudentConfig(steps=40), 100)
    assert shorter.changed == ("40 steps in place of 1,001",)
    assert (shorter.steps, shorter.drops) == (40, (22,))


@pytest.mark.parametrize("name", FIXED)
def test_what_a_recipe_fixes_cannot_be_changed(name: str) -> None:
    value: Any = {"batch_size": 7, "optimizers": ("sgd",)}.get(name, 0.5)
    changed = StudentConfig(**{name: value})
    EvaluateConfig("set", evaluate=changed)
    with pytest.raises(OptionError, match=f"`evaluate.{name}` cannot be changed in recipe classic"):
        EvaluateConfig("set", recipe="classic", evaluate=changed)
    EvaluateConfig("set", recipe="classic", evaluate=StudentConfig(epochs=3, seeds=5))


@pytest.mark.parametrize(("side", "depth"), [(28, 3), (32, 3), (64, 4), (128, 5)])
def test_the_convnet_of_the_field_leaves_maps_of_four_by_four(side: int, depth: int) -> None:
    source = field_convnet(side)
    assert source.name == f"convnet-{depth}"
    network = ConvNet(source.config)  # type: ignore[arg-type]
    assert network.blocks(torch.zeros(1, 3, side, side)).shape == (1, 128, 4, 4)
    assert network.classifier.in_features == 128 * 16


def test_the_border_is_the_wider_padding_of_the_first_convolution() -> None:
    """As the classic code has it for images of 28 pixels: padding 3."""
    network = ConvNet(field_convnet(28).config)  # type: ignore[arg-type]
    first = network.blocks[0]
    assert isinstance(first, nn.Conv2d)
    picture = torch.randn(2, 3, 28, 28)
    wanted = nn.functional.conv2d(picture, first.weight, first.bias, padding=3)
    assert torch.equal(first(picture), wanted)
    assert wanted.shape[-1] == 32


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("uoft-cs/cifar10", "CIFAR-10"),
        ("cifar10", "CIFAR-10"),
        ("/data/CIFAR-10/", "CIFAR-10"),
        ("zalando-datasets/fashion_mnist", "Fashion-MNIST"),
        ("ylecun/mnist", "MNIST"),
        ("fashion-mnist-subset", None),
        ("my-cifar10-copy", None),
    ],
)
def test_a_dataset_is_known_by_the_last_part_of_its_name(name: str, found: str | None) -> None:
    dataset = field_dataset(name)
    assert (dataset and dataset.name) == found


def test_digits_are_not_flipped() -> None:
    unflipped = {dataset.name for dataset in FIELD_DATASETS if not dataset.flips}
    assert unflipped == {"MNIST", "SVHN"}
    recipe = CLASSIC.recipe(StudentConfig(), 10, field_dataset("mnist"))
    assert not recipe.flips
