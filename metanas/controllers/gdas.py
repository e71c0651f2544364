"""GDAS: one candidate of each choice is drawn and runs; the gradient reaches the weights of all.

    soft     = a draw of `gumbel`
    weights  = one-hot of the largest of soft, with the derivative of soft     (straight through)
    omega   <- Adam
    derive     the most probable option of each choice

Dong, Yang: Searching for a robust neural architecture in four GPU hours, CVPR 2019, arXiv:1910.04465. A step costs one
path of the supernet and not all of them. Which candidate runs is read from the device at every step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metanas.controllers.base import Omega
from metanas.controllers.gumbel import GumbelSoftmax, straight_through


@dataclass(frozen=True, kw_only=True)
class Gdas(GumbelSoftmax):
    """Hard draws, straight-through gradients; arguments as of `GumbelSoftmax`, the temperatures those of the paper."""

    start_temperature: float = 10.0
    end_temperature: float = 0.1

    @property
    def single_path(self) -> bool:
        return True

    def relax(self, omega: Omega, *, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        drawn = super().relax(omega, progress=progress, generator=generator)
        return {name: straight_through(soft) for name, soft in drawn.items()}  # exactly one-hot
