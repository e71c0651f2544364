"""One step ahead, with the mixed second derivative by a central difference: second-order DARTS, and SAMA.

    g  = d L / d theta (theta)                          inner loss
    w' = rule(theta, memory, g)                         one step ahead
    v  = d F / d w' (w')                                outer loss
    u  = (d rule / d g)' v                              SGD: u = -lr v;  Adam: v through Adam's preconditioner
    e  = epsilon / |u|
    L+- = d L / d outer (theta +- e u)
    gradient = d F / d outer (w')  +  v' d rule / d outer  +  (L+ - L-) / 2e

With `SGD(lr, momentum, weight_decay)` and the optimiser's own momentum this is DARTS's second order (its theta -+
0.01 v/|v| is theta +- e u); with `Adam` it is SAMA. Five gradients, no second derivative, memory of one backward pass.

The difference needs smooth losses. On a supernet with ReLU and batch statistics, at epsilon 0.01, the second-order
term can be off by its own size, while with softplus the error falls as epsilon squared: where in doubt compare with
`Unrolled(1)`, which is exact. Both losses must see the same noise on every call.

Sources: Liu, Simonyan, Yang 2019, arXiv:1806.09055, eq. 7-8; Choe et al. 2023, arXiv:2310.05674 (SAMA).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from metanas.bilevel.estimator import Estimator, Hypergradient, sound, unmeasured
from metanas.bilevel.gradients import gradient_of, held_slope
from metanas.bilevel.problem import Bilevel, descend, persists
from metanas.bilevel.reading import refuse_marked
from metanas.bilevel.trees import Tree, add, axpy, dot, norm
from metanas.errors import BilevelError


@dataclass(frozen=True)
class FiniteDifference(Estimator):
    """The gradient through one inner step, with a central difference in place of the second derivative.

    Args:
        epsilon: the length of the difference in theta, > 0 (DARTS: 0.01).

    Raises:
        BilevelError: epsilon <= 0.

    >>> from metanas.bilevel import SGD, Bilevel
    >>> loss = lambda theta, outer, batch: ((theta["w"] - outer["target"]) ** 2).sum() / 2
    >>> goal = lambda theta, outer, batch: theta["w"].sum()
    >>> problem = Bilevel(loss, goal, rule=SGD(lr=0.5))
    >>> FiniteDifference()(problem, {"w": torch.zeros(1)}, {"target": torch.ones(1)}, None, None).gradient
    {'target': tensor([0.5000])}
    """

    epsilon: float = 0.01

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise BilevelError(f"epsilon must be > 0, got {self.epsilon}")

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
        inner_loss, rule, batch = problem.inner_loss, problem.rule, problem.batch_at(inner_batch, 0)
        assert inner_loss is not None  # Estimator.__call__ has refused it

        def start(outer: Tree) -> Tree:
            return problem.start(theta, outer, inner_batch)

        here = start(outer)
        memory = rule.init(here) if memory is None else memory
        on = replace(problem, start=persists)
        ahead, after, inner = descend(on, here, outer, inner_batch, memory, 1, held_slope)

        def valued(x: tuple[Tree, Tree]) -> tuple[Tensor, tuple[()]]:
            return problem.outer_loss(x[0], x[1], outer_batch), ()

        read: list[list[bool]] = []  # by each of the gradients below, whether it does not read the outer variables
        count = len(tree_leaves(outer))

        def note(marks: list[bool]) -> None:
            read.append(marks[-count:])

        (v, direct), loss, _ = gradient_of(valued, (ahead, outer), unread=note)

        def stepped(x: tuple[Tree, Tree]) -> tuple[Tensor, tuple[()]]:  # v . rule(start, g): its slopes in g and outer
            return dot(v, rule(start(x[1]), memory, x[0], x[1])[0]), ()

        (u, ruled), _, _ = gradient_of(stepped, (inner, outer), unread=note)
        size = norm(u)
        epsilon = self.epsilon / torch.where(size > 0, size, torch.ones_like(size))

        def side(sign: int) -> Tree:
            def moved(outer: Tree) -> tuple[Tensor, tuple[()]]:
                return inner_loss(axpy(sign * epsilon, u, start(outer)), outer, batch), ()

            return gradient_of(moved, outer, unread=note)[0]

        mixed = tree_map(lambda plus, minus: (plus - minus) / (2 * epsilon), side(+1), side(-1))
        _refuse_unread(outer, read)
        gradient = add(add(direct, ruled), mixed)
        return Hypergradient(
            gradient=gradient,
            outer_loss=loss,
            stationarity=norm(inner),
            residual=unmeasured(loss),
            curvature=unmeasured(loss),
            converged=sound(loss, gradient),
            theta=ahead,
            memory=after,
        )


def _refuse_unread(outer: Tree, read: list[list[bool]]) -> None:
    """Raises where none of the gradients reads an outer variable; `read` is empty where autograd could not tell."""
    if read:
        unread = [all(marks) for marks in zip(*read, strict=True)]
        refuse_marked(outer, unread, "neither the losses nor the start nor the rule depend on it")
