"""DARTS-PT with fixed omega: a supernet of uniform mixtures, derived by perturbation.

    weights(choice) = 1 / candidates        throughout: only the supernet's weights are trained
    derive            the options whose absence raises the supernet's loss most, see `perturbation`

Wang, Cheng, Chen, Tang, Hsieh: Rethinking architecture selection in differentiable NAS, ICLR 2021, arXiv:2108.04392;
there "DARTS-PT (fix alpha)". It takes about half the time of DARTS, since nothing is differentiated for omega.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from metanas.controllers.base import Evaluate, GradientController, Omega, by_rows, small_random
from metanas.controllers.perturbation import most_missed
from metanas.space import Architecture, Space


@dataclass(frozen=True, kw_only=True)
class DartsPt(GradientController):
    """Uniform relaxation, perturbation-based derivation. There is nothing to set."""

    @property
    def fixed(self) -> bool:
        return True

    def start(self, space: Space, *, generator: torch.Generator) -> Omega:
        return small_random(space, 0.0, generator=generator)

    def relax(self, omega: Omega, *, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        return by_rows(lambda rows: torch.softmax(rows, -1), omega)

    def mean(self, omega: Omega) -> dict[str, Tensor]:
        return by_rows(lambda rows: torch.softmax(rows, -1), omega)

    def penalty(self, omega: Omega, *, progress: float) -> Tensor:
        return torch.zeros(())

    def optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, fused=True)

    def preview(self, space: Space, omega: Omega) -> Architecture | None:
        return None

    def evaluates(self, space: Space) -> int:
        return sum(len(choice.options) for choice in space.choices if choice.take == 1)

    def derive(self, space: Space, omega: Omega, *, evaluate: Evaluate, generator: torch.Generator) -> Architecture:
        return most_missed(space, self.expected(omega), evaluate)
