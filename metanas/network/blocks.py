"""The modules that operations are made of. Shapes: images (batch, channels, height, width), rows (batch, features)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metanas.errors import SpaceError, nearest
from metanas.space import Op

Phase = Literal["search", "scratch"]
"""What a network is built for: a search over it, or training from scratch."""

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}

AFFINE: dict[str, dict[Phase, bool | None]] = {
    "batch": {"search": True, "scratch": True},
    "batch_cell": {"search": False, "scratch": True},
    "batch_search": {"search": False, "scratch": None},
}
"""Whether a batch norm has a scale and a shift; None: there is no norm."""


def activation(name: str) -> nn.Module:
    """The activation of that name; raises SpaceError for an unknown one."""
    if name not in ACTIVATIONS:
        raise SpaceError(f"activation {name!r}{nearest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def norm(name: str, channels: int, phase: Phase, *, rows: bool = False) -> list[nn.Module]:
    """No or one batch norm, of images or of rows. A search uses batch statistics everywhere: tracked ones raise under
    `torch.func.grad`.
    """
    if not name:
        return []
    if name not in AFFINE:
        raise SpaceError(f"norm {name!r}{nearest(name, AFFINE)}")
    affine = AFFINE[name][phase]
    if affine is None:
        return []
    kind = nn.BatchNorm1d if rows else nn.BatchNorm2d
    return [kind(channels, affine=affine, track_running_stats=phase == "scratch")]


class Conv(nn.Conv2d):
    """A square convolution that keeps the size at stride 1 where the kernel is odd; `bias`: False where a norm follows
    and would cancel it.
    """

    def __init__(self, channels: int, width: int, op: Op, *, bias: bool, stride: int | None = None) -> None:
        padding = op.dilation * (op.kernel - 1) // 2
        super().__init__(channels, width, op.kernel, stride or op.stride, padding, op.dilation, op.groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return pointwise(self, x) if self.kernel_size == (1, 1) else super().forward(x)


def pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1x1 convolution with its stride, of the pixels that it reads, taken first: the same numbers.

    With a stride inside, the gradient of the weights for channels-last images with two to six channels writes beyond
    its memory on CPUs that have AVX2 and no AVX-512 (oneDNN in torch 2.13): the process is aborted, sooner or later.
    """
    down, across = conv.stride
    return F.conv2d(x[:, :, ::down, ::across], conv.weight, conv.bias, groups=conv.groups)


class Zero(nn.Module):
    """Zeros of the shape that an operation with this stride would give: never `x * 0`, which keeps NaN."""

    def __init__(self, width: int | None, stride: int) -> None:
        super().__init__()
        self.width, self.stride = width, stride

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, *space = x.shape
        return x.new_zeros(batch, self.width or channels, *(-(-n // self.stride) for n in space))


class FactorizedReduce(nn.Module):
    """Halves height and width without losing every other pixel: two 1x1 convolutions with stride 2, one shifted
    (DARTS).
    """

    def __init__(self, channels: int, width: int, op: Op, phase: Phase) -> None:
        super().__init__()
        half = width // 2
        self.even = nn.Conv2d(channels, half, 1, 2, bias=False)
        self.odd = nn.Conv2d(channels, width - half, 1, 2, bias=False)
        self.norm = nn.Sequential(*norm(op.norm, width, phase))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        shifted = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]  # an odd size needs the border; an even one never reads it
        y: Tensor = self.norm(torch.cat([pointwise(self.even, x), pointwise(self.odd, shifted)], 1))
        return y


class Residual(nn.Module):
    """NAS-Bench-201's reduction block: two pre-activated 3x3 convolutions, the first with a stride, beside a pooled
    1x1. An odd size is rounded up, as by the convolution: the last window of the pool holds what is there.
    """

    def __init__(self, channels: int, width: int, op: Op, phase: Phase) -> None:
        super().__init__()
        first = Conv(channels, width, op, bias=not op.norm)
        second = Conv(width, width, op, bias=not op.norm, stride=1)
        self.body = nn.Sequential(
            activation(op.activation), first, *norm(op.norm, width, phase),
            activation(op.activation), second, *norm(op.norm, width, phase),
        )  # fmt: skip
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(op.stride, ceil_mode=True), nn.Conv2d(channels, width, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x) + self.shortcut(x)
        return y


class ElasticConv(nn.Module):
    """A convolution, norm and activation that can be narrower than built, its first channels shared by all widths.

    `forward(x, width=w)` computes `w` channels; `forward(x, mask=m)` computes all and scales each by m (channels,). The
    input may be as narrow as it likes. A depthwise one is as wide as its input. (Once-for-all, Cai et al., ICLR 2020,
    arXiv:1908.09791; masks: FBNetV2.)
    """

    def __init__(self, channels: int, width: int, op: Op, phase: Phase, *, depthwise: bool = False) -> None:
        super().__init__()
        if op.groups != 1:
            raise SpaceError(f"{op.kind}: groups must be 1, got {op.groups}; a slice would cut through groups")
        conv = Conv(1 if depthwise else channels, width, op, bias=False)
        self.weight, self.op, self.depthwise = conv.weight, op, depthwise
        self.active = activation(op.activation or "relu")
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        tracked = phase == "scratch"
        self.mean: Tensor | None
        self.variance: Tensor | None
        self.register_buffer("mean", torch.zeros(width) if tracked else None)
        self.register_buffer("variance", torch.ones(width) if tracked else None)

    def forward(self, x: Tensor, width: int | None = None, mask: Tensor | None = None) -> Tensor:
        channels, op = x.shape[1], self.op
        out = channels if self.depthwise else width or self.weight.shape[0]
        weight = self.weight[:out] if self.depthwise else self.weight[:out, :channels]
        groups = channels if self.depthwise else 1
        z = F.conv2d(x, weight, None, op.stride, op.dilation * (op.kernel - 1) // 2, op.dilation, groups)
        mean = None if self.mean is None else self.mean[:out]
        variance = None if self.variance is None else self.variance[:out]
        now = self.training or mean is None
        z = F.batch_norm(z, mean, variance, self.scale[:out], self.shift[:out], now)
        y: Tensor = self.active(z)
        return y if mask is None else y * mask.view(1, -1, 1, 1)


class ElasticLinear(nn.Linear):
    """A linear map of rows that can be narrower than built, its first features shared by all widths.

    `forward(x, width=w)` computes `w` features; `forward(x, mask=m)` computes all and scales each by m (features,). The
    input may be as narrow as it likes.
    """

    def forward(self, x: Tensor, width: int | None = None, mask: Tensor | None = None) -> Tensor:
        out = width or self.out_features
        y = F.linear(x, self.weight[:out, : x.shape[-1]], self.bias[:out])
        return y if mask is None else y * mask


class SqueezeExcite(nn.Module):
    """Every channel scaled by a number between 0 and 1, made of the means of all (Hu et al., CVPR 2018,
    arXiv:1709.01507):

        s = sigmoid(up(relu(down(mean of x))))    down: channels -> squeezed, up: squeezed -> channels

    The input may be narrower than built: it has the first channels.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(channels, squeezed), nn.Linear(squeezed, channels)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        inner = F.relu(F.linear(x.mean((-2, -1)), self.down.weight[:, :channels], self.down.bias))
        scale = F.linear(inner, self.up.weight[:channels], self.up.bias[:channels])
        return x * torch.sigmoid(scale)[:, :, None, None]


class GlobalMean(nn.AdaptiveAvgPool2d):
    """The mean over all positions, with the positions kept as one: `nn.AdaptiveAvgPool2d(1)`, which computes the same
    and has no rule under `vmap` for channels-last images."""

    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((-2, -1), keepdim=True)


class Narrow(nn.Module):
    """The first `width` channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x[:, : self.width]


class Rest(nn.Module):
    """The last `width` channels; with a stride the maximum over windows as large (PC-DARTS), an odd size rounded up."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.width, self.stride = width, stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, -self.width :]
        return x if self.stride == 1 else F.max_pool2d(x, self.stride, ceil_mode=True)


class Shuffle(nn.Module):
    """Channels dealt out: the first of each of `groups` equal groups, then the second of each (ShuffleNet)."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, *space = x.shape
        return x.view(batch, self.groups, channels // self.groups, *space).transpose(1, 2).flatten(1, 2)
