"""DrNAS: mixing weights are a sample of a Dirichlet distribution whose concentration is learned.

    concentration(choice) = elu(omega[choice]) + 1
    weights(choice)       ~ Dirichlet(concentration), by its pathwise derivative
    penalty               = anchor / 2 * sum of omega^2              draws the concentrations to 1, where omega is 0
    omega                <- Adam
    derive                  the strongest option of the mean weights

Chen, Wang, Cheng, Tang, Hsieh: DrNAS, ICLR 2021, arXiv:2006.10355. The paper anchors the concentration by an L2
distance; its public code does it by Adam's coupled weight decay on omega, whose gradient, anchor * omega, is that of
the penalty here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metanas.controllers.base import Evaluate, GradientController, Omega, by_rows, small_random
from metanas.controllers.derivation import strongest
from metanas.space import Architecture, Space


@dataclass(frozen=True, kw_only=True)
class DrNas(GradientController):
    """Dirichlet relaxation.

    Args:
        lr, betas: of Adam on omega (paper: 3e-4; larger suits a search of minutes).
        anchor: weight of the penalty that keeps the concentrations near 1 (public code: 1e-3).
        scale: of the random start.
    """

    lr: float = 3e-2
    betas: tuple[float, float] = (0.5, 0.999)
    anchor: float = 1e-3
    scale: float = 1e-3

    @property
    def fixed(self) -> bool:
        return False

    def start(self, space: Space, *, generator: torch.Generator) -> Omega:
        return small_random(space, self.scale, generator=generator)

    def relax(self, omega: Omega, *, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        return by_rows(lambda rows: dirichlet(_concentration(rows), generator=generator), omega)

    def mean(self, omega: Omega) -> dict[str, Tensor]:
        return by_rows(_mean, omega)

    def penalty(self, omega: Omega, *, progress: float) -> Tensor:
        if self.anchor == 0 or not omega:
            return torch.zeros(())
        return self.anchor / 2 * torch.cat([x.flatten() for x in omega.values()]).square().sum()

    def optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, self.lr, self.betas, fused=True)

    def preview(self, space: Space, omega: Omega) -> Architecture | None:
        return strongest(space, self.expected(omega))

    def derive(self, space: Space, omega: Omega, *, evaluate: Evaluate, generator: torch.Generator) -> Architecture:
        return strongest(space, self.expected(omega))


def _concentration(rows: Tensor) -> Tensor:
    return (F.elu(rows) + 1).clamp(min=torch.finfo(rows.dtype).tiny)  # elu reaches -1 exactly, and 0 / 0 is near


def _mean(rows: Tensor) -> Tensor:
    concentration = _concentration(rows)
    return concentration / concentration.sum(-1, keepdim=True)


def dirichlet(concentration: Tensor, *, generator: torch.Generator) -> Tensor:
    """A sample of Dirichlet(concentration) over the last axis, differentiable in the concentration (...,).

    `torch.distributions.Dirichlet.rsample` takes no generator. A Dirichlet sample is a vector of gamma samples over
    their sum, and torch draws those with a pathwise derivative and a generator; the floor keeps samples that underflow
    from 0 / 0. The concentration must be > 0.

    >>> dirichlet(torch.tensor([1e-3, 1e3]), generator=torch.Generator().manual_seed(0)).round()
    tensor([0., 1.])
    """
    floor = torch.finfo(concentration.dtype).tiny
    gamma = torch._standard_gamma(concentration, generator=generator).clamp(min=floor)
    return gamma / gamma.sum(-1, keepdim=True)
