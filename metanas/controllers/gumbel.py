"""Gumbel-softmax: mixing weights are a draw of one candidate, softened by a temperature that falls (SNAS).

    weights(choice) = softmax((log softmax(omega) + g) / temperature),  g standard Gumbel
    temperature     = from its start to its end, linearly over the search
    omega          <- Adam
    derive            the most probable option of each choice

Xie, Zheng, Liu, Lin: SNAS, ICLR 2019, arXiv:1812.09926; the distribution: Jang, Gu, Poole, ICLR 2017, arXiv:1611.01144,
and Maddison, Mnih, Teh, ICLR 2017, arXiv:1611.00712. As the temperature falls the weights become one-hot, a candidate's
turn coming with probability softmax(omega): the mixture that is searched approaches the networks that are derived.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from metanas.controllers.base import Evaluate, GradientController, Omega, by_rows, small_random
from metanas.controllers.derivation import strongest
from metanas.errors import SpaceError
from metanas.space import Architecture, Space


@dataclass(frozen=True, kw_only=True)
class GumbelSoftmax(GradientController):
    """Relaxed categorical draws.

    Args:
        lr, betas: of Adam on omega.
        start_temperature, end_temperature: between which it falls; 0.1 is nearly one-hot.
        scale: of the random start.

    Raises:
        SpaceError: a temperature that is not positive.
    """

    lr: float = 3e-2
    betas: tuple[float, float] = (0.5, 0.999)
    start_temperature: float = 1.0
    end_temperature: float = 0.1
    scale: float = 1e-3

    def __post_init__(self) -> None:
        check_temperatures(self.start_temperature, self.end_temperature)

    @property
    def fixed(self) -> bool:
        return False

    def start(self, space: Space, *, generator: torch.Generator) -> Omega:
        return small_random(space, self.scale, generator=generator)

    def relax(self, omega: Omega, *, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        temperature = self.start_temperature + progress * (self.end_temperature - self.start_temperature)

        return by_rows(lambda rows: gumbel_softmax(rows, temperature, generator=generator), omega)

    def mean(self, omega: Omega) -> dict[str, Tensor]:
        """The probability of each candidate: the mean of the weights where the temperature is 0."""
        return by_rows(lambda rows: torch.softmax(rows, -1), omega)

    def penalty(self, omega: Omega, *, progress: float) -> Tensor:
        return torch.zeros(())

    def optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, self.lr, self.betas, fused=True)

    def preview(self, space: Space, omega: Omega) -> Architecture | None:
        return strongest(space, self.expected(omega))

    def derive(self, space: Space, omega: Omega, *, evaluate: Evaluate, generator: torch.Generator) -> Architecture:
        return strongest(space, self.expected(omega))


def gumbel_softmax(rows: Tensor, temperature: float, *, generator: torch.Generator) -> Tensor:
    """A relaxed draw of one of n over the last axis, differentiable in the logits `rows`.

    `torch.nn.functional.gumbel_softmax` takes no generator.

    >>> draw = gumbel_softmax(torch.tensor([0.0, 50.0]), 1.0, generator=torch.Generator().manual_seed(0))
    >>> draw.round()
    tensor([0., 1.])
    """
    exponential = torch.empty_like(rows).exponential_(generator=generator)  # minus the log of it is a Gumbel variate
    gumbel = -exponential.clamp(min=torch.finfo(rows.dtype).tiny).log()
    return torch.softmax((torch.log_softmax(rows, -1) + gumbel) / temperature, -1)


def check_temperatures(*temperatures: float) -> None:
    """Raises SpaceError for a temperature that is not positive."""
    if not min(temperatures) > 0:
        raise SpaceError(f"temperatures must be > 0, got {' and '.join(map(str, temperatures))}")


def straight_through(soft: Tensor) -> Tensor:
    """Exactly one-hot of the largest over the last axis, with the derivative of `soft`.

    >>> straight_through(torch.tensor([0.25, 0.75]))
    tensor([0., 1.])
    """
    hard = torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0)
    return hard + (soft - soft.detach())
