"""Omega on its way into the losses and back: a relaxation is drawn outside, and its gradient is pulled through.

    mix = relax(omega, noise)                            before each estimate, with a graph from omega
    h = estimator(problem, theta, {"mix": mix}, ...)     knows nothing of omega
    d omega = (d mix / d omega)' (h.gradient + d charge / d mix) + d penalty / d omega

The training of the weights draws its own mix, a constant: as in DrNAS, it sees other noise than the structure does.
What a search that shrinks has let go of is out of reach on the way: `live` puts omega there at `shrinking.GONE`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metanas.bilevel import TorchStep, torch_step
from metanas.controllers import GradientController, Omega
from metanas.loop import shrinking
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
        self.masks: dict[str, Tensor] = {}  # choice -> which candidates are left, where not all are
        self.progress = 0.0
        self.generator = torch.Generator(device)

    def begin(self, progress: float, seed: int) -> None:
        """A new step: where the search stands (0 to 1), and the seed of the step's noise."""
        self.progress = progress
        self.generator.manual_seed(seed)

    def draw(self) -> dict[str, Any]:
        """The outer variables of the bilevel problem, drawn anew, with a graph from omega."""
        with torch.enable_grad():
            self.mix = self._relaxed()
        return {"mix": self.mix}

    def live(self, omega: Omega | None = None) -> Omega:
        """Omega, or another one, with what is gone out of reach; with a graph."""
        omega = self.omega if omega is None else omega
        return {
            name: torch.where(self.masks[name], x, shrinking.GONE) if name in self.masks else x
            for name, x in omega.items()
        }

    def expected(self) -> dict[str, Tensor]:
        """The mean of the mixing weights; that of what is gone is exactly 0."""
        return self._masked(self.controller.expected(self.live()))

    def _relaxed(self) -> dict[str, Tensor]:
        drawn = self.controller.relax(self.live(), progress=self.progress, generator=self.generator)
        return self._masked(drawn)

    def _masked(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: w * self.masks[name] if name in self.masks else w for name, w in weights.items()}

    @torch.no_grad()
    def constant(self) -> dict[str, Any]:
        """The same without a graph, for the training of the weights."""
        self.mix = self._relaxed()
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
            penalty = self.controller.penalty(self.live(), progress=self.progress)
        if penalty.requires_grad:
            targets.append(penalty)
            cotangents.append(torch.ones_like(penalty))
        rows = torch.autograd.grad(targets, list(self.omega.values()), cotangents, allow_unused=True)
        self.step.apply(rows, None)
