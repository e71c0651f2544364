"""Reverse mode through the inner steps with little memory: what the graph would have kept is computed again.

    back(steps i .. j, state at i, cotangent at j):
        few steps   one graph over them, and its gradient
        else        the state in the middle by running forward;  back(middle .. j);  back(i .. middle)

At most the graph of `most` steps and log2(steps / most) states are held at a time. On top of the unroll it costs one
forward run of all steps, and of half of them for each halving. The gradient is that of the unroll.

Sources: Griewank 1992, Optimization Methods and Software 1; Chen, Xu, Zhang, Guestrin 2016, arXiv:1604.06174, 4.3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from metanas.bilevel.estimator import Hypergradient, sound, unmeasured
from metanas.bilevel.gradients import Slope, gradient_of, held_slope, slope
from metanas.bilevel.problem import Bilevel, descend, persists
from metanas.bilevel.trees import Tree, add, dot, norm

State = tuple[Tree, Tree]
"""(theta, memory) between two inner steps."""


class Steps:
    """The inner steps of one estimate, from any state, forward and backward."""

    def __init__(self, problem: Bilevel, outer: Tree, batch: Any, most: int) -> None:
        self.problem, self.outer, self.batch, self.most = replace(problem, start=persists), outer, batch, most
        self.unread: list[bool] | None = None

    def note(self, marks: list[bool]) -> None:
        """Keeps of each outer variable, the last of the marked leaves, whether no part has read it so far."""
        outer = marks[-len(tree_leaves(self.outer)) :]
        before = self.unread or [True] * len(outer)
        self.unread = [a and b for a, b in zip(before, outer, strict=True)]

    def run(self, first: int, last: int, state: State, outer: Tree, slope: Slope) -> tuple[State, Tree | None]:
        """The state after the steps `first` to `last` - 1, and the last inner gradient."""
        batch_at = self.problem.batch_at
        shifted = replace(self.problem, batch_at=lambda batch, k: batch_at(batch, k + first))
        theta, memory, gradient = descend(shifted, state[0], outer, self.batch, state[1], last - first, slope)
        return (theta, memory), gradient

    def back(self, first: int, last: int, state: State, pull: list[Tensor]) -> tuple[list[Tensor], Tree]:
        """The cotangent of the state before step `first` and the gradient in the outer variables, from the cotangent
        `pull` of the state after step `last` - 1; cotangents are of the floating leaves."""
        if last - first <= self.most:
            numbers, rebuilt = floating(state)

            def weighed(x: tuple[list[Tensor], Tree]) -> tuple[Tensor, tuple[()]]:
                end, _ = self.run(first, last, rebuilt(x[0]), x[1], slope)
                return dot(pull, floating(end)[0]), ()

            (before, outer), _, _ = gradient_of(weighed, (numbers, self.outer), unread=self.note)
            return before, outer
        middle = (first + last) // 2
        reached, _ = self.run(first, middle, state, self.outer, held_slope)
        pull, late = self.back(middle, last, reached, pull)
        pull, early = self.back(first, middle, state, pull)
        return pull, add(early, late)


def floating(state: State) -> tuple[list[Tensor], Any]:
    """The floating leaves of a state, and the way back from such a list to a state; counters stay as they are."""
    leaves, spec = tree_flatten(state)

    def rebuilt(numbers: list[Tensor]) -> State:
        rest = iter(numbers)
        whole: State = tree_unflatten([next(rest) if x.is_floating_point() else x for x in leaves], spec)
        return whole

    return [x for x in leaves if x.is_floating_point()], rebuilt


def through_checkpoints(
    problem: Bilevel,
    theta: Tree,
    outer: Tree,
    inner_batch: Any,
    outer_batch: Any,
    memory: Tree | None,
    steps: int,
    most: int,
    refuse: Callable[[list[bool]], None],
) -> Hypergradient:
    """What `Unrolled(steps)` finds, with the graph of at most `most` steps at a time; see the module's head.

    Args:
        refuse: is told which outer variables are not read, where autograd can tell.
    """

    def begun(outer: Tree) -> State:
        start = problem.start(theta, outer, inner_batch)
        return start, problem.rule.init(start) if memory is None else memory

    first, walk = begun(outer), Steps(problem, outer, inner_batch, most)
    end, gradient = walk.run(0, steps, first, outer, held_slope)
    numbers, rebuilt = floating(end)

    def valued(x: tuple[list[Tensor], Tree]) -> tuple[Tensor, tuple[()]]:
        return problem.outer_loss(rebuilt(x[0])[0], x[1], outer_batch), ()

    (pull, total), loss, _ = gradient_of(valued, (numbers, outer), unread=walk.note)
    pull, along = walk.back(0, steps, first, pull)
    total = add(total, along)

    def started(outer: Tree) -> tuple[Tensor, tuple[()]]:
        return dot(pull, floating(begun(outer))[0]), ()

    if tree_leaves(pull):
        total = add(total, gradient_of(started, outer, unread=walk.note)[0])
    if walk.unread is not None:
        refuse(walk.unread)
    return Hypergradient(
        gradient=total,
        outer_loss=loss,
        stationarity=unmeasured(loss) if gradient is None else norm(gradient),
        residual=unmeasured(loss),
        curvature=unmeasured(loss),
        converged=sound(loss, total),
        theta=end[0],
        memory=end[1],
    )
