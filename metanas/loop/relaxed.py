"""Omega on its way into the losses and back: a relaxation is drawn outside, and its gradient is pulled through.

mix = relax(omega, noise)                            once per step, with a graph from omega
h = estimator(problem, theta, {"mix": mix}, ...)     knows nothing of omega
d omega = (d mix / d omega)' h.gradient + d penalty / d omega
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metanas.bilevel import TorchStep, torch_step
from metanas.controllers import GradientController, Omega


class Relaxed:
    """Owns omega, its optimiser, and the mixing weights drawn last."""

    def __init__(self, controller: GradientController, omega: Omega) -> None:
        self.controller = controller
        self.omega: Omega = {name: x.clone().requires_grad_() for name, x in omega.items()}
        self.step: TorchStep = torch_step(controller.optimizer(self.omega.values()), self.omega)
        self.mix: dict[str, Tensor] = {}
        self.progress = 0.0
        self.generator = torch.Generator()

    def begin(self, progress: float, generator: torch.Generator) -> None:
        """A new step: where the search stands, and the source of the step's noise."""
        self.progress, self.generator = progress, generator

    def draw(self) -> dict[str, Any]:
        """The outer variables of the bilevel problem, drawn anew."""
        with torch.enable_grad():
            self.mix = self.controller.relax(self.omega, progress=self.progress, generator=self.generator)
        return {"mix": self.mix}

    def pull_back(self, gradient: dict[str, Any]) -> None:
        """Moves omega by the hypergradient of the mixing weights drawn last."""
        names = list(self.omega)
        leaves = [self.omega[name] for name in names]
        with torch.enable_grad():
            penalty = self.controller.penalty(self.omega)
            targets = [self.mix[name] for name in names]
            cotangents = [gradient["mix"][name] for name in names]
            if penalty.requires_grad:
                targets, cotangents = [*targets, penalty], [*cotangents, torch.ones_like(penalty)]
            rows = torch.autograd.grad(targets, leaves, cotangents)
        self.step(dict(zip(names, rows, strict=True)))
