"""Omega on its way into the losses and back: a relaxation is drawn outside, and its gradient is pulled through.

    mix = relax(omega, noise)                            before each estimate, with a graph from omega
    h = estimator(problem, theta, {"mix": mix}, ...)     knows nothing of omega
    d omega = (d mix / d omega)' (h.gradient + d charge / d mix) + d penalty / d omega

The training of the weights draws its own mix, a constant: as in DrNAS, it sees other noise than the structure does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metanas.bilevel import TorchStep, torch_step
from metanas.controllers import GradientController, Omega
from metanas.loop.pricing import Price


class Relaxed:
    """Owns omega, its optimiser, the noise of the step, and the mixing weights drawn last.

    Args:
        omega: where it starts, {name: tensor}; it is copied to `device`.
        clip: greatest norm of the gradient in omega; None: never clipped. `step.report` has the norm before it.
        price: what the mixing weights are charged for their cost; None: nothing.
    """

    def __init__(
        self,
        controller: GradientController,
        omega: Omega,
        device: torch.device,
        *,
        clip: float | None = None,
        price: Price | None = None,
    ) -> None:
        self.controller, self.price = controller, price
        self.omega: Omega = {name: x.detach().to(device, copy=True).requires_grad_() for name, x in omega.items()}
        self.step: TorchStep = torch_step(controller.optimizer(self.omega.values()), self.omega, clip=clip)
        self.mix: dict[str, Tensor] = {}
        self.progress = 0.0
        self.generator = torch.Generator(device)

    def begin(self, progress: float, seed: int) -> None:
        """A new step: where the search stands (0 to 1), and the seed of the step's noise."""
        self.progress = progress
        self.generator.manual_seed(seed)

    def draw(self) -> dict[str, Any]:
        """The outer variables of the bilevel problem, drawn anew, with a graph from omega."""
        with torch.enable_grad():
            self.mix = self.controller.relax(self.omega, progress=self.progress, generator=self.generator)
        return {"mix": self.mix}

    @torch.no_grad()
    def constant(self) -> dict[str, Any]:
        """The same without a graph, for the training of the weights."""
        self.mix = self.controller.relax(self.omega, progress=self.progress, generator=self.generator)
        return {"mix": self.mix}

    def pull_back(self, gradient: dict[str, Any]) -> None:
        """Moves omega by the hypergradient of the mixing weights of `draw`; what does not enter them stays."""
        learned = [name for name, weights in self.mix.items() if weights.requires_grad]
        targets = [self.mix[name] for name in learned]
        cotangents = [gradient["mix"][name] for name in learned]
        if self.price is not None:
            charged = self.price.gradient(self.mix)
            cotangents = [g + charged[n] if n in charged else g for n, g in zip(learned, cotangents, strict=True)]
        with torch.enable_grad():
            penalty = self.controller.penalty(self.omega, progress=self.progress)
        if penalty.requires_grad:
            targets.append(penalty)
            cotangents.append(torch.ones_like(penalty))
        rows = torch.autograd.grad(targets, list(self.omega.values()), cotangents, allow_unused=True)
        self.step.apply(rows, None)
