"""Soft labels are the teacher's mean opinion; students learn from them as the formula says."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from helpers.labels import CPU, PREPROCESSING, SIZE, normal, pictures
from torch import Tensor, nn
from torch.nn import functional as F

from wdistill.config import RelabelConfig, StudentConfig
from wdistill.core.seeds import stream
from wdistill.data.augment import apply_views, random_views
from wdistill.errors import NumericalError
from wdistill.evaluation.training import (
    Training,
    TrainingSet,
    recipe_for,
    student_loss,
    train_student,
)
from wdistill.labels import soft as relabel
from wdistill.labels.soft import soft_labels, soften
from wdistill.networks.features import Activations, FeatureNetwork

CLASSES = 4
COLOURS = torch.tensor([[220, 40, 40], [40, 220, 40], [40, 40, 220], [220, 220, 40]])


class Rows(nn.Module):
    """Logits from the mean of each row and channel: what a flip leaves as it is."""

    config = SimpleNamespace(num_labels=CLASSES)

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * SIZE, CLASSES)

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(x.mean(3).flatten(1)))


def rows_model(seed: int = 0) -> Rows:
    torch.manual_seed(seed)
    return Rows()


def teacher() -> FeatureNetwork:
    return FeatureNetwork(rows_model(), PREPROCESSING, CPU)


# --- relabel ------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [1, 3, 16])
@pytest.mark.parametrize("crop_min", [0.08, 1.0])
def test_soft_labels_are_distributions(views: int, crop_min: float) -> None:
    labels = soft_labels(teacher(), pictures(), RelabelConfig(views, crop_min), stream(0, "x"))
    assert labels.shape == (6, CLASSES)
    assert labels.dtype == torch.float32
    assert (labels >= 0).all()
    torch.testing.assert_close(labels.sum(1), torch.ones(6))


@pytest.mark.parametrize("views", [1, 4])
def test_whole_views_give_the_softmax_of_the_logits(views: int) -> None:
    network = teacher()
    labels = soft_labels(network, pictures(), RelabelConfig(views, 1.0), stream(0, "x"))
    normalised = (pictures().float() / 255 - 0.5) / 0.25
    with torch.no_grad():
        expected = network.model(normalised).logits.softmax(1)
    torch.testing.assert_close(labels, expected, atol=1e-5, rtol=1e-4)


def test_logits_are_averaged_over_views_before_the_softmax() -> None:
    network, images = teacher(), pictures().float() / 255
    labels = soft_labels(network, pictures(), RelabelConfig(5, 0.2), stream(7, "x"))
    generator = stream(7, "x")
    with torch.no_grad():
        logits = torch.stack(
            [
                network.model((apply_views(images, random_views(6, 0.2, generator)) - 0.5) / 0.25)
                .logits
                for _ in range(5)
            ]
        )  # fmt: skip
    torch.testing.assert_close(labels, logits.mean(0).softmax(1), atol=1e-6, rtol=1e-5)
    assert (labels - logits.softmax(2).mean(0)).abs().max() > 1e-5


def test_many_images_are_labelled_a_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RelabelConfig(3, 0.2)
    whole = soft_labels(teacher(), pictures(), config, stream(1, "x"))
    monkeypatch.setattr(relabel, "BATCH", 4)
    network, sizes = teacher(), []
    network.model.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    parts = soft_labels(network, pictures(), config, stream(1, "x"))
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-5)
    assert sizes == [4, 2] * 3


def test_soft_labels_depend_on_their_stream_alone() -> None:
    config = RelabelConfig(2, 0.2)
    first = soft_labels(teacher(), pictures(), config, stream(1, "x"))
    torch.manual_seed(5)
    assert torch.equal(first, soft_labels(teacher(), pictures(), config, stream(1, "x")))
    assert not torch.equal(first, soft_labels(teacher(), pictures(), config, stream(2, "x")))


def test_a_teacher_that_is_not_finite_is_reported() -> None:
    network = teacher()
    network.model.head.weight.data[0, 0] = float("nan")
    with pytest.raises(NumericalError, match="not finite"):
        soft_labels(network, pictures(), RelabelConfig(), stream(0, "x"))


# --- temperature --------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_probabilities_at_one_temperature_hold_those_at_any(temperature: float) -> None:
    logits = 5 * normal(10, CLASSES)
    direct = (logits / temperature).softmax(1)
    torch.testing.assert_close(soften(logits.softmax(1), temperature), direct)


def test_single_precision_is_enough_for_a_sure_teacher() -> None:
    logits = torch.tensor([[0.0, -10.0, -40.0, -80.0]])
    direct = (logits / 20).softmax(1)
    torch.testing.assert_close(soften(logits.softmax(1), 20.0), direct, atol=1e-5, rtol=1e-4)


def test_hard_labels_can_be_softened() -> None:
    soft = soften(torch.eye(CLASSES), 20.0)
    assert torch.isfinite(soft).all()
    torch.testing.assert_close(soft.sum(1), torch.ones(CLASSES))
    assert torch.equal(soft.argmax(1), torch.arange(CLASSES))


# --- the loss -----------------------------------------------------------------------------------


def gradient(logits: Tensor, targets: Tensor, weights: Tensor, temperature: float) -> Tensor:
    logits = logits.clone().requires_grad_()
    student_loss(logits, targets, weights, temperature).backward()
    return logits.grad


@pytest.mark.parametrize("soft", [False, True])
def test_gradient_at_temperature_one_is_that_of_cross_entropy(soft: bool) -> None:
    logits, ones = normal(6, CLASSES, key="logits").requires_grad_(), torch.ones(6).double()
    hard = torch.arange(6) % CLASSES
    targets = normal(6, CLASSES).softmax(1) if soft else F.one_hot(hard, CLASSES).double()
    F.cross_entropy(logits, targets if soft else hard).backward()
    torch.testing.assert_close(gradient(logits.detach(), targets, ones, 1.0), logits.grad)


def test_loss_is_the_weighted_divergence() -> None:
    logits, targets = normal(5, CLASSES, key="logits"), normal(5, CLASSES).softmax(1)
    weights = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0], dtype=torch.float64)
    q = (logits / 3).softmax(1)
    expected = sum(
        float(w * (p * (p / q_).log()).sum()) for w, p, q_ in zip(weights, targets, q, strict=True)
    )
    assert float(student_loss(logits, targets, weights, 3.0)) == pytest.approx(expected / 5)
    expected_gradient = weights[:, None] * (q - targets) / 3 / 5
    torch.testing.assert_close(gradient(logits, targets, weights, 3.0), expected_gradient)


def test_the_loss_is_zero_where_the_student_agrees_and_positive_elsewhere() -> None:
    logits, ones = normal(5, CLASSES, key="logits"), torch.ones(5).double()
    targets = (logits / 20).softmax(1)
    assert float(student_loss(logits, targets, ones, 20.0)) == pytest.approx(0, abs=1e-12)
    assert float(student_loss(logits + 3, targets, ones, 20.0)) == pytest.approx(0, abs=1e-12)
    assert float(student_loss(2 * logits, targets, ones, 20.0)) > 1e-4
    assert gradient(logits, targets, ones, 20.0).abs().max() < 1e-9


def test_images_without_weight_give_no_gradient() -> None:
    logits, targets = normal(4, CLASSES, key="logits"), normal(4, CLASSES).softmax(1)
    weights = torch.tensor([1.0, 0.0, 2.0, 0.0], dtype=torch.float64)
    grad = gradient(logits, targets, weights, 20.0)
    assert (grad[[1, 3]] == 0).all()
    assert (grad[[0, 2]].abs().sum(1) > 0).all()


def test_a_weight_of_two_is_the_image_twice() -> None:
    logits, targets = normal(2, CLASSES, key="logits"), normal(2, CLASSES).softmax(1)
    weights, rows = torch.tensor([2.0, 1.0]).double(), torch.tensor([0, 0, 1])
    once = 2 * student_loss(logits, targets, weights, 4.0)
    twice = 3 * student_loss(logits[rows], targets[rows], torch.ones(3).double(), 4.0)
    torch.testing.assert_close(once, twice)


# --- training -----------------------------------------------------------------------------------


def coloured(per_class: int = 6, key: str = "train") -> tuple[Tensor, Tensor]:
    """Noisy pictures of one colour per class."""
    labels = torch.arange(CLASSES).repeat_interleave(per_class)
    shape = (len(labels), 3, SIZE, SIZE)
    noise = torch.randint(-35, 36, shape, generator=stream(0, key))
    return (COLOURS[labels, :, None, None] + noise).to(torch.uint8), labels


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        logits = model((images.float() / 255 - 0.5) / 0.25).logits
    return float((logits.argmax(1) == labels).float().mean())


def train(data: TrainingSet, seed: int = 0, **settings: float) -> nn.Module:
    config = StudentConfig(**{"epochs": 60, "lr": 0.02, "batch_size": 10, **settings})
    training = Training(recipe_for(config, len(data.weights)), seed, CPU)
    return train_student(rows_model(1), data, PREPROCESSING, training)


def training_set(soft: bool) -> TrainingSet:
    images, labels = coloured()
    targets = F.one_hot(labels, CLASSES).float()
    if soft:
        targets = (6 * targets).softmax(1)
    return TrainingSet(images, targets, torch.ones(len(labels)), soft)


@pytest.mark.parametrize("soft", [False, True])
def test_a_separable_set_is_learned(soft: bool) -> None:
    model = train(training_set(soft))
    assert accuracy(rows_model(1), *coloured()) < 0.8
    assert accuracy(model, *coloured()) == 1
    assert accuracy(model, *coloured(50, "test")) == 1
    assert not model.training


def test_a_student_of_soft_labels_recovers_the_teachers_logits() -> None:
    """Up to a constant. On plain colours, of which a crop shows all; CutMix leaves some blur."""
    images, _ = coloured()
    images = images.float().mean((2, 3), keepdim=True).round().to(torch.uint8)
    images = images.expand(-1, -1, SIZE, SIZE).contiguous()
    network = teacher()
    labels = soft_labels(network, images, RelabelConfig(4, 1.0), stream(0, "x"))
    data = TrainingSet(images, labels, torch.ones(len(labels)), soft=True)
    model = train(data, epochs=300, temperature=4.0, weight_decay=0.0)
    with torch.no_grad():
        ours = model((images.float() / 255 - 0.5) / 0.25).logits
        theirs = network(images.float() / 255).logits
    ours, theirs = ours - ours.mean(1, keepdim=True), theirs - theirs.mean(1, keepdim=True)
    assert float((ours - theirs).abs().max()) < 0.15 * float(theirs.abs().max())


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_sgd_learns_from_soft_labels_at_any_temperature(temperature: float) -> None:
    """Its steps follow the scale of the loss, which at T = 20 is a four hundredth."""
    data = training_set(True)
    config = StudentConfig(epochs=60, batch_size=10, lr=0.02, temperature=temperature)
    recipe = recipe_for(config, len(data.weights), optimizer="sgd")
    model = train_student(rows_model(1), data, PREPROCESSING, Training(recipe, 0, CPU))
    assert accuracy(model, *coloured()) == 1


def test_a_teacher_labels_what_the_student_sees() -> None:
    """Crops and mixtures that no stored label fits; the targets of the set play no role."""
    data = training_set(True)
    shown: list[Tensor] = []

    class Watched(FeatureNetwork):
        def __call__(self, pixels: Tensor, moments: bool = True) -> Activations:
            shown.append(pixels)
            return super().__call__(pixels, moments)

    network = Watched(rows_model(5), PREPROCESSING, CPU)
    wrong = data.targets.roll(1, dims=1)
    online = TrainingSet(data.images, wrong, data.weights, True, network)
    model = train(online, epochs=100, temperature=2.0, weight_decay=0.0)
    mixed = torch.cat(shown)
    assert len(mixed) == 100 * len(data.images)
    assert 0 <= float(mixed.min()) <= float(mixed.max()) <= 1
    with torch.no_grad():
        last = mixed[-len(data.images) :]
        ours = (model((last - 0.5) / 0.25).logits / 2).softmax(1)
        theirs = (network(last).logits / 2).softmax(1)
    assert float((ours - theirs).abs().max()) < 0.1


def test_every_step_is_told() -> None:
    steps: list[int] = []
    config = StudentConfig(epochs=3, batch_size=7)
    data = training_set(False)
    training = Training(recipe_for(config, len(data.images)), 0, CPU)
    train_student(rows_model(1), data, PREPROCESSING, training, lambda _: steps.append(1))
    assert len(steps) == config.budget(len(data.images))[0] == 3 * math.ceil(len(data.images) / 7)


def test_same_seed_same_student() -> None:
    first = train(training_set(True), epochs=3)
    torch.manual_seed(9)
    torch.rand(5)
    second, other = train(training_set(True), epochs=3), train(training_set(True), 1, epochs=3)
    assert torch.equal(first.head.weight, second.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_a_set_without_weight_teaches_nothing() -> None:
    data = training_set(False)
    silent = TrainingSet(data.images, data.targets, torch.zeros(len(data.images)), False)
    model = train(silent, epochs=3, weight_decay=0.0)
    assert torch.equal(model.head.weight, rows_model(1).head.weight)


def test_each_image_has_its_own_weight() -> None:
    """Wrong labels, as many as right ones, do no harm where their images have no weight."""
    data = training_set(False)
    images, targets = data.images.repeat(2, 1, 1, 1), data.targets.repeat(2, 1)
    targets[len(data.images) :] = data.targets.roll(1, dims=1)
    weights = torch.ones(len(images))
    weights[len(data.images) :] = 0
    assert accuracy(train(TrainingSet(images, targets, weights, False)), *coloured()) == 1
    wrong = TrainingSet(images, targets, 1 - weights, False)
    assert accuracy(train(wrong), *coloured()) == 0


def test_no_batch_has_a_single_image() -> None:
    """Nine images in batches of four: BatchNorm could not train on a last one of one image."""

    class Pooled(nn.Module):
        config = SimpleNamespace(num_labels=CLASSES)

        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.BatchNorm1d(3), nn.Linear(3, CLASSES)

        def forward(self, x: Tensor) -> SimpleNamespace:
            return SimpleNamespace(logits=self.head(self.norm(x.mean((2, 3)))))

    data = training_set(False)
    nine = TrainingSet(data.images[:9], data.targets[:9], data.weights[:9], False)
    config = StudentConfig(epochs=2, batch_size=4)
    model = train_student(Pooled(), nine, PREPROCESSING, Training(recipe_for(config, 9), 0, CPU))
    assert torch.isfinite(model.head.weight).all()


@pytest.mark.parametrize("where", ["targets", "weights"])
def test_a_loss_that_is_not_finite_is_reported(where: str) -> None:
    data = training_set(False)
    getattr(data, where)[0] = float("nan")
    with pytest.raises(NumericalError, match="not finite"):
        train(data, epochs=2)
