"""The architectures compute what they say."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool2d

from wdistill.networks.architectures import HalvingMeanPool


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(8, 8), (7, 6), (6, 7), (3, 3), (28, 28)])
def test_mean_pooling_is_pytorchs(
    size: tuple[int, int], layout: torch.memory_format, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    images = torch.randn(3, 5, *size, dtype=dtype).to(memory_format=layout)
    ours, theirs = (images.clone().requires_grad_() for _ in range(2))
    pooled, expected = HalvingMeanPool()(ours), avg_pool2d(theirs, 2)
    toward = torch.randn(expected.shape, dtype=dtype)
    pooled.backward(toward)
    expected.backward(toward)
    tolerance = {"rtol": 2e-2, "atol": 1e-2} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(pooled, expected, **tolerance)
    torch.testing.assert_close(ours.grad, theirs.grad, **tolerance)
