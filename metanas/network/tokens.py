"""Operations on sequences (batch, time, features): of patches of an image, or of words.

    patches          an image as the sequence of its patches, and where each stands
    attention        every element of a sequence reads all of them, by several heads
    token_norm       layer norm: every element has mean 0 and variance 1 over its features
    token_conv       every element reads those near it, each feature for itself
    token_mix        every element reads all of them, by one matrix for all features
    position         adds what is learned of each place
    token_mean       the mean of all elements
    sequence         an image as the sequence of its rows
    embedding        a vector that is learned for each token, a whole number from 0
    highway          of a recurrent cell: a gate between what was there and a function of it

What has a width may be narrower than built: its first features are shared by all widths. `forward(x, width=w)` computes
w features, `forward(x, mask=m)` all, each scaled by m (features,); the input may be as narrow as it likes.

Sources: Dosovitskiy et al., ICLR 2021, arXiv:2010.11929; Vaswani et al., NeurIPS 2017, arXiv:1706.03762; the shared
widths are those of AutoFormer, Chen et al., ICCV 2021, arXiv:2107.00651; highways, Zilly et al., ICML 2017,
arXiv:1607.03474, as in DARTS's recurrent cell (arXiv:1806.09055); matrices over time, MLP-Mixer, Tolstikhin et al.,
NeurIPS 2021, arXiv:2105.01601.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metanas.errors import ShapeError
from metanas.network.blocks import Phase, activation
from metanas.space import Op

EPS = 1e-5


class Patches(nn.Module):
    """A linear map of every patch, and a learned position: (batch, channels, height, width) -> (batch, patches, width),
    row by row.
    """

    def __init__(self, channels: int, width: int, patch: int, count: int) -> None:
        super().__init__()
        conv = nn.Conv2d(channels, width, patch)
        assert conv.bias is not None
        self.weight, self.bias, self.patch = conv.weight, conv.bias, patch
        self.position = nn.Parameter(nn.init.normal_(torch.empty(count, width), std=0.02))

    def forward(self, x: Tensor, width: int | None = None, mask: Tensor | None = None) -> Tensor:
        out = width or len(self.weight)
        y = F.conv2d(x, self.weight[:out], self.bias[:out], self.patch)  # (batch, width, rows, columns)
        y = y.flatten(2).transpose(1, 2) + self.position[:, :out]
        return y if mask is None else y * mask


class TokenNorm(nn.Module):
    """Layer norm over the features that there are; under a mask, over those that it keeps, by how much it keeps:

    mean, variance = sum of m * x / sum of m,  sum of m * (x - mean)^2 / sum of m
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor, width: int | None = None, mask: Tensor | None = None) -> Tensor:
        features = x.shape[-1]
        weight, bias = self.weight[:features], self.bias[:features]
        if mask is None:
            return F.layer_norm(x, (features,), weight, bias, EPS)
        share = mask / mask.sum()
        apart = x - (x * share).sum(-1, keepdim=True)
        variance = (apart.square() * share).sum(-1, keepdim=True)
        return (apart * torch.rsqrt(variance + EPS) * weight + bias) * mask


class Attention(nn.Module):
    """softmax(q k^T / sqrt(head)) v for each head of `head` features, side by side.

    Written out: torch's own kernel for it has no second derivative on a CPU.
    """

    def __init__(self, features: int, width: int, head: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(features, width) for _ in range(3))
        self.head = head

    def forward(self, x: Tensor, width: int | None = None, mask: Tensor | None = None) -> Tensor:
        out = width or self.query.out_features

        def heads(linear: nn.Linear) -> Tensor:  # (batch, heads, time, head)
            y = F.linear(x, linear.weight[:out, : x.shape[-1]], linear.bias[:out])
            return y.reshape(*y.shape[:2], -1, self.head).transpose(1, 2)

        query, key, value = heads(self.query), heads(self.key), heads(self.value)
        weights = torch.softmax(query @ key.transpose(2, 3) / self.head**0.5, dim=3)  # (batch, heads, time, time)
        y = (weights @ value).transpose(1, 2).flatten(2)
        return y if mask is None else y * mask


class TokenConv(nn.Module):
    """A depthwise convolution along time that keeps the length."""

    def __init__(self, features: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(features, features, kernel, padding=kernel // 2, groups=features)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv(x.transpose(1, 2)).transpose(1, 2).contiguous()
        return found


class TokenMix(nn.Module):
    """A linear map of the elements of each feature: of sequences of one length."""

    def __init__(self, time: int) -> None:
        super().__init__()
        self.linear = nn.Linear(time, time)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.linear(x.transpose(1, 2)).transpose(1, 2).contiguous()
        return found


class Position(nn.Module):
    """Adds a learned vector to each element."""

    def __init__(self, time: int, features: int) -> None:
        super().__init__()
        self.place = nn.Parameter(nn.init.normal_(torch.empty(time, features), std=0.02))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.place


class TokenMean(nn.Module):
    """The mean over a sequence: (batch, time, features) -> (batch, features)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class Rows(nn.Module):
    """(batch, channels, height, width) -> (batch, height, channels * width); a sequence stays, and a row (batch,
    features) is one of single numbers.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 4:
            return x.transpose(1, 2).flatten(2)
        return x if x.dim() == 3 else x.unsqueeze(2)


class Embedding(nn.Module):
    """The vector of each token: (batch, time) -> (batch, time, features). A number that is no token gives zeros.

    Tokens may come as floating point numbers, so that they go wherever other inputs do.
    """

    def __init__(self, vocabulary: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.normal_(torch.empty(vocabulary, features)))

    def forward(self, x: Tensor) -> Tensor:
        token, last = x.long(), len(self.weight) - 1
        known = (token >= 0) & (token <= last)
        return F.embedding(token.clamp(0, last), self.weight) * known[:, :, None]


class Highway(nn.Module):
    """carry + sigmoid(gate) * (active(new) - carry), where gate and new are linear in x, and carry is the beginning of
    x, as wide as the output: (batch, features) -> (batch, width).
    """

    def __init__(self, features: int, width: int, active: nn.Module) -> None:
        super().__init__()
        self.linear, self.active = nn.Linear(features, 2 * width, bias=False), active

    def forward(self, x: Tensor) -> Tensor:
        gate, new = self.linear(x).chunk(2, dim=1)
        carry = x[:, : gate.shape[1]]
        found: Tensor = carry + torch.sigmoid(gate) * (self.active(new) - carry)
        return found


def patches(op: Op, shape: tuple[int, ...], phase: Phase) -> nn.Module:
    """The patches of `kernel` x `kernel` pixels."""
    if len(shape) != 3:
        raise ShapeError("it takes images (channels, height, width)")
    channels, height, across = shape
    if height % op.kernel or across % op.kernel:
        raise ShapeError(f"patches of {op.kernel}x{op.kernel} do not fill it; take sides that are multiples of that")
    count = (height // op.kernel) * (across // op.kernel)
    return Patches(channels, _features(op, channels), op.kernel, count)


def attention(op: Op, shape: tuple[int, ...], phase: Phase) -> nn.Module:
    """As many heads of `head` features (8 by default) as make up the width."""
    _sequence(shape)
    width, head = _features(op, shape[1]), int(op.option("head", 8))
    if width % head:
        raise ShapeError(f"a width of {width} is not made up of heads of {head} features")
    return Attention(shape[1], width, head)


def token_norm(op: Op, shape: tuple[int, ...], phase: Phase) -> nn.Module:
    """Layer norm, whose width may be chosen with that of its input."""
    _sequence(shape)
    if _features(op, shape[1]) != shape[1]:
        raise ShapeError(f"a norm is as wide as its input: {shape[1]} features, not {op.width}")
    return TokenNorm(shape[1])


def token_conv(op: Op, shape: tuple[int, ...], phase: Phase) -> nn.Module:
    """A depthwise convolution along time, of an odd kernel."""
    _sequence(shape)
    if op.kernel % 2 == 0:
        raise ShapeError(f"an even kernel ({op.kernel}) does not keep the length; take an odd one")
    return TokenConv(shape[1], op.kernel)


def token_mix(op: Op, shape: tuple[int, ...], phase: Phase) -> nn.Module:
    """One matrix over time for all features."""
    _sequence(shape)
    return TokenMix(shape[0])


def position(op: Op, shape: tuple[int, ...], phase: Phase) -> nn.Module:
    """A vector for each place."""
    _sequence(shape)
    return Position(*shape)


def token_mean(op: Op, shape: tuple[int, ...], phase: Phase) -> nn.Module:
    """The mean of all elements."""
    _sequence(shape)
    return TokenMean()


def embedding(op: Op, shape: tuple[int, ...], phase: Phase) -> nn.Module:
    """A vector of a fixed width for each of `vocabulary` tokens."""
    if len(shape) != 1:
        raise ShapeError("it takes tokens (time,)")
    vocabulary = int(op.option("vocabulary", 0))
    if vocabulary < 1 or not isinstance(op.width, int):
        raise ShapeError(f"it needs a vocabulary >= 1 and a width, got {vocabulary} and {op.width}")
    return Embedding(vocabulary, op.width)


def highway(op: Op, shape: tuple[int, ...], phase: Phase) -> nn.Module:
    """A highway whose carry is the first features of what comes in."""
    if len(shape) != 1:
        raise ShapeError("it takes rows (features,)")
    width = _features(op, shape[0])
    if width > shape[0]:
        raise ShapeError(f"the first {width} features are carried, and there are {shape[0]}")
    return Highway(shape[0], width, activation(op.activation))


def _sequence(shape: tuple[int, ...]) -> None:
    if len(shape) != 2:
        raise ShapeError("it takes sequences (time, features)")


def _features(op: Op, features: int) -> int:
    return op.width if isinstance(op.width, int) else features


TOKEN_OPS: Mapping[str, Callable[[Op, tuple[int, ...], Phase], nn.Module]] = {
    "patches": patches,
    "attention": attention,
    "token_norm": token_norm,
    "token_conv": token_conv,
    "token_mix": token_mix,
    "position": position,
    "token_mean": token_mean,
    "sequence": lambda op, shape, phase: Rows(),
    "highway": highway,
    "embedding": embedding,
}
"""Kind of operation -> maker."""
