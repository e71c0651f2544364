"""REINFORCE: a policy draws one candidate of each choice, and what does well becomes more probable.

    x(choice)   one-hot, drawn with probability p = softmax(omega); its derivative in omega is that of log p
    omega    <- Adam on (loss of the supernet's path - baseline) d log p(x) / d omega + d penalty / d omega
    penalty     entropy * mean over choices of (log n - entropy of p)
    derive      the most probable option of each choice

Pham, Guan, Zoph, Le, Dean: Efficient neural architecture search via parameter sharing, ICML 2018, arXiv:1802.03268,
with a table of probabilities in place of its recurrent policy. The supernet trains on one drawn path a step; omega
learns from the value of the loss on the outer split, by `bilevel.ScoreFunction`, which keeps the baseline.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from metanas.controllers.base import Evaluate, GradientController, Omega, by_rows, small_random
from metanas.controllers.derivation import strongest
from metanas.errors import SpaceError
from metanas.space import Architecture, Space


@dataclass(frozen=True, kw_only=True)
class Reinforce(GradientController):
    """A categorical policy for each choice.

    Args:
        lr, betas: of Adam on omega.
        baseline: decay of the running mean of the loss, in [0, 1).
        entropy: weight of the penalty that keeps the policy from deciding too early.
        scale: of the random start.

    Raises:
        SpaceError: a baseline out of range.
    """

    lr: float = 3e-2
    betas: tuple[float, float] = (0.5, 0.999)
    baseline: float = 0.95
    entropy: float = 1e-3
    scale: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 <= self.baseline < 1:
            raise SpaceError(f"baseline must be in [0, 1), got {self.baseline}")

    @property
    def fixed(self) -> bool:
        return False

    @property
    def single_path(self) -> bool:
        return True

    @property
    def scored(self) -> float | None:
        return self.baseline

    def start(self, space: Space, *, generator: torch.Generator) -> Omega:
        return small_random(space, self.scale, generator=generator)

    def relax(self, omega: Omega, *, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        def drawn(rows: Tensor) -> Tensor:
            score = torch.log_softmax(rows, -1)
            noise = torch.empty_like(rows).exponential_(generator=generator)  # minus its log is a Gumbel variate
            place = (score.detach() - noise.clamp(min=torch.finfo(rows.dtype).tiny).log()).argmax(-1, keepdim=True)
            return torch.zeros_like(rows).scatter(-1, place, 1.0) + (score - score.detach())

        return by_rows(drawn, omega)

    def mean(self, omega: Omega) -> dict[str, Tensor]:
        return by_rows(lambda rows: torch.softmax(rows, -1), omega)

    def penalty(self, omega: Omega, *, progress: float) -> Tensor:
        if not self.entropy or not omega:
            return torch.zeros(())
        sure = [math.log(len(row)) - torch.special.entr(torch.softmax(row, -1)).sum() for row in omega.values()]
        return self.entropy * torch.stack(sure).mean().clamp(min=0.0)  # rounding may leave a uniform policy below 0

    def optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, self.lr, self.betas, fused=True)

    def preview(self, space: Space, omega: Omega) -> Architecture | None:
        return strongest(space, self.expected(omega))

    def derive(self, space: Space, omega: Omega, *, evaluate: Evaluate, generator: torch.Generator) -> Architecture:
        return strongest(space, self.expected(omega))
