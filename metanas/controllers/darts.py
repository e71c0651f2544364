"""DARTS: mixing weights are a softmax of omega.

    weights(choice) = softmax(omega[choice])
    penalty         = beta * progress * mean over choices of log sum exp omega     (beta-DARTS; 0 by default)
    omega          <- Adam on d (outer loss + penalty) / d omega
    derive            the strongest option of each choice, the strongest k inputs of each node

Liu, Simonyan, Yang: DARTS, ICLR 2019, arXiv:1806.09055. First or second order is the estimator's business. The penalty:
Ye, Li, Li, Chen, Ouyang: beta-DARTS, CVPR 2022, arXiv:2203.01665. Its gradient in omega is the softmax itself: what is
strong is held back, so that no operation runs away early on.
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
        beta: of the penalty at the end of the search, from 0 linearly (beta-DARTS: 50).
    """

    lr: float = 3e-3
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 1e-3
    scale: float = 1e-3
    beta: float = 0.0

    @property
    def fixed(self) -> bool:
        return False

    def start(self, space: Space, *, generator: torch.Generator) -> Omega:
        return small_random(space, self.scale, generator=generator)

    def relax(self, omega: Omega, *, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        return by_rows(_softmax, omega)

    def mean(self, omega: Omega) -> dict[str, Tensor]:
        return by_rows(_softmax, omega)

    def penalty(self, omega: Omega, *, progress: float) -> Tensor:
        if not self.beta or not omega:
            return torch.zeros(())
        rows = [torch.logsumexp(row, -1) for row in omega.values()]
        return self.beta * progress * torch.stack(rows).mean()

    def optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, self.lr, self.betas, weight_decay=self.weight_decay, fused=True)

    def preview(self, space: Space, omega: Omega) -> Architecture | None:
        return strongest(space, self.expected(omega))

    def derive(self, space: Space, omega: Omega, *, evaluate: Evaluate, generator: torch.Generator) -> Architecture:
        return strongest(space, self.expected(omega))


def _softmax(rows: Tensor) -> Tensor:
    return torch.softmax(rows, -1)
