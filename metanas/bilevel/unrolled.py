"""Reverse mode through the start and the steps of the inner problem, and its first-order shadow.

    theta = start(theta, outer)
    repeat steps:  theta, memory = rule(theta, memory, d inner_loss / d theta, outer)
    gradient = d outer_loss(theta(outer), outer) / d outer          by reverse mode through all of it

Truncated: the early steps only move the start, the last `truncate` are differentiated. First order: the same, with each
inner gradient held constant, so that no second derivative is taken; the start and the rule are still differentiated.
For theta0 that is FOMAML, for a structure with zero steps it is first-order DARTS, and it is exact where there is no
inner problem (prototypes).

Sources: Maclaurin, Duvenaud, Adams 2015, arXiv:1502.03492; Franceschi et al. 2017, arXiv:1703.01785 (reverse-HG);
Shaban et al. 2019, arXiv:1810.10667 (truncated); Finn, Abbeel, Levine 2017, arXiv:1703.03400 (MAML, first order).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from metanas.bilevel.checkpointed import through_checkpoints
from metanas.bilevel.estimator import Estimator, Hypergradient, sound, unmeasured
from metanas.bilevel.gradients import Slope, gradient_of, held_slope, slope
from metanas.bilevel.problem import Bilevel, descend, persists
from metanas.bilevel.reading import refuse_marked
from metanas.bilevel.trees import Tree, detach, norm
from metanas.errors import BilevelError


@dataclass(frozen=True)
class Unrolled(Estimator):
    """The exact gradient through `steps` inner steps; memory grows with the steps that are differentiated.

    Args:
        steps: inner steps, >= 0. After many of them at a stable rate this is the gradient of the solved inner problem.
        truncate: how many of the last steps are differentiated, >= 1; None: all.
        checkpoint: the most steps whose graph is held at a time, >= 1: the others are computed again when they are
            needed (`checkpointed`), which saves memory and costs time. None: the whole graph.
        stationary: where the gradient of the *solved* inner problem is wanted: the greatest norm of the last inner
            gradient at which it counts as converged, > 0. None: the gradient of the steps is what is wanted.

    Raises:
        BilevelError: steps < 0, truncate < 1, checkpoint < 1 or stationary <= 0.

    >>> from metanas.bilevel import SGD, Bilevel
    >>> loss = lambda theta, outer, batch: ((theta["w"] - outer["target"]) ** 2).sum() / 2
    >>> goal = lambda theta, outer, batch: theta["w"].sum()
    >>> problem = Bilevel(loss, goal, rule=SGD(lr=0.5))
    >>> h = Unrolled(steps=2)(problem, {"w": torch.zeros(1)}, {"target": torch.ones(1)}, None, None)
    >>> h.gradient, h.outer_loss, h.theta
    ({'target': tensor([0.7500])}, tensor(0.7500), {'w': tensor([0.7500])})
    """

    steps: int
    truncate: int | None = None
    checkpoint: int | None = None
    stationary: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        if self.stationary is not None and not self.stationary > 0:
            raise BilevelError(f"stationary must be > 0 or None, got {self.stationary}")
        if self.truncate is not None and self.truncate < 1:
            raise BilevelError(
                f"truncate must be >= 1 or None, got {self.truncate}; for no inner derivative use FirstOrder"
            )
        if self.checkpoint is not None and self.checkpoint < 1:
            raise BilevelError(f"checkpoint must be >= 1 or None, got {self.checkpoint}")

    @property
    def descends(self) -> bool:
        return self.steps > 0

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
        kept = self.steps if self.truncate is None else min(self.truncate, self.steps)
        skipped, start = self.steps - kept, problem.start
        if skipped:
            theta, memory, _ = descend(problem, theta, outer, inner_batch, memory, skipped, held_slope)
            batch_at = problem.batch_at
            problem = replace(problem, start=persists, batch_at=lambda batch, k: batch_at(batch, k + skipped))
        if self.checkpoint is not None and kept > self.checkpoint:
            refuse = _refusal(outer, whole=problem.start is start)
            h = through_checkpoints(
                problem, theta, outer, inner_batch, outer_batch, memory, kept, self.checkpoint, refuse
            )
        else:
            h = _through(problem, theta, outer, inner_batch, outer_batch, memory, kept, slope, start)
        if self.stationary is None:
            return h
        return h._replace(converged=h.converged & (h.stationarity <= self.stationary))

    def doubts(self, h: Hypergradient) -> str | None:
        found = super().doubts(h)
        if found is None and self.stationary is not None and not float(h.stationarity) <= self.stationary:
            return (
                f"the inner problem is not solved (its gradient has norm {float(h.stationarity):.1e}, allowed: "
                f"{self.stationary:.0e}): take more steps"
            )
        return found


@dataclass(frozen=True)
class FirstOrder(Estimator):
    """`Unrolled` with the inner gradients held constant. With zero steps it costs one plain backward pass.

    Args:
        steps: inner steps, >= 0.

    Raises:
        BilevelError: steps < 0.

    >>> from metanas.bilevel import Bilevel
    >>> loss = lambda theta, outer, batch: (theta["w"] * outer["mix"]).sum()
    >>> h = FirstOrder()(Bilevel(None, loss), {"w": torch.tensor([3.0])}, {"mix": torch.ones(1)}, None, None)
    >>> h.gradient
    {'mix': tensor([3.])}
    """

    steps: int = 0

    def __post_init__(self) -> None:
        _check_steps(self.steps)

    @property
    def descends(self) -> bool:
        return self.steps > 0

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
        return _through(problem, theta, outer, inner_batch, outer_batch, memory, self.steps, held_slope, problem.start)


def _check_steps(steps: int) -> None:
    if steps < 0:
        raise BilevelError(f"steps must be >= 0, got {steps}")


def _refusal(outer: Tree, whole: bool) -> Callable[[list[bool]], None]:
    """Raises for outer variables that are not read: for one where the estimator sees the `whole` problem."""

    def refuse(marks: list[bool]) -> None:
        # An estimator that looks away from the inner loss may see only some of a union's variables, but not none.
        if whole or all(marks):
            refuse_marked(outer, marks, "neither the losses that are looked at nor the start nor the rule depend on it")

    return refuse


def _through(
    problem: Bilevel,
    theta: Tree,
    outer: Tree,
    inner_batch: Any,
    outer_batch: Any,
    memory: Tree | None,
    steps: int,
    slope: Slope,
    start: Callable[[Tree, Tree, Any], Tree],
) -> Hypergradient:
    """`start` is that of the problem before it was truncated."""

    def reached(outer: Tree) -> tuple[Tensor, tuple[Tree, Tree, Tensor]]:
        end, after, gradient = descend(problem, theta, outer, inner_batch, memory, steps, slope)
        loss = problem.outer_loss(end, outer, outer_batch)
        stationarity = unmeasured(loss) if gradient is None else norm(detach(gradient))
        return loss, (end, after, stationarity)

    refuse = _refusal(outer, whole=slope is not held_slope and problem.start is start)
    gradient, loss, (end, after, stationarity) = gradient_of(reached, outer, unread=refuse)
    return Hypergradient(
        gradient=gradient,
        outer_loss=loss,
        stationarity=stationarity,
        residual=unmeasured(loss),
        curvature=unmeasured(loss),
        converged=sound(loss, gradient),
        theta=end,
        memory=after,
    )
