"""Gradients from the value of the loss alone, where the outer variables are draws (REINFORCE).

    outer     x, one-hot, drawn with probabilities p(omega); d x_i / d omega is made to be d log p_i / d omega
    gradient  (F(theta, x) - baseline) x        pulled back, it is (F - baseline) d log p(x) / d omega
    baseline  the running mean of F before this call

Its mean over draws is the gradient of the mean of F in omega, whatever the baseline, which only lowers the variance.
Nothing is differentiated but log p, so F may be anything; a step costs one forward pass.

Williams: Simple statistical gradient-following algorithms for connectionist reinforcement learning, Machine Learning
8, 1992; for architectures: Pham, Guan, Zoph, Le, Dean: ENAS, ICML 2018, arXiv:1802.03268.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_map

from metanas.bilevel.estimator import Estimator, Hypergradient, sound, unmeasured
from metanas.bilevel.problem import Bilevel
from metanas.bilevel.trees import Tree
from metanas.errors import BilevelError


@dataclass(frozen=True)
class ScoreFunction(Estimator):
    """The score-function estimate; hand the result's `carry`, the baseline, to the next call (`solve` does).

    The first call with a finite loss has no baseline: its gradient is 0. A loss that is not finite leaves the baseline
    as it is.

    Args:
        decay: of the baseline, in [0, 1).

    Raises:
        BilevelError: a decay out of range.

    >>> from metanas.bilevel import Bilevel
    >>> problem = Bilevel(None, lambda theta, outer, batch: (outer["x"] * batch).sum())
    >>> draw = {"x": torch.tensor([0.0, 1.0])}
    >>> first = ScoreFunction()(problem, {}, draw, None, torch.tensor([1.0, 3.0]))
    >>> ScoreFunction()(problem, {}, draw, None, torch.tensor([1.0, 5.0]), carry=first.carry).gradient
    {'x': tensor([0., 2.])}
    """

    decay: float = 0.95

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise BilevelError(f"decay must be in [0, 1), got {self.decay}")

    @property
    def descends(self) -> bool:
        return False

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
        start = problem.start(theta, outer, inner_batch)
        loss = problem.outer_loss(start, outer, outer_batch)
        baseline = loss
        if isinstance(carry, dict):  # one that is not finite, of a first loss that was not, would stay so for good
            baseline = torch.where(torch.isfinite(carry["baseline"]), carry["baseline"], loss)
        gradient = tree_map(lambda x: (loss - baseline) * x, outer)
        moved = torch.where(torch.isfinite(loss), self.decay * baseline + (1 - self.decay) * loss, baseline)
        blank = unmeasured(loss)
        memory = () if memory is None else memory
        return Hypergradient(
            gradient, loss, blank, blank, blank, sound(loss, gradient), start, memory, {"baseline": moved}
        )
