"""The one loop: estimate, move the outer variables, move theta; for every mode.

    for (train_batches, inner_batch, outer_batch) in batches:
        h = estimator(problem, theta, outer, inner_batch, outer_batch)
        outer_step(h.gradient)
        advance(h, train_batches)          train theta | adopt h.theta | nothing (restart)
        yield h

With `order="advance"` theta moves first and the estimate is taken where it arrived: DARTS's first order, GDAS. With
`order="outer"` the outer variables move first: DARTS's second order, DrNAS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Literal, TypeAlias

import torch

from metanas.bilevel.capture import CapturedEstimator
from metanas.bilevel.estimator import Estimator, Hypergradient
from metanas.bilevel.problem import Bilevel
from metanas.bilevel.trees import Tree
from metanas.errors import BilevelError

Advance: TypeAlias = Callable[[Hypergradient | None, Any], Any]
"""(the hypergradient at hand, train_batches) -> anything; moves theta in place."""


def no_memory() -> None:
    """Every estimate starts with the rule's own fresh memory.

    >>> no_memory()
    """


def solve(
    problem: Bilevel,
    estimator: Estimator | CapturedEstimator,
    theta: Tree,
    outer: Tree | Callable[[], Tree],
    batches: Iterable[tuple[Any, Any, Any]],
    *,
    outer_step: Callable[[Tree], Any],
    advance: Advance,
    order: Literal["outer", "advance"] = "outer",
    memory: Callable[[], Tree | None] = no_memory,
    carry: Tree = (),
    generator: torch.Generator | None = None,
    strict: bool = False,
) -> Iterator[Hypergradient]:
    """Solves a bilevel problem, one `Hypergradient` per outer iteration; stops when the batches do.

    Args:
        theta: the live tree that `advance` writes into; {} where `problem.start` makes it.
        outer: the live tree that `outer_step` writes into; or a function that returns it, called once per iteration
            just before the estimate: mixing weights that a relaxation draws anew.
        batches: (train_batches, inner_batch, outer_batch); the first goes to `advance`, as it is.
        outer_step: gradient -> moves the outer variables (`torch_step`).
        advance: (hypergradient, train_batches) -> moves theta (`train`, `adopt`, `restart`). With `order="advance"` it
            gets the hypergradient of the iteration before, None at first.
        order: who moves first.
        memory: called before every estimate, for the rule's memory at theta (`memory_of`).
        carry: the estimator's own state to begin with, where a solve goes on.
        generator: handed to the estimator at every call, for one that draws.
        strict: raise at the first estimate that has not converged.

    Raises:
        BilevelError: order is neither "outer" nor "advance"; and what the estimator raises.

    >>> from metanas.bilevel import SGD, Unrolled, adopt, torch_step
    >>> loss = lambda theta, outer, batch: ((theta["w"] - outer["target"]) ** 2).sum() / 2
    >>> goal = lambda theta, outer, batch: ((theta["w"] - 2.0) ** 2).sum() / 2
    >>> theta, outer = {"w": torch.zeros(1)}, {"target": torch.zeros(1)}
    >>> step = torch_step(torch.optim.SGD(outer.values(), lr=1.0), outer)
    >>> problem = Bilevel(loss, goal, rule=SGD(lr=0.5))
    >>> batches = [(None, None, None)] * 30
    >>> for h in solve(problem, Unrolled(2), theta, outer, batches, outer_step=step, advance=adopt(theta)):
    ...     pass
    >>> outer
    {'target': tensor([2.])}
    """
    if order not in ("outer", "advance"):
        raise BilevelError(f'order must be "outer" or "advance", got {order!r}')
    return _iterations(
        problem,
        partial(estimator, generator=generator, strict=strict),
        theta,
        outer,
        batches,
        outer_step,
        advance,
        order == "advance",
        memory,
        carry,
    )


def _iterations(
    problem: Bilevel,
    estimate: Callable[..., Hypergradient],
    theta: Tree,
    outer: Tree | Callable[[], Tree],
    batches: Iterable[tuple[Any, Any, Any]],
    outer_step: Callable[[Tree], Any],
    advance: Advance,
    advance_first: bool,
    memory: Callable[[], Tree | None],
    carry: Tree,
) -> Iterator[Hypergradient]:
    h: Hypergradient | None = None
    for train_batches, inner_batch, outer_batch in batches:
        if advance_first:
            advance(h, train_batches)
        now = outer() if callable(outer) else outer
        h = estimate(problem, theta, now, inner_batch, outer_batch, memory=memory(), carry=carry)
        carry = h.carry
        outer_step(h.gradient)
        if not advance_first:
            advance(h, train_batches)
        yield h
