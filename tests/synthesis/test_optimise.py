"""Pixels move to where the targets are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers.synthesis import (
    CPU,
    SIZE,
    WHOLE,
    Rows,
    aim_of,
    network_of,
    pixels_themselves,
    resnet,
    rows_network,
    space_of,
    streams,
    synthesise,
    target,
    uniform,
)
from torch import Tensor, nn

from wdistill.config import SynthesisConfig
from wdistill.core.seeds import stream
from wdistill.data.augment import apply_views, random_views
from wdistill.data.content.coding import Coding
from wdistill.data.pixels import to_uint8
from wdistill.errors import NumericalError
from wdistill.networks.features import FeatureNetwork
from wdistill.synthesis.gradient import feature_losses, moment_loss, pixel_gradient
from wdistill.synthesis.optimise import TERMS, ClassTarget, DistilledUnit, Objective, _group
from wdistill.synthesis.optimise import synthesise as synthesise_in
from wdistill.synthesis.spaces import FeatureSpace, SpaceTarget, Terms

# --- optimisation -------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.1, 0.9)])
def test_features_reach_atoms_that_images_can_reach(weights: tuple[float, ...]) -> None:
    """Also those of small weight."""
    network = rows_network()
    atoms = 0.1 + 0.8 * uniform(2, 24, key="atoms")
    aim = aim_of(0, atoms, torch.tensor(weights))
    start = uniform(1, 2, 3, SIZE, SIZE, key="start")
    pixels = synthesise(network, [aim], start, WHOLE, streams([0]))
    features = network(pixels[0].float() / 255).features
    torch.testing.assert_close(features, atoms, atol=0.005, rtol=0)
    assert float((network(start[0]).features - atoms).abs().max()) > 0.2


class Columns(Rows):
    """Its features are the mean of each column and channel, which a flip would turn around."""

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(self.norm(x).mean(2).flatten(1)))


def test_images_need_not_look_right_when_flipped() -> None:
    """The atom is dark on the left and bright on the right; flips would leave it grey."""
    torch.manual_seed(0)
    network = network_of(Columns())
    atoms = torch.linspace(0.1, 0.9, SIZE).repeat(3)[None]
    aim = aim_of(0, atoms, torch.ones(1))
    start = torch.full((1, 1, 3, SIZE, SIZE), 0.5)
    pixels = synthesise(network, [aim], start, WHOLE, streams([0]))
    features = network(pixels[0].float() / 255).features
    torch.testing.assert_close(features, atoms, atol=0.005, rtol=0)


@pytest.mark.parametrize(
    ("coding", "grey", "decoded"),
    [
        (Coding("webp", 30), False, 10),
        (Coding("webp", 30), True, 0),
        (Coding("webp"), False, 0),
        (Coding(), False, 0),
    ],
)
def test_the_later_half_of_the_steps_sees_what_a_reader_gets(
    coding: Coding, grey: bool, decoded: int
) -> None:
    """What is read has whole levels; what Adam moves has not. Grey images are coded afterwards."""
    whole: list[bool] = []

    class Watched(Rows):
        def forward(self, x: Tensor) -> SimpleNamespace:
            levels = 255 * x.detach()
            whole.append(bool((levels - levels.round()).abs().max() < 1e-3))
            return super().forward(x)

    torch.manual_seed(0)
    network = network_of(Watched())
    aim = aim_of(0, 0.1 + 0.8 * uniform(2, 24, key="atoms"), torch.full((2,), 0.5))
    aim = replace(aim, grey=grey)
    start = uniform(1, 2, 3, SIZE, SIZE, key="start")
    config = replace(WHOLE, iterations=20)
    objective = Objective([space_of(network)], pixels_themselves(SIZE), config, coding=coding)
    result = synthesise_in(objective, [aim], start, streams([0]))
    assert whole == [False] * (20 - decoded) + [True] * decoded
    plain = synthesise_in(replace(objective, coding=Coding()), [aim], start, streams([0]))
    assert torch.equal(result.middle, plain.middle)
    assert torch.equal(result.pixels, plain.pixels) == (decoded == 0)


def test_atoms_out_of_reach_end_at_the_border() -> None:
    """Pixels cannot be brighter than white nor darker than black."""
    atoms = torch.cat([torch.full((1, 24), 3.0), torch.full((1, 24), -3.0)])
    aim = aim_of(0, atoms, torch.tensor([0.5, 0.5]))
    start = uniform(1, 2, 3, SIZE, SIZE, key="start")
    pixels = synthesise(rows_network(), [aim], start, WHOLE, streams([0]))
    assert pixels.dtype == torch.uint8
    assert pixels.shape == start.shape
    assert (pixels[0, 0] == 255).all()
    assert (pixels[0, 1] == 0).all()


@pytest.mark.parametrize("crop_min", [0.4, 1.0])
def test_the_whole_loss_decreases(crop_min: float) -> None:
    """Its expectation over views that were not trained on."""
    network = resnet()
    # One bright class and one dark one, so that their statistics are not those of the start.
    images = uniform(2, 12, 3, 16, 16, key="images")
    images = torch.stack([images[0] ** 0.5, images[1] ** 2])
    targets = [target(network, label, images[label], 3) for label in range(2)]
    start = uniform(2, 3, 3, 16, 16, key="start")
    config = SynthesisConfig(iterations=100, crop_min=crop_min)
    terms = Terms(1.0, moments=10.0)
    pixels = synthesise(network, targets, start, config, streams([0, 1]), terms)
    group = _group(targets, 0, CPU)

    def losses(x: Tensor) -> tuple[float, float]:
        generator = stream(1, "fresh views")
        views = [random_views(6, crop_min, generator) for _ in range(20)]
        outs = [network(apply_views(x.flatten(0, 1), view)) for view in views]
        feature = [feature_losses(out.features, group)[0] for out in outs]
        return float(sum(feature)) / 20, float(sum(moment_loss(out, group) for out in outs)) / 20

    before, after = losses(start), losses(pixels.float() / 255)
    assert after[0] < 0.8 * before[0]
    assert after[1] < 0.8 * before[1]


def test_cross_entropy_raises_the_probability_of_the_class() -> None:
    network = rows_network()
    start = uniform(2, 2, 3, SIZE, SIZE, key="start")
    # The atoms are where the images already are: only the cross-entropy can move them.
    targets = [
        aim_of(label, network(start[i]).features.detach(), torch.tensor([0.5, 0.5]))
        for i, label in enumerate((3, 1))
    ]
    config, terms = replace(WHOLE, iterations=50), Terms(1.0, entropy=1.0)
    pixels = synthesise(network, targets, start, config, streams([3, 1]), terms)
    for i, label in enumerate((3, 1)):
        before, after = (
            network(x).logits.softmax(1)[:, label] for x in (start[i], pixels[i].float() / 255)
        )
        assert (after > before + 0.02).all()


def test_no_iterations_give_the_start() -> None:
    start = torch.arange(2 * 3 * SIZE * SIZE).remainder(256).view(1, 2, 3, SIZE, SIZE)
    aim = aim_of(0, torch.zeros(2, 24), torch.tensor([0.5, 0.5]))
    config = replace(WHOLE, iterations=0)
    pixels = synthesise(rows_network(), [aim], start.float() / 255, config, streams([0]))
    assert torch.equal(pixels, start.to(torch.uint8))


def test_the_start_is_not_changed_in_place() -> None:
    start = uniform(1, 2, 3, SIZE, SIZE, key="start")
    before = start.clone()
    aim = aim_of(0, torch.zeros(2, 24), torch.tensor([0.5, 0.5]))
    synthesise(rows_network(), [aim], start, replace(WHOLE, iterations=3), streams([0]))
    assert torch.equal(start, before)


def test_each_step_reports_its_images() -> None:
    steps: list[int] = []
    aims = [aim_of(c, torch.zeros(2, 24), torch.tensor([0.5, 0.5])) for c in (0, 1)]
    start = uniform(2, 2, 3, SIZE, SIZE, key="start")
    config = replace(WHOLE, iterations=7)
    synthesise(rows_network(), aims, start, config, streams([0, 1]), on_step=steps.append)
    assert steps == [4] * 7


# --- reproducibility ----------------------------------------------------------------------------


def run(labels: Sequence[int], seed: int = 0, iterations: int = 15) -> dict[int, Tensor]:
    network = resnet()
    aims, starts = [], []
    for label in labels:
        aims.append(target(network, label, uniform(6, 3, 16, 16, key=f"class {label}"), 2))
        starts.append(uniform(2, 3, 16, 16, key=f"start {label}"))
    config, terms = SynthesisConfig(iterations=iterations), Terms(1.0, moments=1.0)
    pixels = synthesise(network, aims, torch.stack(starts), config, streams(labels, seed), terms)
    return dict(zip(labels, pixels, strict=True))


def test_same_seed_same_pixels() -> None:
    first = run([0, 1])
    torch.manual_seed(99)
    second, other = run([0, 1]), run([0, 1], seed=1)
    for label in (0, 1):
        assert torch.equal(first[label], second[label])
        assert not torch.equal(first[label], other[label])


def test_a_class_does_not_see_the_others_of_its_group() -> None:
    alone, first, last = run([2]), run([2, 0, 1]), run([3, 4, 2])
    for other in (first, last):
        difference = (alone[2].int() - other[2].int()).abs()
        assert difference.max() <= 1  # rounding: sums over batches of another size
        assert (difference == 0).float().mean() > 0.99


# --- several spaces -----------------------------------------------------------------------------


def brightness(channel: int) -> FeatureNetwork:
    """A space whose only feature is the mean of one channel."""

    class Mean(nn.Module):
        config = SimpleNamespace(num_labels=2)

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(1, 2)

        def forward(self, x: Tensor) -> SimpleNamespace:
            return SimpleNamespace(logits=self.head(x[:, channel].mean((1, 2))[:, None]))

    return network_of(Mean())


def several(values: Sequence[Sequence[float]], **terms: float) -> DistilledUnit:
    """Two images; in the space of channel k their atoms are values[k]."""
    spaces = [FeatureSpace(str(k), brightness(k), Terms(**terms), "") for k in range(len(values))]
    targets = tuple(SpaceTarget(torch.tensor(v)[:, None], 1.0) for v in values)
    aim = ClassTarget(0, torch.tensor([0.5, 0.5]), targets)
    start = torch.full((1, 2, 3, SIZE, SIZE), 0.5)
    config = replace(WHOLE, space_weight=1.0)
    return synthesise_in(
        Objective(spaces, pixels_themselves(SIZE), config), [aim], start, streams([0])
    )


def test_every_space_is_reached() -> None:
    """The teacher's at every step, those of the pool in turn."""
    values = [[0.2, 0.8], [0.7, 0.3], [0.9, 0.1]]
    pixels = several(values, features=1.0).pixels.float() / 255
    torch.testing.assert_close(pixels.mean((2, 3)), torch.tensor(values).T, atol=0.01, rtol=0)


def test_the_mean_term_binds_the_mean_alone() -> None:
    pixels = several([[0.1, 0.5]], features=0.0, mean=1.0).pixels.float() / 255
    means = pixels[:, 0].mean((1, 2))
    assert float(means.mean()) == pytest.approx(0.3, abs=0.01)
    assert float(means[0]) == pytest.approx(float(means[1]), abs=0.01)


@pytest.mark.parametrize("share", [0.0, 0.5, 2.0])
def test_the_pool_pulls_at_each_image_by_its_share_of_the_teachers_pull(share: float) -> None:
    """Whatever the unit of its features, and however far its atoms."""
    spaces = [FeatureSpace(str(k), brightness(k), Terms(1.0), "") for k in range(2)]
    far = torch.tensor([[0.7], [0.9]]), torch.tensor([[50.0], [0.6]])
    aims = [ClassTarget(0, torch.tensor([0.3, 0.7]), tuple(SpaceTarget(a, 1.0) for a in far))]
    pixels = torch.full((2, 3, SIZE, SIZE), 0.5)
    groups = [_group(aims, k, CPU) for k in range(2)]
    views = random_views(2, 1.0, stream(0, "views"))
    active = list(zip(spaces, groups, strict=True))
    gradient, _ = pixel_gradient(active, pixels, views, share, None)
    length = gradient.flatten(2).norm(dim=2)  # the spaces see one channel each
    assert (gradient[:, :2].sum((2, 3)) <= 0).all()
    torch.testing.assert_close(length[:, 1], share * length[:, 0])
    assert (length[:, 0] > 0).all()


def test_feature_losses_are_in_units_of_the_class_variance() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [4.0, 0.0]])
    weights = torch.tensor([0.25, 0.75])
    aims = [
        ClassTarget(label, weights, (SpaceTarget(torch.zeros(2, 2), variance),))
        for label, variance in enumerate((2.0, 5.0))
    ]
    single, mean = feature_losses(features, _group(aims, 0, CPU))
    assert float(single) == pytest.approx((0.25 + 0.75 * 4) / 2 + (0.25 * 18 + 0.75 * 16) / 5)
    assert float(mean) == pytest.approx((0.25**2 + 1.5**2) / 2 + (3.75**2 + 0.75**2) / 5)


def test_the_trace_shows_the_terms_falling() -> None:
    trace = several([[0.2, 0.8], [0.7, 0.3]], features=1.0).trace
    assert trace[:, 0].tolist() == [*range(0, 200, 25), 199]
    for first in (1, 1 + len(TERMS)):  # the teacher's features term, then the pool's
        assert float(trace[0, first]) > 0.01
        assert float(trace[-1, first]) < 0.001


def test_the_middle_lies_between_start_and_end() -> None:
    done = several([[0.1, 0.9]], features=1.0)
    start, middle, end = 0.5, *(x[0, 0].float().mean() / 255 for x in (done.middle, done.pixels))
    assert end < middle < start or abs(middle - end) < 0.01
    assert middle < start - 0.05


@pytest.mark.parametrize("grey", [False, True])
def test_grey_classes_stay_grey(grey: bool) -> None:
    network = rows_network()
    atoms = 0.1 + 0.8 * uniform(2, 24, key="atoms")
    aims = [replace(aim_of(0, atoms, torch.tensor([0.5, 0.5])), grey=grey)]
    start = uniform(1, 2, 1, SIZE, SIZE, key="start").expand(-1, -1, 3, -1, -1)
    pixels = synthesise(network, aims, start, WHOLE, streams([0]))
    assert bool((pixels[:, :, :1] == pixels).all()) == grey
    assert not torch.equal(pixels, to_uint8(start))


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("iterations", [1, 3, 30])
def test_a_network_that_is_not_finite_is_reported(iterations: int) -> None:
    network = resnet()
    aim = target(network, 0, uniform(6, 3, 16, 16, key="class"), 2)
    next(network.model.parameters()).data[0] = float("nan")
    start = uniform(1, 2, 3, 16, 16, key="start")
    config = SynthesisConfig(iterations=iterations)
    with pytest.raises(NumericalError, match="not finite"):
        synthesise(network, [aim], start, config, streams([0]), Terms(1.0, moments=10.0))


def test_views_come_from_the_class_stream() -> None:
    """One step of Adam from a constant gradient moves a pixel by the learning rate, against it."""
    network = rows_network()
    start = torch.full((1, 2, 3, SIZE, SIZE), 0.5)
    aim = aim_of(0, torch.ones(2, 24), torch.tensor([0.5, 0.5]))
    config = replace(WHOLE, crop_min=0.2, whole_share=0.5, iterations=1, lr=0.1)
    pixels = synthesise(network, [aim], start, config, streams([0]))[0]
    seen = start[0].clone().requires_grad_()
    views = random_views(2, 0.2, stream(0, "synthesis", 0), 0.5, flips=False)
    network(apply_views(seen, views)).features.sum().backward()
    moved = torch.where(seen.grad > 0, 0.6, 0.5)  # pixels outside of the crop stay
    assert torch.equal(pixels, to_uint8(moved))
    assert 0 < float((seen.grad == 0).float().mean()) < 1
