"""A module of the user's own as a fixed part of every network: a pretrained backbone around a searched cell.

    ops = {**OPS, "backbone": frozen(backbone)}
    space = Space(chain(("features", op("backbone")), ("cell", cell), ("head", op("classifier", width=NEEDED))))

Each network holds a copy of its own, whose parameters want no gradient and which stays in evaluation mode, so that
tracked norms neither move nor raise under `torch.func`. Gradients pass through it to what stands before.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from metanas.network.blocks import Phase
from metanas.network.ops import Maker, Shape
from metanas.space import Op


class Frozen(nn.Module):
    """A copy of `module` that is never trained."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.module(x)
        return y


@dataclass(frozen=True, eq=False)
class FrozenMaker:
    """What `frozen` gives; `fingerprint` tells whether two hold the same weights."""

    module: nn.Module

    def __call__(self, op: Op, shape: Shape, phase: Phase) -> nn.Module:
        return Frozen(shadow(self.module) if torch.empty(0).is_meta else self.module)

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name, value in self.module.state_dict().items():
            digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:12]


def frozen(module: nn.Module) -> Maker:
    """A maker of copies of `module` that keep its weights: never trained, always in evaluation mode.

    Args:
        module: from one value to one value; it is not changed. Its weights are those of every network, in the search
            and from scratch, and are kept in every export.

    >>> from metanas.network import OPS, supernet
    >>> from metanas.space import NEEDED, Space, chain, one_of, op
    >>> backbone = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    >>> cell = one_of("cell", {"conv": op("preact_conv", kernel=3, activation="relu"), "skip": op("skip")})
    >>> space = Space(chain(("features", op("backbone")), ("cell", cell), ("head", op("classifier", width=NEEDED))))
    >>> network = supernet(space, (1, 8, 8), 10, ops={**OPS, "backbone": frozen(backbone)})
    >>> sorted({name.split("/")[0].split(".")[0] for name, p in network.named_parameters() if p.requires_grad})
    ['cell', 'head']
    """
    return FrozenMaker(module)


def shadow(module: nn.Module) -> nn.Module:
    """A copy whose tensors have shapes and no memory (meta device); gradients are not copied either.

    >>> {p.device.type for p in shadow(nn.Linear(2, 2)).parameters()}
    {'meta'}
    """
    memo: dict[int, Any] = {id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in module.parameters()}
    memo |= {id(b): b.detach().to("meta") for b in module.buffers()}
    return copy.deepcopy(module, memo)
