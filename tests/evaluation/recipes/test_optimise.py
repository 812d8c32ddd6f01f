"""Learning rates, momentum and averaged weights, step by step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from wdistill.artifact.report import Recipe
from wdistill.evaluation.recipes.optimise import StudentOptimizer

PLAIN = Recipe(
    optimizer="SGD", lr=0.1, weight_decay=0.0, momentum=0.0, schedule="steps", drops=(3,),
    factor=0.1, epochs=None, steps=6, batch_size=1, temperature=1.0, crop_min=None,
)  # fmt: skip


def walk(recipe: Recipe, steps: int = 6) -> list[float]:
    """Places of one weight, from 0, whose loss falls by 1 for each unit it goes up."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = StudentOptimizer(model, recipe)
    places = []
    for _ in range(steps):
        optimizer.step(optimizer.gradients(-model(torch.ones(1, 1)).sum()))
        places.append(model.weight.item())
    optimizer.finish()
    return [*places, model.weight.item()]


def moves(places: list[float]) -> list[float]:
    return [after - before for before, after in zip([0.0, *places], places, strict=False)]


def test_the_rate_falls_after_the_step_that_is_named() -> None:
    assert moves(walk(PLAIN))[:6] == pytest.approx([0.1] * 3 + [0.01] * 3)


@pytest.mark.parametrize("restarts", [True, False])
def test_momentum_is_lost_at_a_restart_and_kept_otherwise(restarts: bool) -> None:
    recipe = PLAIN.model_copy(update={"momentum": 0.9, "restarts": restarts})
    speed, wanted = 0.0, []
    for step in range(6):
        if restarts and step == 3:
            speed = 0.0
        speed = 0.9 * speed + 1
        wanted.append(speed * (0.1 if step < 3 else 0.01))
    assert moves(walk(recipe))[:6] == pytest.approx(wanted)


def test_half_a_cosine_ends_at_half_the_rate() -> None:
    recipe = PLAIN.model_copy(update={"schedule": "half cosine", "steps": 6})
    wanted = [0.1 * (1 + math.cos(math.pi * t / 12)) / 2 for t in range(6)]
    assert moves(walk(recipe))[:6] == pytest.approx(wanted)
    assert wanted[-1] > 0.05


def test_the_averaged_weights_are_what_is_tested() -> None:
    recipe = PLAIN.model_copy(update={"average": 0.5, "drops": ()})
    *places, left = walk(recipe)
    mean = 0.0
    for place in places:
        mean = 0.5 * mean + 0.5 * place
    assert left == pytest.approx(mean)
    assert left < places[-1]


def test_adamw_is_that_of_torch_with_a_cosine_to_zero() -> None:
    recipe = PLAIN.model_copy(
        update={"optimizer": "AdamW", "schedule": "cosine", "weight_decay": 0.01, "drops": ()}
    )
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6)
    wanted: list[Tensor] = []
    for _ in range(6):
        optimizer.zero_grad()
        (-weight.sum()).backward()
        optimizer.step()
        schedule.step()
        wanted.append(weight.detach().clone())
    assert walk(recipe)[:6] == [float(value) for value in wanted]
    assert schedule.get_last_lr() == pytest.approx([0.0])
