"""1x1 convolutions with a stride: the pixels are taken first, and nothing but that changes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metanas.network.blocks import Conv, FactorizedReduce, pointwise
from metanas.space import op


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("channels", [2, 5, 16])
def test_it_is_torchs_own(channels: int, size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, channels, size, size, generator=generator, dtype=torch.float64, requires_grad=True)
    conv = nn.Conv2d(channels, 4, 1, 2, bias=True).double()
    results = []
    for y in (pointwise(conv, x), F.conv2d(x, conv.weight, conv.bias, stride=2)):
        results.append((y, *torch.autograd.grad(y.square().sum(), [x, conv.weight, conv.bias])))
    for ours, torchs in zip(*results, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-12)


def test_operations_take_it() -> None:
    """Where AVX2 is all there is, the other way corrupts memory within a few of these steps and aborts the process."""
    generator = torch.Generator().manual_seed(0)
    modules = [
        FactorizedReduce(2, 4, op("reduce", norm="batch_cell"), "search"),
        Conv(2, 4, op("conv", kernel=1, stride=2), bias=False),
    ]
    for module in modules:
        module.to(memory_format=torch.channels_last)
        for _ in range(60):
            x = torch.randn(16, 2, 8, 8, generator=generator).contiguous(memory_format=torch.channels_last)
            y = module(x)
            assert y.shape == (16, 4, 4, 4)
            torch.autograd.grad(y.square().sum(), list(module.parameters()))
