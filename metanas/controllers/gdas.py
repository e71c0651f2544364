"""GDAS: one candidate of each choice is drawn and runs; the gradient reaches the weights of all.

    soft     = softmax((log softmax(omega) + g) / temperature),  g standard Gumbel
    weights  = one-hot of the largest of soft, with the derivative of soft     (straight through)
    omega   <- Adam
    derive     the most probable option of each choice

Dong, Yang: Searching for a robust neural architecture in four GPU hours, CVPR 2019, arXiv:1910.04465. A step costs one
path of the supernet and not all of them. Which candidate runs is read from the device at every step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from metanas.controllers.base import Evaluate, GradientController, Omega, by_rows, small_random
from metanas.controllers.derivation import strongest
from metanas.controllers.gumbel import check_temperatures, gumbel_softmax
from metanas.space import Architecture, Space


@dataclass(frozen=True, kw_only=True)
class Gdas(GradientController):
    """Hard draws, straight-through gradients.

    Args:
        lr, betas, weight_decay: of Adam on omega (paper: 3e-4; larger suits a search of minutes).
        start_temperature, end_temperature: between which it falls linearly (paper: 10 to 0.1).
        scale: of the random start.

    Raises:
        SpaceError: a temperature that is not positive.
    """

    lr: float = 3e-2
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float = 1e-3
    start_temperature: float = 10.0
    end_temperature: float = 0.1
    scale: float = 1e-3

    def __post_init__(self) -> None:
        check_temperatures(self.start_temperature, self.end_temperature)

    @property
    def fixed(self) -> bool:
        return False

    @property
    def single_path(self) -> bool:
        return True

    def start(self, space: Space, *, generator: torch.Generator) -> Omega:
        return small_random(space, self.scale, generator=generator)

    def relax(self, omega: Omega, *, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        temperature = self.start_temperature + progress * (self.end_temperature - self.start_temperature)

        def drawn(rows: Tensor) -> Tensor:
            soft = gumbel_softmax(rows, temperature, generator=generator)
            hard = torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0)
            return hard + (soft - soft.detach())  # exactly one-hot

        return by_rows(drawn, omega)

    def expected(self, omega: Omega) -> dict[str, Tensor]:
        with torch.no_grad():
            return by_rows(lambda rows: torch.softmax(rows, -1), omega)

    def penalty(self, omega: Omega, *, progress: float) -> Tensor:
        return torch.zeros(())

    def optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, self.lr, self.betas, weight_decay=self.weight_decay, fused=True)

    def preview(self, space: Space, omega: Omega) -> Architecture | None:
        return strongest(space, self.expected(omega))

    def derive(self, space: Space, omega: Omega, *, evaluate: Evaluate, generator: torch.Generator) -> Architecture:
        return strongest(space, self.expected(omega))
