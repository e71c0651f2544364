"""From an operation's specification to a module: one plain mapping, which a user extends with `{**OPS, "mine": make}`.

A maker is called as `make(op, shape, phase)`: the specification, the input's shape without the batch, and whether the
network is built for a search or for training from scratch; it gives a module from one value to one value. Where a
specification names no width, a maker gives as many channels as come in. A module whose specification names an input
`beside` its value is called with both in a network, and with the value alone where it is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from torch import Tensor, nn

from metanas.errors import ShapeError
from metanas.network.blocks import (
    Conv,
    ElasticConv,
    ElasticLinear,
    FactorizedReduce,
    GlobalMean,
    Narrow,
    Phase,
    Residual,
    Rest,
    Shuffle,
    SqueezeExcite,
    Zero,
    activation,
    norm,
)
from metanas.network.graphs import GRAPH_OPS
from metanas.network.noise import noise
from metanas.network.tokens import TOKEN_OPS
from metanas.space import Op

Shape: TypeAlias = tuple[int, ...]
Maker: TypeAlias = Callable[[Op, Shape, Phase], nn.Module]


def width_of(op: Op, shape: Shape) -> int:
    """The channels that `op` gives."""
    return op.width if isinstance(op.width, int) else shape[0]


def conv(op: Op, shape: Shape, phase: Phase) -> nn.Module:
    """Convolution, norm, activation."""
    width = width_of(op, shape)
    after = [activation(op.activation)] if op.activation else []
    normed = norm(op.norm, width, phase)
    return nn.Sequential(Conv(shape[0], width, op, bias=not normed), *normed, *after)


def preact_conv(op: Op, shape: Shape, phase: Phase) -> nn.Module:
    """Activation, convolution, norm."""
    width = width_of(op, shape)
    normed = norm(op.norm, width, phase)
    return nn.Sequential(activation(op.activation), Conv(shape[0], width, op, bias=not normed), *normed)


def separable(op: Op, shape: Shape, phase: Phase) -> nn.Module:
    """`repeat` times: activation, depthwise convolution, pointwise convolution, norm (DARTS: 2 plain ones, 1 dilated).

    The stride belongs to the first; all but the last keep the channels.
    """
    channels, width, modules = shape[0], width_of(op, shape), list[nn.Module]()
    repeat = int(op.option("repeat", 1))
    for k in range(repeat):
        out = width if k == repeat - 1 else channels
        padding = op.dilation * (op.kernel - 1) // 2
        stride = op.stride if k == 0 else 1
        modules += [
            activation(op.activation),
            nn.Conv2d(channels, channels, op.kernel, stride, padding, op.dilation, channels, bias=False),
            nn.Conv2d(channels, out, 1, bias=False),
            *norm(op.norm, out, phase),
        ]
    return nn.Sequential(*modules)


def avg_pool(op: Op, shape: Shape, phase: Phase) -> nn.Module:
    """Mean over the window, the padding not counted."""
    pool = nn.AvgPool2d(op.kernel, op.stride, (op.kernel - 1) // 2, count_include_pad=False)
    return nn.Sequential(pool, *norm(op.norm, shape[0], phase)) if op.norm else pool


def max_pool(op: Op, shape: Shape, phase: Phase) -> nn.Module:
    """Maximum over the window."""
    pool = nn.MaxPool2d(op.kernel, op.stride, (op.kernel - 1) // 2)
    return nn.Sequential(pool, *norm(op.norm, shape[0], phase)) if op.norm else pool


def skip(op: Op, shape: Shape, phase: Phase) -> nn.Module:
    """The identity; with a stride, a factorized reduction."""
    return nn.Identity() if op.stride == 1 else FactorizedReduce(shape[0], width_of(op, shape), op, phase)


def classifier(op: Op, shape: Shape, phase: Phase) -> nn.Module:
    """(Norm, activation,) mean over all positions, linear: (batch, channels, height, width) -> (batch, width)."""
    before = norm(op.norm, shape[0], phase) + ([activation(op.activation)] if op.activation else [])
    return nn.Sequential(*before, GlobalMean(), nn.Flatten(), nn.Linear(shape[0], width_of(op, shape)))


def linear(op: Op, shape: Shape, phase: Phase) -> nn.Module:
    """Linear (and activation) over the last axis: (batch, ..., features) -> (batch, ..., width)."""
    after = [activation(op.activation)] if op.activation else []
    width = op.width if isinstance(op.width, int) else shape[-1]
    return nn.Sequential(nn.Linear(shape[-1], width), *after)


def elastic_linear(op: Op, shape: Shape, phase: Phase) -> nn.Module:
    """A linear map of rows (features,) or sequences (time, features) whose width may be chosen."""
    if len(shape) not in (1, 2):
        raise ShapeError("it takes rows (features,) or sequences (time, features): flatten or pool before it")
    return ElasticLinear(shape[-1], op.width if isinstance(op.width, int) else shape[-1])


def elastic_depthwise(op: Op, shape: Shape, phase: Phase) -> nn.Module:
    """Depthwise convolution, norm, activation, whose width may be chosen with that of its input."""
    if width_of(op, shape) != shape[0]:
        raise ShapeError(f"a depthwise convolution is as wide as its input: {shape[0]} channels, not {op.width}")
    return ElasticConv(shape[0], shape[0], op, phase, depthwise=True)


def squeeze_excite(op: Op, shape: Shape, phase: Phase) -> nn.Module:
    """Channels scaled by a function of their means; `squeezed`: numbers in between, by default a quarter of them."""
    return SqueezeExcite(shape[0], int(op.option("squeezed", max(shape[0] // 4, 1))))


def rest(op: Op, shape: Shape, phase: Phase) -> nn.Module:
    """The last channels, pooled where there is a stride: what passes by beside operations on the first ones."""
    if width_of(op, shape) >= shape[0]:
        raise ShapeError(f"the rest of {shape[0]} channels cannot be {op.width}: as many must go in as come out")
    return Rest(width_of(op, shape), op.stride)


def normed(op: Op, shape: Shape, phase: Phase) -> nn.Module:
    """Norm (and activation) alone, of images or rows."""
    if len(shape) not in (1, 3):
        raise ShapeError("it takes rows (features,) or images (channels, height, width)")
    after = [activation(op.activation)] if op.activation else []
    modules = [*norm(op.norm, shape[0], phase, rows=len(shape) == 1), *after]
    return modules[0] if len(modules) == 1 else nn.Sequential(*modules)


class Last(nn.Module):
    """The last element of a sequence: (batch, time, features) -> (batch, features)."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, -1]


OPS: Mapping[str, Maker] = {
    **TOKEN_OPS,
    **GRAPH_OPS,
    "none": lambda op, shape, phase: Zero(op.width if isinstance(op.width, int) else None, op.stride),
    "skip": skip,
    "conv": conv,
    "preact_conv": preact_conv,
    "separable": separable,
    "avg_pool": avg_pool,
    "max_pool": max_pool,
    "factorized_reduce": lambda op, shape, phase: FactorizedReduce(shape[0], width_of(op, shape), op, phase),
    "residual": lambda op, shape, phase: Residual(shape[0], width_of(op, shape), op, phase),
    "classifier": classifier,
    "elastic_conv": lambda op, shape, phase: ElasticConv(shape[0], width_of(op, shape), op, phase),
    "elastic_depthwise": elastic_depthwise,
    "squeeze_excite": squeeze_excite,
    "narrow": lambda op, shape, phase: Narrow(width_of(op, shape)),
    "rest": rest,
    "shuffle": lambda op, shape, phase: Shuffle(op.groups),
    "elastic_linear": elastic_linear,
    "norm": normed,
    "linear": linear,
    "activation": lambda op, shape, phase: activation(op.activation),
    "flatten": lambda op, shape, phase: nn.Flatten(),
    "last": lambda op, shape, phase: Last(),
    "noise": noise,
}
"""Kind of operation -> maker."""
