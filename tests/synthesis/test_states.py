"""States of ConvNets in training, as the feature spaces of images made for ConvNets."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.examples import NAMES
from helpers.synthesis import CPU, SIZE, WHOLE, network_of, pixels_themselves, streams, uniform
from torch import Tensor, nn

from wdistill.config import SynthesisConfig
from wdistill.core.seeds import stream
from wdistill.data.dsa import shared_operation
from wdistill.data.pixels import Preprocessing, to_uint8
from wdistill.errors import OptionError
from wdistill.networks.backbones import small_convnet
from wdistill.networks.features import FeatureNetwork
from wdistill.synthesis.optimise import ClassTarget, Objective, synthesise
from wdistill.synthesis.spaces import FeatureSpace, SpaceTarget, Terms, space_targets
from wdistill.synthesis.states import ARCHITECTURE, TrainedState, state_spaces, states_at
from wdistill.transport.plan import Plan

AT_32 = Preprocessing(32, 0, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
FOR_CONVNETS = replace(WHOLE, aim="convnet", whole_share=1.0)


@pytest.mark.parametrize(
    ("steps", "moments"),
    [(320, (10, 40, 160, 320)), (8, (1, 4, 8)), (2, (1, 2)), (1, (1,))],
)
def test_states_are_denser_at_the_beginning(steps: int, moments: tuple[int, ...]) -> None:
    assert states_at(steps) == moments


def trained(count: int) -> list[TrainedState]:
    networks = [small_convnet(NAMES, 32, seed, ARCHITECTURE) for seed in range(count)]
    return [
        TrainedState((index + 1) / count, network.state_dict())
        for index, network in enumerate(networks)
    ]


def test_every_state_has_its_turn_and_every_fourth_network_is_random() -> None:
    states = trained(4)
    spaces = state_spaces(states, NAMES, AT_32, 7, CPU, 16)
    images = torch.rand(2, 3, 32, 32, generator=stream(0, "images"))
    found = [space.network.logits(images) for space in spaces]
    turns = []
    for state in states:
        network = small_convnet(NAMES, 32, 0, ARCHITECTURE)
        network.load_state_dict(state.weights)
        logits = FeatureNetwork(network, AT_32, CPU).logits(images)
        turns.append([i for i, own in enumerate(found) if torch.equal(own, logits)])
    assert turns == [[0, 5, 10], [1, 6, 12], [2, 8, 13], [4, 9, 14]]
    rest = [found[index] for index in (3, 7, 11, 15)]
    assert len({tuple(logits.flatten().tolist()) for logits in rest}) == 4
    # Those with half of their training behind them tell the class as well.
    teaching = [index for index, space in enumerate(spaces) if space.terms.entropy > 0]
    assert teaching == [1, 2, 4, 6, 8, 9, 12, 13, 14]
    assert all(space.terms.features == 0 and space.terms.mean == 1 for space in spaces)


def test_spaces_repeat_with_the_seed_and_have_operations_of_their_own() -> None:
    first, again = (state_spaces(trained(2), NAMES, AT_32, 7, CPU, 8) for _ in range(2))
    assert [space.key for space in first] == [space.key for space in again]
    assert len({space.key for space in first}) == len({space.operation for space in first}) == 8
    other = state_spaces(trained(2), NAMES, AT_32, 8, CPU, 8)
    assert not {space.key for space in first} & {space.key for space in other}


class Pooled(nn.Module):
    """Its features are the mean colour."""

    config = SimpleNamespace(num_labels=5)

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(x.mean((2, 3))))


def colours(operation: int | None = None) -> FeatureSpace:
    torch.manual_seed(0)
    terms = Terms(features=0.0, mean=1.0)
    return FeatureSpace("colours", network_of(Pooled()), terms, "key", operation)


@pytest.mark.parametrize("operation", range(8))
def test_targets_are_of_the_images_through_the_spaces_operation(operation: int) -> None:
    images = to_uint8(uniform(12, 3, SIZE, SIZE, key="real"))

    class Store:
        def batches(self, rows: Tensor, size: int) -> Any:
            return images[rows].split(size)

    plan = Plan(torch.arange(12), torch.arange(12) % 2, torch.full((12,), 1 / 12), 2)
    found = space_targets([colours(operation)], Store(), plan)[0]  # type: ignore[arg-type]
    seen = shared_operation(images.float() / 255, operation).mean((2, 3))
    torch.testing.assert_close(found.atoms, torch.stack([seen[::2].mean(0), seen[1::2].mean(0)]))


def distilled(
    targets: tuple[SpaceTarget, ...], spaces: list[FeatureSpace], start: Tensor
) -> Tensor:
    goal = ClassTarget(0, torch.full((len(start),), 1 / len(start)), targets)
    objective = Objective(spaces, pixels_themselves(SIZE), FOR_CONVNETS)
    unit = synthesise(objective, [goal], [start], streams([0]))
    return unit.pixels.float() / 255


def test_the_class_mean_is_reached_and_the_teacher_has_no_say() -> None:
    """Images keep their differences: nothing pulls at a single one."""
    start = uniform(3, 3, SIZE, SIZE, key="start")
    aim = SpaceTarget(torch.tensor([[0.2, 0.5, 0.7]]).expand(3, 3), 3.0)
    results = []
    for teachers_aim in (0.1, 0.9):
        wrong = SpaceTarget(torch.full((3, 3), teachers_aim), 3.0)
        teacher = replace(colours(), terms=Terms(features=1.0))
        results.append(distilled((wrong, aim), [teacher, colours()], start))
    assert torch.equal(*results)
    torch.testing.assert_close(results[0].mean((0, 2, 3)), aim.atoms[0], atol=0.01, rtol=0)
    assert float((results[0] - results[0].mean(0)).std()) > 0.8 * float(
        (start - start.mean(0)).std()
    )


def test_an_operation_does_not_hide_what_it_keeps() -> None:
    """Through flips, shifts and the like the images reach targets that went the same way."""
    start, real = (uniform(3, 3, SIZE, SIZE, key=key) * 0.5 + 0.25 for key in ("start", "real"))
    spaces, targets = [colours()], [SpaceTarget(torch.zeros(3, 3), 3.0)]
    for operation in range(6):
        space = colours(operation)
        mean = space.network(space.seen(real)).features.mean(0)
        spaces.append(space)
        targets.append(SpaceTarget(mean.expand(3, 3), 3.0))
    found = distilled(tuple(targets), spaces, start)
    before = (start.mean((0, 2, 3)) - real.mean((0, 2, 3))).abs().max()
    after = (found.mean((0, 2, 3)) - real.mean((0, 2, 3))).abs().max()
    assert float(after) < 0.25 * float(before)


@pytest.mark.parametrize(
    "given", [{"feature_spaces": ("convnet:3",)}, {"bn_weight": 5.0}, {"space_weight": 0.2}]
)
def test_settings_without_effect_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"`synthesis.{next(iter(given))}` has no effect with"):
        SynthesisConfig(aim="convnet", **given)
    assert SynthesisConfig(aim="convnet").pool() == ()
