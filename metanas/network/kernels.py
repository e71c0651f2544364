"""Functions whose derivatives torch takes in more or slower passes than they need, for steps that run on a GPU.

They go with autograd of any order. Under the transforms of torch.func the steps take torch's own operations instead.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class Box(torch.autograd.Function):
    """Sums over windows: a convolution with `ones`, (channels, 1, k, k), zeros beyond the border; it is symmetric."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ones: Tensor) -> Tensor:
        ctx.ones = ones
        with torch.autocast(x.device.type, enabled=False):  # a pool keeps the precision of what it is given
            return F.conv2d(x, ones, None, 1, ones.shape[2] // 2, 1, x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return Box.apply(gradients[0], ctx.ones), None  # type: ignore[no-untyped-call]  # torch's own


class WeightedSum(torch.autograd.Function):
    """total (None: 0) + x * w + ..., of pairs x and 0-d w. torch's `addcmul` multiplies by its `value` in the backward
    pass, also where that is 1."""

    @staticmethod
    def forward(ctx: Any, total: Tensor | None, *pairs: Tensor) -> Tensor:
        ctx.save_for_backward(*pairs)
        ctx.added = total is not None
        out = pairs[0] * pairs[1] if total is None else torch.addcmul(total, pairs[0], pairs[1])
        for x, w in zip(pairs[2::2], pairs[3::2], strict=True):
            out.addcmul_(x, w)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,), pairs, needed = gradients, ctx.saved_tensors, ctx.needs_input_grad
        found: list[Tensor | None] = [g if ctx.added and needed[0] else None]
        for k in range(0, len(pairs), 2):
            x, w = pairs[k], pairs[k + 1]
            found.append(g * w if needed[1 + k] else None)
            found.append(torch.dot(_flat(g), _flat(x)).to(w.dtype) if needed[2 + k] else None)
        return tuple(found)


def _flat(x: Tensor) -> Tensor:
    """All numbers of a tensor; of images with channels last without a copy."""
    return (x.permute(0, 2, 3, 1) if x.dim() == 4 else x).reshape(-1)
