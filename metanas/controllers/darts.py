"""DARTS: mixing weights are a softmax of omega.

    weights(choice) = softmax(omega[choice])
    omega          <- Adam on d outer loss / d omega
    derive            the strongest option of each choice, the strongest k inputs of each node

Liu, Simonyan, Yang: DARTS, ICLR 2019, arXiv:1806.09055. First or second order is the estimator's business.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from metanas.controllers.base import Evaluate, GradientController, Omega, by_rows, small_random
from metanas.controllers.derivation import strongest
from metanas.space import Architecture, Space


@dataclass(frozen=True, kw_only=True)
class Darts(GradientController):
    """Softmax relaxation. The defaults are the paper's but for `lr`, which suits a search of minutes (paper: 3e-4).

    Args:
        lr, betas, weight_decay: of Adam on omega.
        scale: of the random start.
    """

    lr: float = 3e-3
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 1e-3
    scale: float = 1e-3

    @property
    def fixed(self) -> bool:
        return False

    def start(self, space: Space, *, generator: torch.Generator) -> Omega:
        return small_random(space, self.scale, generator=generator)

    def relax(self, omega: Omega, *, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        return by_rows(_softmax, omega)

    def expected(self, omega: Omega) -> dict[str, Tensor]:
        with torch.no_grad():
            return by_rows(_softmax, omega)

    def penalty(self, omega: Omega) -> Tensor:
        return torch.zeros(())

    def optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, self.lr, self.betas, weight_decay=self.weight_decay, fused=True)

    def preview(self, space: Space, omega: Omega) -> Architecture | None:
        return strongest(space, self.expected(omega))

    def derive(self, space: Space, omega: Omega, *, evaluate: Evaluate, generator: torch.Generator) -> Architecture:
        return strongest(space, self.expected(omega))


def _softmax(rows: Tensor) -> Tensor:
    return torch.softmax(rows, -1)
