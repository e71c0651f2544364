"""Noise that is a function of a batch: what gives N(0, 1) samples without drawing any.

    key    = mix(number of the operation + mix(golden * sum of place * bits of every number of the batch))
    word_i = mix(key + i * golden)                                  the i-th word of SplitMix64 from `key`
    noise  = sqrt(2) * erfinv(the first 24 bits of word_i as a number in -1 .. 1)

SplitMix64: Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014.

A loss is pure, so what is random in it must come in with its arguments. Batches are a function of (seed, step), and so
is this noise: the same for every call on one batch (finite differences need that), another for another batch, the same
after a resume, on every device, and under every transform of `torch.func`. It follows that one batch in one order has
one noise, and that the noise of an example depends on the batch around it, as drawn noise would.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metanas.errors import ShapeError
from metanas.network.blocks import Phase
from metanas.space import Op

GOLDEN = 0x9E3779B97F4A7C15 - 2**64
FIRST, SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
"""SplitMix64's increment and factors, as numbers of 64 bits with a sign: torch has no other, and products wrap."""

BITS = 24
"""As many as a float32 holds."""


class Noise(nn.Module):
    """N(0, 1) samples in the place of images (batch, channels, height, width), their sides divided by the stride.

    Args:
        stride: of what stands in its place; sides are rounded up.
        stream: operations with different numbers give different noise for one batch.

    >>> images = torch.arange(2 * 3 * 5 * 5.0).view(2, 3, 5, 5)
    >>> noise = Noise(2, stream=1)(torch.zeros(2, 4, 5, 5), images)
    >>> noise.shape, bool(noise.std() > 0.5)
    (torch.Size([2, 4, 3, 3]), True)
    """

    def __init__(self, stride: int, stream: int) -> None:
        super().__init__()
        self.stride, self.stream = stride, stream

    def extra_repr(self) -> str:
        return f"stride={self.stride}, stream={self.stream}"

    def forward(self, x: Tensor, batch: Tensor | None = None) -> Tensor:
        """The noise of a batch, as large as what stands in its place makes of `x`. `batch`: the network's input, by
        which the noise is known, since weights that move change `x`; default: `x`.
        """
        examples, channels, height, width = x.shape
        shape = examples, channels, -(-height // self.stride), -(-width // self.stride)
        key = _mixed(_fingerprint(x if batch is None else batch) + self.stream)
        place = torch.arange(1, shape[0] * shape[1] * shape[2] * shape[3] + 1, device=x.device).view(shape)
        word = _shifted(_mixed(key + place * GOLDEN), 64 - BITS)
        middle = (2 * word + 1 - 2**BITS).float() / 2**BITS  # exact: odd numbers below 2^24
        found: Tensor = (torch.erfinv(middle) * 2**0.5).to(x.dtype)
        return found


def _fingerprint(x: Tensor) -> Tensor:
    """A number of 64 bits that changes with every number of a batch and with their order; no rounding is in it."""
    bits = x.detach().float().contiguous().view(torch.int32).long().flatten()
    return _mixed((bits * (2 * torch.arange(bits.shape[0], device=x.device) + 1)).sum() * GOLDEN)


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * FIRST
    x = (x ^ _shifted(x, 27)) * SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, places: int) -> Tensor:
    """To the right, with zeros from the left."""
    found: Tensor = (x >> places) & (2 ** (64 - places) - 1)
    return found


def noise(op: Op, shape: tuple[int, ...], phase: Phase) -> nn.Module:
    """Noise in the place of an operation of that stride; `stream`: its number."""
    if len(shape) != 3:
        raise ShapeError("it takes images (channels, height, width)")
    return Noise(op.stride, int(op.option("stream", 0)))
