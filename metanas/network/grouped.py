"""The steps of the fused executor: each computes together what reads the same value.

    Plain    a step of the program, as the plain executor runs it
    Once     an activation, a pool, every second pixel: computed once, read by many
    Wide     several convolutions of one value as one; one norm over all their channels
    Chain    separable convolutions; a dilated one on blocks of pixels, where it is a plain one
    Halve    factorized reductions, of pixels that were taken before
    Pool     averages over windows, on a GPU
    Sum      mixtures and sums of mixtures, as one sum

Where a value goes into a mixture alone and ends with a norm without a scale, the mixing weight is the norm's scale: it
costs no pass over the value, forward or backward.

Steps hold modules, whose parameters they read when they run: theta is that of the plain executor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metanas.network.kernels import Box, WeightedSum

Part: TypeAlias = tuple[str, int]
"""A candidate of a choice."""

Values: TypeAlias = dict[str, Tensor]


class Scales:
    """The mixing weights of one forward pass: what many steps read is made once."""

    def __init__(self, mix: Mapping[str, Tensor]) -> None:
        self.mix = mix
        self.rows = {name: weights.unbind() for name, weights in mix.items()}
        self.vectors: dict[tuple[tuple[Part, ...], int], Tensor] = {}

    def one(self, part: Part) -> Tensor:
        """The weight of a candidate, 0-d."""
        name, candidate = part
        return self.rows[name][candidate]

    def vector(self, parts: tuple[Part, ...], width: int) -> Tensor:
        """The weights of candidates, each `width` times, (len(parts) * width,)."""
        key = (parts, width)
        if key not in self.vectors:
            rows = torch.stack([self.one(part) for part in parts])
            spread = rows.unsqueeze(1).expand(-1, width).reshape(-1)
            self.vectors[key] = spread.contiguous()  # the backward of a batch norm takes a stride of 0 for one of 1
        return self.vectors[key]


class FusedStep(Protocol):
    """What all steps have."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The values that it reads."""

    @property
    def outs(self) -> tuple[str, ...]:
        """The values that it makes."""

    def run(self, values: Values, scales: Scales) -> None:
        """Reads and makes them."""


@dataclass(frozen=True, eq=False)
class _OneOut:
    """What the steps that make one value have."""

    out: str

    @property
    def outs(self) -> tuple[str, ...]:
        return (self.out,)


@dataclass(frozen=True, eq=False)
class Plain(_OneOut):
    """A step of the program: `call(values, mix)` is how the plain executor runs it."""

    sources: tuple[str, ...]
    call: Callable[[Values, Mapping[str, Tensor]], Tensor]

    def run(self, values: Values, scales: Scales) -> None:
        values[self.out] = self.call(values, scales.mix)


@dataclass(frozen=True, eq=False)
class Once(_OneOut):
    """`out` = `function` of `source`, which has no parameters."""

    source: str
    function: Callable[[Tensor], Tensor]

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source,)

    def run(self, values: Values, scales: Scales) -> None:
        values[self.out] = self.function(values[self.source])


@dataclass(frozen=True, eq=False)
class Branch:
    """Convolutions of equal kind and norms without parameters; `parts`: the mixing weights that scale them."""

    convs: tuple[nn.Conv2d, ...]
    norm: nn.BatchNorm2d
    parts: tuple[Part, ...]

    def __call__(self, x: Tensor, scales: Scales) -> Tensor:
        first = self.convs[0]
        weight = first.weight if len(self.convs) == 1 else torch.cat([conv.weight for conv in self.convs])
        stride: tuple[int, ...] = first.stride
        if first.kernel_size == (1, 1) and stride != (1, 1):  # as `blocks.pointwise`
            x, stride = x[:, :, :: stride[0], :: stride[1]], (1, 1)
        y = F.conv2d(x, weight, None, stride, first.padding, first.dilation)
        return normed(y, self.norm, self.parts, scales)


@dataclass(frozen=True, eq=False)
class Wide:
    """`outs` = the parts, of equal width, of the sum of the branches on `source`.

    `padded`: all branches as one convolution, small kernels in the middle of large ones: fewer and larger operations
    for more arithmetic, which a GPU has to spare.
    """

    source: str
    outs: tuple[str, ...]
    branches: tuple[Branch, ...]
    padded: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source,)

    def run(self, values: Values, scales: Scales) -> None:
        x = values[self.source]
        rows = self._as_one(x, scales) if self.padded else [branch(x, scales) for branch in self.branches]
        total = rows[0]
        for row in rows[1:]:
            total = total + row
        values.update(zip(self.outs, total.chunk(len(self.outs), 1), strict=True))

    def _as_one(self, x: Tensor, scales: Scales) -> Sequence[Tensor]:
        convs = [conv for branch in self.branches for conv in branch.convs]
        largest = max(convs, key=lambda conv: conv.kernel_size)
        side = largest.kernel_size[0]
        weights = [F.pad(conv.weight, [(side - conv.kernel_size[0]) // 2] * 4) for conv in convs]
        y = F.conv2d(x, torch.cat(weights), None, 1, largest.padding, largest.dilation)
        parts = tuple(part for branch in self.branches for part in branch.parts)
        return normed(y, self.branches[0].norm, parts, scales).chunk(len(self.branches), 1)


def paddable(branches: Sequence[Branch]) -> bool:
    """Whether several branches can be one convolution: of one stride, square odd kernels of one dilation, equal norms,
    padded to keep the size."""
    convs = [conv for branch in branches for conv in branch.convs]
    first = max(convs, key=lambda conv: conv.kernel_size)
    dilation = first.dilation[0]
    for conv in convs:
        side = conv.kernel_size[0]
        wide = conv.dilation == first.dilation or side == 1
        kept = conv.padding == (dilation * (side - 1) // 2,) * 2 and conv.stride == (1, 1)
        if not (wide and kept and side % 2 and conv.kernel_size == (side, side)):
            return False
    return len(branches) > 1 and len({branch.norm.eps for branch in branches}) == 1


@dataclass(frozen=True, eq=False)
class Stage:
    """A depthwise convolution, a pointwise one, a norm without parameters."""

    depthwise: nn.Conv2d
    pointwise: nn.Conv2d
    norm: nn.BatchNorm2d
    before: nn.Module | None = None
    plain: bool = False
    """The source is every second pixel, or blocks of pixels: neither stride nor dilation is left."""

    def __call__(self, x: Tensor) -> Tensor:
        x = x if self.before is None else self.before(x)
        conv = self.depthwise
        if self.plain:
            x = F.conv2d(x, conv.weight, None, 1, (conv.kernel_size[0] - 1) // 2, 1, conv.groups)
        else:
            x = conv(x)
        y: Tensor = self.pointwise(x)
        return y


@dataclass(frozen=True, eq=False)
class Chain(_OneOut):
    """`out` = stage after stage; `source` has been through the first activation."""

    source: str
    stages: tuple[Stage, ...]
    part: Part | None

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source,)

    def run(self, values: Values, scales: Scales) -> None:
        x = values[self.source]
        for stage in self.stages[:-1]:
            x = stage.norm(stage(x))
        last = self.stages[-1]
        values[self.out] = normed(last(x), last.norm, () if self.part is None else (self.part,), scales)


@dataclass(frozen=True, eq=False)
class Halve(_OneOut):
    """`out` = a factorized reduction; `sources`: the even and the odd pixels, after the activation."""

    sources: tuple[str, ...]
    convs: tuple[nn.Conv2d, ...]
    norm: nn.BatchNorm2d
    part: Part | None

    def run(self, values: Values, scales: Scales) -> None:
        halves = [F.conv2d(values[s], conv.weight) for s, conv in zip(self.sources, self.convs, strict=True)]
        parts = () if self.part is None else (self.part,)
        values[self.out] = normed(torch.cat(halves, 1), self.norm, parts, scales)


@dataclass(frozen=True, eq=False)
class Pool(_OneOut):
    """`out` = the average of `source` over the odd window about each pixel, without what is beyond the border.

    As a convolution with ones, whose derivative is the same convolution: torch's kernels for pools take several times
    as long on channels that come last. `constants`: made once for a size.
    """

    source: str
    module: nn.AvgPool2d
    constants: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.source,)

    def run(self, values: Values, scales: Scales) -> None:
        x = values[self.source]
        if torch._C._are_functorch_transforms_active():
            values[self.out] = self.module(x)
            return
        key = (x.shape[1:], x.dtype, x.device)
        if key not in self.constants:
            side = self.module.kernel_size
            assert isinstance(side, int)  # the planner has looked
            ones = torch.ones(x.shape[1], 1, side, side, dtype=x.dtype, device=x.device)
            seen = F.conv2d(torch.ones_like(x[:1, :1].detach()), ones[:1], padding=ones.shape[2] // 2)
            self.constants[key] = ones, 1 / seen
        ones, share = self.constants[key]
        values[self.out] = Box.apply(x, ones) * share  # type: ignore[no-untyped-call]  # torch's own


@dataclass(frozen=True, eq=False)
class Sum(_OneOut):
    """`out` = sum of the values, each times its mixing weight (None: as it is); those without one come first.

    `whole`: the weighted ones as one function, with fewer passes over them in the backward pass, on a GPU; where the
    values have one dtype, as all have but under autocast.
    """

    terms: tuple[tuple[str, Part | None], ...]
    whole: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(value for value, _ in self.terms)

    def run(self, values: Values, scales: Scales) -> None:
        alike = len({values[value].dtype for value in self.sources}) == 1
        if self.whole and alike and not torch._C._are_functorch_transforms_active():
            values[self.out] = self._whole(values, scales)
            return
        (value, part), *rest = self.terms
        total = values[value] if part is None else scales.one(part) * values[value]
        for value, part in rest:
            x = values[value]
            total = total + x if part is None else torch.addcmul(total, x, scales.one(part))
        values[self.out] = total

    def _whole(self, values: Values, scales: Scales) -> Tensor:
        plain = [values[value] for value, part in self.terms if part is None]
        weighed = [(values[value], scales.one(part)) for value, part in self.terms if part is not None]
        total = sum(plain[1:], start=plain[0]) if plain else None
        if not weighed:
            assert total is not None  # a sum has terms
            return total
        found: Tensor = WeightedSum.apply(total, *(x for pair in weighed for x in pair))  # type: ignore[no-untyped-call]  # torch's own
        return found


def normed(x: Tensor, norm: nn.BatchNorm2d, parts: tuple[Part, ...], scales: Scales) -> Tensor:
    """A batch norm by the statistics of the batch, times the weights of `parts`, each over an equal part of the
    channels (none: as it is).
    """
    scale = scales.vector(parts, x.shape[1] // len(parts)).to(norm_dtype(x)) if parts else None
    return F.batch_norm(x, None, None, scale, None, True, 0.0, norm.eps)


def norm_dtype(x: Tensor) -> torch.dtype:
    """Of the scale of a norm: float32 for half precision."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def every_second(x: Tensor, shift: int) -> Tensor:
    """Every second pixel, from the first or the second on; an odd size ends with zeros for the second.

    >>> every_second(torch.arange(9.0).view(1, 1, 3, 3), 0).flatten().tolist()
    [0.0, 2.0, 6.0, 8.0]
    >>> every_second(torch.arange(9.0).view(1, 1, 3, 3), 1).flatten().tolist()
    [4.0, 0.0, 0.0, 0.0]
    """
    x = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:] if shift else x
    return x[:, :, ::2, ::2]


def blocks(x: Tensor, size: int) -> Tensor:
    """Images whose sides `size` divides -> size**2 times as many small ones, of every size-th pixel (space to batch):
    a convolution dilated by `size` is a plain one on them. (batch, channels, height, width) -> (size**2 * batch,
    channels, height / size, width / size), channels last.

    >>> blocks(torch.arange(4.0).view(1, 1, 2, 2), 2).flatten().tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    n, c, height, width = x.shape
    h, w = height // size, width // size
    rows = x.permute(0, 2, 3, 1).reshape(n, h, size, w, size, c).permute(2, 4, 0, 1, 3, 5)
    return rows.reshape(size * size * n, h, w, c).permute(0, 3, 1, 2)


def unblocked(x: Tensor, size: int) -> Tensor:
    """The inverse of `blocks`.

    >>> x = torch.arange(32.0).view(1, 2, 4, 4)
    >>> torch.equal(unblocked(blocks(x, 2), 2), x)
    True
    """
    m, c, h, w = x.shape
    n = m // size**2
    rows = x.permute(0, 2, 3, 1).reshape(size, size, n, h, w, c).permute(2, 3, 0, 4, 1, 5)
    return rows.reshape(n, h * size, w * size, c).permute(0, 3, 1, 2)


def last_reads(steps: Sequence[FusedStep], keep: str) -> list[tuple[str, ...]]:
    """For each step: the values that no later one reads, but for `keep`."""
    last = {source: k for k, step in enumerate(steps) for source in (*step.outs, *step.sources)}
    rows: list[list[str]] = [[] for _ in steps]
    for value, k in last.items():
        if value != keep:
            rows[k].append(value)
    return [tuple(row) for row in rows]
