"""The loss is the formula of :mod:`wdistill.synthesis.optimise`, term by term."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from helpers.synthesis import (
    CLASSES,
    CPU,
    SIZE,
    WHOLE,
    aim_of,
    rows_network,
    streams,
    synthesise,
    uniform,
)
from torch import Tensor

from wdistill.core.seeds import stream
from wdistill.networks.features import Activations
from wdistill.synthesis.gradient import feature_losses, moment_loss
from wdistill.synthesis.optimise import ClassTarget, _group
from wdistill.synthesis.spaces import Terms


def feature_loss(features: Tensor, atoms: Tensor, weights: Tensor) -> Tensor:
    """The features term of as many classes as ``weights`` has rows, per dimension."""
    parts = zip(atoms.split(weights.shape[1]), weights, strict=True)
    aims = [aim_of(label, own, b) for label, (own, b) in enumerate(parts)]
    return feature_losses(features, _group(aims, 0, CPU))[0]


def activations(means: Sequence[Tensor], variances: Sequence[Tensor]) -> Activations:
    count = len(means[0])
    empty = torch.zeros(count, CLASSES, dtype=means[0].dtype)
    return Activations(empty, empty, tuple(means), tuple(variances))


def layer_inputs(images: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Inputs of two norm layers, (images, positions, channels)."""
    shapes = ((30, 4), (7, 9))
    return [
        torch.randn(images, *shape, generator=stream(1, "inputs", i), dtype=dtype)
        * (1 + torch.arange(images, dtype=dtype).view(-1, 1, 1))
        + torch.arange(shape[1], dtype=dtype)
        for i, shape in enumerate(shapes)
    ]


def activations_of(inputs: Sequence[Tensor]) -> Activations:
    return activations([x.mean(1) for x in inputs], [x.var(1, unbiased=False) for x in inputs])


def weighted(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance per channel of all values of all images; an image's share is its weight."""
    share = (weights.double() / x.shape[1]).view(-1, 1, 1)
    mean = (share * x).sum((0, 1))
    return mean, (share * (x - mean) ** 2).sum((0, 1))


WEIGHTS = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)


def aim_at(label: int, means: Sequence[Tensor], variances: Sequence[Tensor]) -> ClassTarget:
    atoms = torch.zeros(len(WEIGHTS), 1)
    return aim_of(label, atoms, WEIGHTS, tuple(means), tuple(variances))


def test_moment_loss_vanishes_where_the_weighted_statistics_agree() -> None:
    inputs = layer_inputs(3)
    own = [weighted(x, WEIGHTS) for x in inputs]
    group = _group([aim_at(0, [m for m, _ in own], [v for _, v in own])], 0, CPU)
    assert float(moment_loss(activations_of(inputs), group)) < 1e-5
    equal = [weighted(x, torch.full((3,), 1 / 3)) for x in inputs]
    group = _group([aim_at(0, [m for m, _ in equal], [v for _, v in equal])], 0, CPU)
    assert float(moment_loss(activations_of(inputs), group)) > 0.1


def test_moment_loss_is_the_formula() -> None:
    """Sum over classes, mean over layers, norms divided by the root of the channels."""
    inputs = layer_inputs(6)  # two classes of three images
    generator = stream(2, "targets")
    aims, expected = [], 0.0
    for label in range(2):
        own = [weighted(x[3 * label : 3 * label + 3], WEIGHTS) for x in inputs]
        real = [
            tuple(torch.randn(len(m), generator=generator, dtype=torch.float64) for _ in range(2))
            for m, _ in own
        ]
        aims.append(aim_at(label, [m for m, _ in real], [v for _, v in real]))
        for (mean, variance), (real_mean, real_variance) in zip(own, real, strict=True):
            distance = (mean - real_mean).norm() + (variance - real_variance).norm()
            expected += float(distance) / len(mean) ** 0.5 / len(inputs)
    assert float(moment_loss(activations_of(inputs), _group(aims, 0, CPU))) == pytest.approx(
        expected, rel=1e-6
    )


def test_an_image_of_weight_b_equals_two_of_half_its_weight() -> None:
    inputs = layer_inputs(3)
    twice = [torch.cat([x, x[2:]]) for x in inputs]
    halves = torch.tensor([0.1, 0.2, 0.35, 0.35], dtype=torch.float64)
    real = [torch.ones(x.shape[2], dtype=torch.float64) for x in inputs]
    once = aim_at(0, real, real)
    split = aim_of(0, torch.zeros(4, 1), halves, tuple(real), tuple(real))
    one, two = (
        float(moment_loss(activations_of(x), _group([aim], 0, CPU)))
        for x, aim in ((inputs, once), (twice, split))
    )
    assert one == pytest.approx(two, rel=1e-9)
    features, atoms = inputs[0][:, 0], inputs[0][:, 1]
    rows = torch.tensor([0, 1, 2, 2])
    assert float(feature_loss(features, atoms, WEIGHTS[None])) == pytest.approx(
        float(feature_loss(features[rows], atoms[rows], halves[None]))
    )


def test_moment_loss_of_an_image_counts_by_its_weight() -> None:
    """An image of no weight gets no gradient from the statistics."""
    inputs = [x.requires_grad_() for x in layer_inputs(3)]
    real = tuple(torch.ones(x.shape[2], dtype=torch.float64) for x in inputs)
    weights = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    aim = aim_of(0, torch.zeros(3, 1), weights, real, real)
    moment_loss(activations_of(inputs), _group([aim], 0, CPU)).backward()
    for x in inputs:
        assert (x.grad[2] == 0).all()
        assert (x.grad[:2].abs().sum((1, 2)) > 0).all()


def test_moment_loss_has_a_finite_gradient_at_its_minimum() -> None:
    inputs = [x.requires_grad_() for x in layer_inputs(3)]
    own = [weighted(x.detach(), WEIGHTS) for x in inputs]
    group = _group([aim_at(0, [m for m, _ in own], [v for _, v in own])], 0, CPU)
    moment_loss(activations_of(inputs), group).backward()
    assert all(bool(torch.isfinite(x.grad).all()) for x in inputs)


def test_feature_loss_is_the_formula() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 0.0], [2.0, 2.0], [5.0, 1.0]])
    atoms = torch.tensor([[0.0, 0.0], [0.0, 4.0], [2.0, 2.0], [5.0, 3.0]])
    weights = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    expected = 0.25 * 1 / 2 + 0.75 * 16 / 2 + 0 + 0.5 * 4 / 2
    assert float(feature_loss(features, atoms, weights)) == pytest.approx(expected)


def test_statistics_pull_the_images_of_a_class() -> None:
    """Mean and variance of the pixels, which this network normalises, become the class's."""
    network = rows_network()
    mean, variance = torch.tensor([0.3, 0.5, 0.6]), torch.tensor([0.02, 0.05, 0.1])
    start = uniform(1, 4, 3, SIZE, SIZE, key="start")
    atoms = network(start[0]).features.detach()
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    aim = aim_of(0, atoms, weights, (mean,), (variance,))
    config, terms = replace(WHOLE, iterations=300, lr=0.02), Terms(1.0, moments=1000.0)
    pixels = synthesise(network, [aim], start, config, streams([0]), terms)[0].double() / 255
    m, v = weighted(pixels.flatten(2).transpose(1, 2), weights)
    torch.testing.assert_close(m.float(), mean, atol=0.005, rtol=0)
    torch.testing.assert_close(v.float(), variance, atol=0.005, rtol=0)


def test_all_layers_at_once_have_the_gradient_of_one_after_the_other() -> None:
    """In float32, to a millionth of its length; the sum over layers is written out here."""
    inputs = layer_inputs(6)
    statistics = [weighted(x[:3], WEIGHTS) for x in inputs]
    own = [(mean + 0.5, variance + 2) for mean, variance in statistics]  # not at the minimum
    per_image = activations_of(inputs)
    real = [[value.float() for value in values] for values in zip(*own, strict=True)]
    atoms = torch.zeros(len(WEIGHTS), 1)
    aims = [aim_of(label, atoms, WEIGHTS.float(), *map(tuple, real)) for label in range(2)]
    group = _group(aims, 0, CPU)

    def one_by_one(out: Activations) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for m, v, (real_mean, real_variance) in zip(out.means, out.variances, own, strict=True):
            for images in (slice(0, 3), slice(3, 6)):
                mean = WEIGHTS @ m[images]
                variance = WEIGHTS @ (v[images] + (m[images] - mean) ** 2)
                norms = [
                    ((a - b).square().sum() + 1e-12).sqrt()
                    for a, b in ((mean, real_mean), (variance, real_variance))
                ]
                total = total + sum(norms) / m.shape[1] ** 0.5
        return total / len(own)

    gradients = []
    for loss, dtype in (
        (one_by_one, torch.float64),
        (lambda out: moment_loss(out, group), torch.float32),
    ):
        leaves = [
            [value.to(dtype, copy=True).requires_grad_() for value in values]
            for values in (per_image.means, per_image.variances)
        ]
        loss(activations(*leaves)).backward()
        every = [value for values in leaves for value in values]
        gradients.append(torch.cat([value.grad.double().flatten() for value in every]))
    expected, found = gradients
    assert float((found - expected).norm() / expected.norm()) < 1e-6
