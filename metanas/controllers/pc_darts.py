"""PC-DARTS: DARTS on a part of the channels, with weights for the inputs of a node.

    supernet           every candidate sees 1 / K of the channels, the others pass by: `space.partial_channels`
    weights(choice)    = softmax(omega[choice])     of one of n candidates, and (edge normalisation) of k of n inputs
    omega             <- Adam
    derive               the operation with the largest weight of each choice; of a node's inputs the k with the largest
                         product of the input's weight and its operation's

Xu, Xie, Zhang, Chen, Qi, Tian, Xiong: PC-DARTS, ICLR 2020, arXiv:1907.05737. A step takes less memory and time, and
what passes by dampens the advantage that skips and pools have early on. Operations that see a part of the channels say
less about an input, so its weight is learned for itself. The paper learns the weights of the supernet alone for the
first 15 of 50 epochs (`Schedule.warmup`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from metanas.controllers.base import Evaluate, GradientController, Omega, by_rows, small_random
from metanas.controllers.derivation import strongest
from metanas.errors import SpaceError
from metanas.space import Architecture, Space, partial_channels


@dataclass(frozen=True, kw_only=True)
class PcDarts(GradientController):
    """Softmax relaxation of operations and inputs, on partial channels.

    Args:
        parts: K, of which one goes through the operations (paper: 4).
        lr, betas, weight_decay: of Adam on omega (paper: 6e-4; larger suits a search of minutes).
        scale: of the random start.

    Raises:
        SpaceError: fewer than two parts.
    """

    parts: int = 4
    lr: float = 6e-3
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 1e-3
    scale: float = 1e-3

    def __post_init__(self) -> None:
        if self.parts < 2 or self.parts != int(self.parts):
            raise SpaceError(f"parts must be a whole number >= 2, got {self.parts}")

    @property
    def fixed(self) -> bool:
        return False

    def supernet_space(self, space: Space) -> Space:
        return partial_channels(space, of=int(self.parts))

    def start(self, space: Space, *, generator: torch.Generator) -> Omega:
        omega = small_random(space, self.scale, generator=generator)
        inputs = [choice for choice in space.choices if choice.name not in omega]
        edges = {c.name: self.scale * torch.randn(len(c.candidates), generator=generator) for c in inputs}
        return {choice.name: (omega | edges)[choice.name] for choice in space.choices}

    def relax(self, omega: Omega, *, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        return self.mean(omega)

    def mean(self, omega: Omega) -> dict[str, Tensor]:
        return by_rows(lambda rows: torch.softmax(rows, -1), omega)

    def penalty(self, omega: Omega, *, progress: float) -> Tensor:
        return torch.zeros(())

    def optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, self.lr, self.betas, weight_decay=self.weight_decay, fused=True)

    def preview(self, space: Space, omega: Omega) -> Architecture | None:
        return strongest(space, self.expected(omega))

    def derive(self, space: Space, omega: Omega, *, evaluate: Evaluate, generator: torch.Generator) -> Architecture:
        return strongest(space, self.expected(omega))
