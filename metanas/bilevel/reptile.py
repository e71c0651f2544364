"""Reptile: what every task starts from moves toward where the tasks end.

    theta_0 = start(outer);  theta_K after K steps of the rule
    gradient = (d start / d outer)' (theta_0 - theta_K)

For `start = outer["theta0"]` this is theta0 - theta_K: with SGD(lr=e) outside, theta0 += e (theta_K - theta0). It is no
gradient of the outer loss; it sees outer variables through the start alone, so any other is refused.

Source: Nichol, Achiam, Schulman 2018, arXiv:1803.02999.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from metanas.bilevel.estimator import Estimator, Hypergradient, sound, unmeasured
from metanas.bilevel.gradients import gradient_of, held_slope
from metanas.bilevel.problem import Bilevel, descend, persists
from metanas.bilevel.reading import refuse_unread
from metanas.bilevel.trees import Tree, axpy, dot, norm
from metanas.errors import BilevelError


@dataclass(frozen=True)
class Reptile(Estimator):
    """The way from the end of the inner steps back to their start, pulled back to the outer variables.

    Args:
        steps: inner steps, >= 1.

    Raises:
        BilevelError: steps < 1; on the call, where the start does not read an outer variable.

    >>> from metanas.bilevel import SGD, Bilevel
    >>> loss = lambda theta, outer, batch: ((theta["w"] - batch) ** 2).sum() / 2
    >>> problem = Bilevel(loss, loss, start=lambda theta, outer, batch: outer["theta0"], rule=SGD(lr=0.5))
    >>> Reptile(steps=2)(problem, {}, {"theta0": {"w": torch.zeros(1)}}, torch.ones(1), torch.ones(1)).gradient
    {'theta0': {'w': tensor([-0.7500])}}
    """

    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise BilevelError(f"steps must be >= 1, got {self.steps}")

    @property
    def descends(self) -> bool:
        return True

    def estimate(
        self,
        problem: Bilevel,
        theta: Tree,
        outer: Tree,
        inner_batch: Any,
        outer_batch: Any,
        *,
        memory: Tree | None,
        carry: Tree,
        generator: torch.Generator | None,
    ) -> Hypergradient:
        def begun(outer: Tree) -> Tree:
            return problem.start(theta, outer, inner_batch)

        refuse_unread(outer, [begun], "Reptile sees outer variables through the start alone")
        here = begun(outer)
        end, after, slope = descend(
            replace(problem, start=persists), here, outer, inner_batch, memory, self.steps, held_slope
        )
        way = axpy(-1.0, end, here)

        def pulled(outer: Tree) -> tuple[Tensor, tuple[()]]:
            return dot(way, begun(outer)), ()

        gradient, _, _ = gradient_of(pulled, outer)
        loss = problem.outer_loss(end, outer, outer_batch)
        return Hypergradient(
            gradient=gradient,
            outer_loss=loss,
            stationarity=norm(slope),
            residual=unmeasured(loss),
            curvature=unmeasured(loss),
            converged=sound(loss, gradient),
            theta=end,
            memory=after,
        )
