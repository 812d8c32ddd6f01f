"""Optimiser, learning rates and averaged weights of a recipe."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from wdistill.artifact.report import Recipe


class StudentOptimizer:
    """Steps of a student as its recipe says.

    Attributes:
        average: The moving average of the parameters, or None. Statistics of normalisation layers
            are those of the student itself, as in EDC's code.
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        self.model, self.recipe = model, recipe
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = _optimizer(model, recipe)
        self.schedule = _schedule(self.optimizer, recipe)
        self.average: list[Tensor] | None = None
        if recipe.average is not None:
            self.average = [copy.deepcopy(p.detach()) for p in model.parameters()]
        self._steps = 0

    def gradients(self, loss: Tensor) -> tuple[Tensor | None, ...]:
        """Of ``loss`` with respect to the parameters; None for those that it does not depend on."""
        return torch.autograd.grad(loss, self.parameters, allow_unused=True)

    def step(self, gradients: Sequence[Tensor | None]) -> None:
        """One step down the gradients, at the learning rate of this step."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        self._steps += 1
        if self.recipe.restarts and self._steps in self.recipe.drops:
            self.optimizer.state.clear()
        if self.average is not None and self.recipe.average is not None:
            with torch.no_grad():
                for mean, value in zip(self.average, self.model.parameters(), strict=True):
                    mean.lerp_(value, 1 - self.recipe.average)

    def finish(self) -> None:
        """Leave in the model what is to be tested: its last or its averaged parameters."""
        if self.average is None:
            return
        with torch.no_grad():
            for mean, value in zip(self.average, self.model.parameters(), strict=True):
                value.copy_(mean)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "SGD":
        return torch.optim.SGD(
            model.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum or 0.0,
            weight_decay=recipe.weight_decay,
        )
    return torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)


def _schedule(optimizer: torch.optim.Optimizer, recipe: Recipe) -> lr_scheduler.LRScheduler:
    if recipe.schedule == "steps":
        return lr_scheduler.MultiStepLR(optimizer, list(recipe.drops), recipe.factor or 1.0)
    if recipe.schedule == "half cosine":
        return lr_scheduler.LambdaLR(optimizer, lambda step: half_cosine(step, recipe.steps))
    return lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)


def half_cosine(step: int, steps: int) -> float:
    """(1 + cos(pi t / (2 T))) / 2, from 1 to 1/2: EDC's smoothed schedule with zeta = 2."""
    return (1 + math.cos(math.pi * step / (2 * steps))) / 2
