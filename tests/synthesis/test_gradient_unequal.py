"""Classes with different numbers of images are distilled together as each would be alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.synthesis import CPU, WHOLE, pixels_themselves, resnet, space_of, target, uniform
from torch import Tensor

from wdistill.core.seeds import stream
from wdistill.data.augment import random_views
from wdistill.synthesis.gradient import Unequal, pixel_gradient, rows_of
from wdistill.synthesis.optimise import ClassTarget, Objective, _group, synthesise
from wdistill.synthesis.spaces import Terms

COUNTS, SIZE = (2, 5, 1, 3), 16
EVERY = Terms(0.5, 0.5, 10.0, 1.0)


def aims() -> list[ClassTarget]:
    network = resnet()
    images = uniform(len(COUNTS), 12, 3, SIZE, SIZE, key="images")
    return [target(network, label, images[label], n) for label, n in enumerate(COUNTS)]


def starts() -> list[Tensor]:
    return [uniform(n, 3, SIZE, SIZE, key=f"start {label}") for label, n in enumerate(COUNTS)]


def test_no_class_touches_another() -> None:
    objective = Objective(
        [space_of(resnet(), EVERY)], pixels_themselves(SIZE), replace(WHOLE, iterations=8)
    )
    targets, first = aims(), starts()

    def made(labels: list[int]) -> Tensor:
        draws = [stream(0, "synthesis", label) for label in labels]
        parts = [targets[c] for c in labels], [first[c] for c in labels]
        return synthesise(objective, *parts, draws).pixels

    together = made([0, 1, 2, 3])
    alone = torch.cat([made([label]) for label in range(len(COUNTS))])
    assert len(together) == sum(COUNTS)
    assert float(((together.int() - alone.int()).abs() <= 1).float().mean()) > 0.999
    assert not torch.equal(together, (torch.cat(first) * 255).round().to(torch.uint8))


@pytest.mark.parametrize("most", [1, 3, 5, 6, 8])
def test_parts_give_the_gradient_of_all(most: int) -> None:
    """Below 5 images the largest class is split; from 5 on whole classes stay together."""
    group, pixels = _group(aims(), 0, CPU), torch.cat(starts())
    active = [(space_of(resnet(), EVERY), group)]
    views = random_views(len(pixels), 0.3, stream(0, "views"), 0.5)
    whole, terms = pixel_gradient(active, pixels, views, 0.1, None)
    actual, of_parts = pixel_gradient(active, pixels, views, 0.1, None, most)
    torch.testing.assert_close(actual, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))
    torch.testing.assert_close(of_parts, terms, rtol=1e-5, atol=1e-6)
    assert float(whole.flatten(1).norm(dim=1).min()) > 0


def test_values_are_put_where_their_class_is() -> None:
    group = _group(aims(), 0, CPU)
    values = torch.arange(1.0, 1 + sum(COUNTS))[:, None]
    rows = group.by_class(values)[:, :, 0].tolist()
    assert rows[0] == [1, 2, 0, 0, 0]
    assert rows[1] == [3, 4, 5, 6, 7]
    assert rows[2] == [8, 0, 0, 0, 0]
    part = group.part(slice(2, 4))
    assert part.counts == (1, 3)
    assert part.by_class(values[rows_of(COUNTS, slice(2, 4))])[:, :, 0].tolist() == rows[2:]


def test_equal_classes_need_no_places() -> None:
    assert Unequal.of([3, 3], CPU) is None
    assert Unequal.of([4], CPU) is None


def test_the_targets_of_a_group_are_on_its_device() -> None:
    group = _group(aims(), 0, torch.device("meta"))
    assert group.unequal is not None
    assert group.moments is not None
    parts = [*vars(group).values(), *vars(group.unequal).values(), *vars(group.moments).values()]
    tensors = [part for part in parts if isinstance(part, Tensor)]
    assert len(tensors) >= 5
    assert all(tensor.is_meta for tensor in tensors)
