"""Norm layers: where they are in a network, and the moments of what goes into them.

These moments and batch normalisation read the same numbers and would take half of the time of a
synthesis step; here both share one backward pass. On a CPU a pass is fast if its innermost loop is
long. With channels last, that loop runs over the channels, which may be few, so several positions
are treated as one. Other devices have an operation for both moments at once, and what counts there
is how often the memory is passed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, distributed, nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
POSITIONS = 64  # taken as one, if they divide the number of positions


class Handle(Protocol):
    """What ends with ``remove``."""

    def remove(self) -> None: ...


def is_norm(module: nn.Module) -> bool:
    """Whether ``module`` is a BatchNorm, LayerNorm, GroupNorm, InstanceNorm or RMSNorm layer."""
    return _channel_axis(module) is not None


def tap(norm: nn.Module, batch: int, moments: list[tuple[Tensor, Tensor]]) -> Handle:
    """Record the moments of a norm layer's input during each pass until the handle is removed.

    Args:
        norm: The layer.
        batch: The number of images in a pass.
        moments: Each pass appends the mean and the variance of every image and channel over the
            positions, each (batch, channels) float32.
    """

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        last = inputs[0] if _channel_axis(module) == -1 else inputs[0].movedim(1, -1)
        moments.append(_Moments.apply(last.reshape(batch, -1, last.shape[-1]).float()))

    def instead(x: Tensor) -> Tensor:
        layer: Any = norm
        if x.device.type == "cpu" and x.dtype != torch.float32:
            before(layer, (x,))
            return plain(x)  # type: ignore[no-any-return]
        scale = (layer.running_var.float() + layer.eps).rsqrt()
        scale = scale if layer.weight is None else scale * layer.weight
        shift = -layer.running_mean * scale
        shift = shift if layer.bias is None else shift + layer.bias
        function = _FrozenNorm if x.device.type == "cpu" else _FrozenNormInPasses
        result, mean, variance = function.apply(x, scale, shift)
        moments.append((mean, variance))
        return result  # type: ignore[no-any-return]

    if type(norm) is nn.BatchNorm2d and norm.track_running_stats and not norm.training:
        plain = norm.forward
        return _Replaced(norm, instead)
    return norm.register_forward_pre_hook(before)


class _Replaced:
    """The forward pass of a layer is another one until :meth:`remove`."""

    def __init__(self, module: nn.Module, forward: Callable[[Tensor], Tensor]) -> None:
        self._module, self._before = module, vars(module).get("forward")
        module.forward = forward

    def remove(self) -> None:
        if self._before is None:
            del self._module.forward
        else:
            self._module.forward = self._before


def _channel_axis(module: nn.Module) -> int | None:
    """The axis of the channels in the input of a norm layer; None for any other module."""
    if isinstance(module, (*BATCH_NORMS, *INSTANCE_NORMS, nn.GroupNorm)):
        return 1
    kind = type(module).__name__
    if "BatchNorm" in kind and not list(module.children()):
        return 1
    if isinstance(module, nn.LayerNorm) or kind.endswith(("LayerNorm", "RMSNorm")):
        if list(module.children()):
            return None
        return 1 if getattr(module, "data_format", "") == "channels_first" else -1
    return None


def _rows(tokens: Tensor) -> tuple[Tensor, int]:
    """(B, N, C) as (B, N / k, k * C), and k."""
    count, positions, channels = tokens.shape
    k = math.gcd(positions, POSITIONS)
    return tokens.reshape(count, positions // k, k * channels), k


def _mean_and_variance(tokens: Tensor) -> tuple[Tensor, Tensor]:
    if tokens.device.type != "cpu":
        variance, mean = torch.var_mean(tokens, 1, correction=0)
        return mean, variance
    rows, k = _rows(tokens)
    mean = rows.mean(1).view(len(tokens), k, -1).mean(1)
    # Twice over the positions is exact, and faster on a CPU than torch.var.
    squares = (rows - mean.repeat(1, k)[:, None]).square_()
    return mean, squares.mean(1).view(len(tokens), k, -1).mean(1)


def _linear(positions: int, mean: Tensor, mean_grad: Tensor, variance_grad: Tensor) -> Any:
    """a and b, each (B, C), such that the gradient of the moments is a x + b."""
    slope = variance_grad * (2 / positions)
    return slope, mean_grad / positions - slope * mean


@contextmanager
def of_all_processes(model: nn.Module) -> Iterator[None]:
    """Within the context, BatchNorm layers in training normalise by the statistics of the images of
    all processes, as one process would with the whole batch. Each must have as many images.

    PyTorch's SyncBatchNorm does the same, but on GPUs only.
    """
    norms = [module for module in model.modules() if isinstance(module, BATCH_NORMS)]
    for norm in norms:
        norm.forward = partial(_normalise_over_all, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _normalise_over_all(norm: Any, x: Tensor) -> Tensor:
    if not norm.training:
        return type(norm).forward(norm, x)  # type: ignore[no-any-return]
    with torch.autocast(x.device.type, enabled=False):
        axes = [axis for axis in range(x.dim()) if axis != 1]
        own = torch.var_mean(x.float(), axes, correction=0)
        variances, means = _Gathered.apply(torch.stack(own)).unbind(1)
        mean = means.mean(0)
        variance = (variances + (means - mean) ** 2).mean(0)
        if norm.track_running_stats:
            _track(norm, mean.detach(), variance.detach(), len(means) * x.numel() // x.shape[1])
        scale = (variance + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight
        shift = -mean * scale
        shift = shift if norm.bias is None else shift + norm.bias
        shape = [1, -1, *[1] * (x.dim() - 2)]
        return torch.addcmul(shift.view(shape), x.float(), scale.view(shape)).to(x.dtype)


def _track(norm: Any, mean: Tensor, variance: Tensor, count: int) -> None:
    """Update the running statistics as PyTorch does, of ``count`` values a channel."""
    norm.num_batches_tracked.add_(1)
    momentum = norm.momentum
    if momentum is None:
        momentum = 1 / norm.num_batches_tracked
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance * (count / max(1, count - 1)), momentum)


class _Gathered(torch.autograd.Function):
    """(processes, ...) of the tensors of all processes; each gets back the gradient of its own,
    summed over the losses of all.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        every = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(every, own.contiguous())
        return torch.stack(every)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        distributed.all_reduce(grad)
        return grad[distributed.get_rank()]


class _Moments(torch.autograd.Function):
    """Mean and variance over the positions of tokens (B, N, C), each (B, C).

    dL/dx = a x + b,  a = 2/N dL/dvar,  b = dL/dmean / N - a mean
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = _mean_and_variance(tokens)
        ctx.save_for_backward(tokens, mean)
        return mean, variance

    @staticmethod
    def backward(ctx: Any, mean_grad: Tensor, variance_grad: Tensor) -> Tensor:
        tokens, mean = ctx.saved_tensors
        slope, offset = _linear(tokens.shape[1], mean, mean_grad, variance_grad)
        if tokens.device.type != "cpu":
            return torch.addcmul(offset[:, None], tokens, slope[:, None])
        rows, k = _rows(tokens)
        grad = torch.addcmul(offset.repeat(1, k)[:, None], rows, slope.repeat(1, k)[:, None])
        return grad.view(tokens.shape)


class _FrozenNorm(torch.autograd.Function):
    """y = s x + t, and the moments of x, for x (B, C, H, W) on a CPU: one pass back for both,

    dL/dx = s dL/dy + a x + b
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tokens = x.movedim(1, -1).flatten(1, 2)
        mean, variance = _mean_and_variance(tokens)
        ctx.save_for_backward(tokens, mean, scale)
        rows, k = _rows(tokens)
        # A view could not be changed in place, which residual networks do with it.
        y = torch.empty_like(x, memory_format=torch.channels_last)
        into = y.movedim(1, -1).view(rows.shape)
        torch.addcmul(shift.repeat(k), rows, scale.repeat(k), out=into)
        return y, mean, variance

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor, mean_grad: Tensor, variance_grad: Tensor
    ) -> tuple[Tensor, None, None]:
        tokens, mean, scale = ctx.saved_tensors
        slope, offset = _linear(tokens.shape[1], mean, mean_grad, variance_grad)
        rows, k = _rows(tokens)
        last = grad.movedim(1, -1)
        grad_rows, _ = _rows(last.flatten(1, 2))
        total = torch.addcmul(offset.repeat(1, k)[:, None], rows, slope.repeat(1, k)[:, None])
        return (
            total.addcmul_(grad_rows, scale.repeat(k)).view(last.shape).movedim(-1, 1),
            None,
            None,
        )


class _FrozenNormInPasses(torch.autograd.Function):
    """The same on other devices, in as few passes over x as there are results. x may be half as
    wide as float32; all is computed in float32 and y rounded to the type of x.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        variance, mean = torch.var_mean(x.float(), (2, 3), correction=0)
        ctx.save_for_backward(x, mean, scale)
        y = torch.addcmul(_over_positions(shift), x, _over_positions(scale))
        return y.to(x.dtype), mean, variance

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor, mean_grad: Tensor, variance_grad: Tensor
    ) -> tuple[Tensor, None, None]:
        x, mean, scale = ctx.saved_tensors
        slope, offset = _linear(x.shape[2] * x.shape[3], mean, mean_grad, variance_grad)
        total = torch.addcmul(_over_positions(offset), x, _over_positions(slope))
        return total.addcmul_(grad, _over_positions(scale)).to(x.dtype), None, None


def _over_positions(channels: Tensor) -> Tensor:
    """(C,) or (B, C) as what is the same at all positions of (B, C, H, W)."""
    return channels.view(*channels.shape, 1, 1)
