"""Norm layers read in one pass give what PyTorch's own operations give, values and gradients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.environment import environment
from helpers.ranks import ranks
from torch import Tensor, nn

from wdistill.networks.norms import is_norm, tap

TESTS = Path(__file__).parents[1]
BATCH = 6


def random_norm(norm: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for value in [*norm.parameters(), *norm.buffers()]:
        if value.is_floating_point():
            value.data = torch.rand_like(value) + 0.5
    return norm.eval().requires_grad_(False)


def objective(y: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    terms = []
    for index, value in enumerate((y, mean, variance)):
        weights = torch.randn(value.shape, generator=torch.Generator().manual_seed(index))
        terms.append((weights * value.square()).sum())
    return torch.stack(terms).sum()


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm2d(5), (BATCH, 5, 8, 8)),
        (nn.BatchNorm2d(3), (BATCH, 3, 7, 5)),
        (nn.BatchNorm2d(4, affine=False), (BATCH, 4, 6, 6)),
        (nn.BatchNorm2d(9), (BATCH, 9, 1, 1)),
        (nn.BatchNorm2d(4, track_running_stats=False), (BATCH, 4, 6, 6)),
        (nn.BatchNorm1d(7), (BATCH, 7)),
        (nn.GroupNorm(2, 6), (BATCH, 6, 4, 4)),
        (nn.LayerNorm(6), (BATCH, 12, 6)),
    ],
    ids=lambda value: str(value).replace(" ", ""),
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_those_of_pytorch(
    norm: nn.Module, shape: tuple[int, ...], layout: torch.memory_format
) -> None:
    random_norm(norm)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(9))
    if len(shape) == 4:
        x = x.contiguous(memory_format=layout)
    axis = 2 if isinstance(norm, nn.LayerNorm) else 1
    x = x.requires_grad_()
    others = [i for i in range(1, x.dim()) if i != axis]
    mean = x.mean(others) if others else x * 1
    variance = x.var(others, unbiased=False) if others else x * 0
    expected = [norm(x), mean, variance]

    found: list[tuple[Tensor, Tensor]] = []
    handle = tap(norm, BATCH, found)
    ours = [norm(x), *found[0]]
    handle.remove()

    for value, reference in zip(ours, expected, strict=True):
        torch.testing.assert_close(value, reference, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(objective(*parts), x)[0] for parts in (ours, expected)]
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)
    norm(x)
    assert len(found) == 1


def test_what_follows_may_work_in_place() -> None:
    norm = random_norm(nn.BatchNorm2d(3))
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    found: list[tuple[Tensor, Tensor]] = []
    tap(norm, 2, found)
    y = norm(x)
    y += x
    y.sum().backward()
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(x.grad, (1 + scale).view(1, 3, 1, 1).expand_as(x))


def test_moments_in_bf16_are_taken_in_float32() -> None:
    norm = random_norm(nn.BatchNorm2d(3))
    x = (torch.randn(2, 3, 16, 16) + 100).bfloat16()
    found: list[tuple[Tensor, Tensor]] = []
    tap(norm.bfloat16(), 2, found)
    assert norm(x).dtype == torch.bfloat16
    torch.testing.assert_close(found[0][0], x.float().mean((2, 3)))
    torch.testing.assert_close(found[0][1], x.float().var((2, 3), unbiased=False))


def test_a_layer_in_training_keeps_its_own_statistics() -> None:
    norm = nn.BatchNorm2d(3).train()
    x = torch.randn(8, 3, 4, 4) * 5 + 2
    found: list[tuple[Tensor, Tensor]] = []
    tap(norm, 8, found)
    torch.testing.assert_close(norm(x).mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)


def test_the_own_pass_of_a_replaced_layer_comes_back() -> None:
    norm = random_norm(nn.BatchNorm2d(3))
    x = torch.randn(2, 3, 4, 4)
    expected = norm(x)
    with pytest.raises(RuntimeError, match="another layer"):
        tapped_and_failing(norm, x)
    assert torch.equal(norm(x), expected)
    assert "forward" not in vars(norm)


def tapped_and_failing(norm: nn.Module, x: Tensor) -> None:
    handle = tap(norm, 2, [])
    try:
        norm(x)
        raise RuntimeError("another layer")
    finally:
        handle.remove()


def test_which_layers_are_norms() -> None:
    assert all(map(is_norm, (nn.BatchNorm2d(1), nn.LayerNorm(1), nn.InstanceNorm2d(1))))
    assert not any(map(is_norm, (nn.Linear(1, 1), nn.ReLU(), nn.Sequential(nn.BatchNorm2d(1)))))


ALIKE = """
import copy, torch
from accelerate import Accelerator
from torch import nn
from wdistill.networks.norms import of_all_processes
rank = Accelerator(cpu=True).process_index
torch.manual_seed(0)
for make, shape in (
    (lambda: nn.BatchNorm2d(5), (8, 5, 3, 4)),
    (lambda: nn.BatchNorm1d(5, affine=False), (8, 5)),
    (lambda: nn.BatchNorm2d(5, momentum=None), (8, 5, 2, 2)),
):
    alone = make()
    shared = copy.deepcopy(alone)
    whole = torch.randn(shape) * 2 + 3
    weights = torch.randn(shape)
    whole.requires_grad_()
    (alone(whole) * weights).sum().backward()
    part = whole.detach()[rank::2].clone().requires_grad_()
    with of_all_processes(shared):
        (shared(part) * weights[rank::2]).sum().backward()
        twice = shared.train(False)(part)  # not in training: its own statistics
    torch.testing.assert_close(part.grad, whole.grad[rank::2], rtol=1e-4, atol=1e-5)
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(twice, shared(part))
    assert "forward" not in vars(shared)
print("alike", flush=True)
"""


def test_batch_statistics_of_two_processes_are_those_of_the_whole_batch() -> None:
    """PyTorch's own layer with all images is the oracle of values, gradients and statistics."""
    said, codes = ranks("import os, sys" + ALIKE, 2)
    assert codes == [0, 0], said


ELSEWHERE = """
import json, sys, torch
from torch import nn
from helpers.pretend import NAME, install, pretended
from wdistill.networks.norms import tap

install()
torch.manual_seed(0)
found = {}
for name, norm, shape, kind in (
    ("batch", nn.BatchNorm2d(5), (6, 5, 8, 7), torch.float32),
    ("plain", nn.BatchNorm2d(5, affine=False), (6, 5, 4, 4), torch.float32),
    ("narrow", nn.BatchNorm2d(5), (6, 5, 8, 8), torch.bfloat16),
    ("layer", nn.LayerNorm(5), (6, 12, 5), torch.float32),
):
    for value in [*norm.parameters(), *norm.buffers()]:
        if value.is_floating_point():
            value.data = torch.rand_like(value) + 0.5
    norm.eval().requires_grad_(False)
    x = (torch.randn(shape) * 3 + 1).to(kind)
    weights = [torch.randn(shape), *(torch.randn(shape[0], 5) for _ in range(2))]

    def passed(norm, x, weights):
        x, moments = x.detach().requires_grad_(), []
        handle = tap(norm, len(x), moments)
        values = [norm(x), *moments[0]]
        handle.remove()
        loss = sum((w * v.float().square()).sum() for w, v in zip(weights, values))
        return [*values, *torch.autograd.grad(loss, x)]

    here = passed(norm, x, weights)
    with pretended() as seen:
        there = passed(norm.to(NAME), x.to(NAME), [w.to(NAME) for w in weights])
        back = [value.detach().cpu() for value in there]
    assert [value.dtype for value in back] == [value.dtype for value in here]
    far = max(float((a.float() - b.float()).abs().max() / b.float().abs().max())
              for a, b in zip(back, here))
    found[name] = {"far": far, "kernels": dict(seen.kernels)}
print(json.dumps(found))
sys.stdout.flush()
import os; os._exit(0)
"""


@pytest.fixture(scope="module")
def elsewhere() -> dict[str, Any]:
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], env=environment(PYTHONPATH=path),
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("layer", "rounding"), [("batch", 1e-5), ("plain", 1e-5), ("narrow", 2e-2), ("layer", 1e-5)]
)
def test_on_an_accelerator_values_and_gradients_are_those_of_the_cpu(
    layer: str, rounding: float, elsewhere: dict[str, Any]
) -> None:
    assert elsewhere[layer]["far"] < rounding


def test_on_an_accelerator_moments_take_one_pass_and_the_layer_one(
    elsewhere: dict[str, Any],
) -> None:
    """A pass for both moments, one for the output, and two back; the layer's own is not run."""
    kernels = elsewhere["batch"]["kernels"]
    assert kernels["var_mean"] == 1
    assert kernels["addcmul"] == 2
    assert kernels["addcmul_"] == 1
    assert not [name for name in kernels if "batch_norm" in name or name == "repeat"]
    assert not [n for n in elsewhere["narrow"]["kernels"] if "batch_norm" in n]
