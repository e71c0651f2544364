"""The problem: two losses, where the inner one begins, and how it steps. The modes are values of this one type.

    theta_0 = start(theta, outer, batch)
    theta_k = rule(theta_{k-1}, memory, d inner_loss / d theta, outer)
    wanted  : d / d outer of outer_loss(theta_K(outer), outer, batch)

`start` removes the modes:
    persists                                    architecture search, data cleaning: theta goes on from where it was
    lambda theta, outer, batch: outer["theta0"] MAML; the head alone is ANIL
    prototypes of the batch, with zero steps    prototypical networks
    h(outer)                                    a hypernetwork
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_leaves

from metanas.bilevel.gradients import Loss, Slope
from metanas.bilevel.rules import SGD, Rule
from metanas.bilevel.trees import Tree
from metanas.errors import BilevelError

PLAIN = SGD(lr=0.1)
"""What a problem looks ahead with where nothing else is said."""


def persists(theta: Tree, outer: Tree, batch: Any) -> Tree:
    """The inner problem begins where theta is.

    >>> persists({"w": 1}, {}, None)
    {'w': 1}
    """
    return theta


def same(batch: Any, step: int) -> Any:
    """Every inner step sees the whole inner batch.

    >>> same((1, 2), 3)
    (1, 2)
    """
    return batch


@dataclass(frozen=True)
class Bilevel:
    """min over outer of outer_loss(theta*(outer), outer), where theta*(outer) descends on inner_loss.

    Args:
        inner_loss: (theta, outer, batch) -> 0-d tensor. Pure: noise travels in the batch or in the outer variables, no
            buffer is written. None where the start alone is the answer (zero steps).
        outer_loss: (theta, outer, batch) -> 0-d tensor, pure too.
        start: (theta, outer, inner_batch) -> theta_0.
        rule: what estimators look ahead or unroll with; how theta is really trained is the loop's business.
        batch_at: (inner_batch, step) -> the minibatch of that inner step, where step is an int from 0.

    >>> import torch
    >>> fit = lambda theta, outer, batch: ((theta["w"] - batch) ** 2).sum()
    >>> ridge = lambda theta, outer, batch: fit(theta, outer, batch) + outer["decay"] * (theta["w"] ** 2).sum()
    >>> Bilevel(ridge, fit).rule
    SGD(lr=0.1, momentum=0.0, weight_decay=0.0, nesterov=False)
    """

    inner_loss: Loss | None
    outer_loss: Loss
    start: Callable[[Tree, Tree, Any], Tree] = persists
    rule: Rule = PLAIN
    batch_at: Callable[[Any, int], Any] = same


def descend(
    problem: Bilevel, theta: Tree, outer: Tree, batch: Any, memory: Tree | None, steps: int, slope: Slope
) -> tuple[Tree, Tree, Tree | None]:
    """Starts the inner problem and takes `steps` steps of its rule, differentiably.

    Args:
        memory: the rule's memory at the start; None: the rule's own `init`, or () where steps is 0.
        slope: how the inner gradient is taken, `gradients.slope` or `gradients.held_slope`.

    Returns:
        (theta, memory, the last inner gradient taken, or None where steps is 0).

    >>> import torch
    >>> from metanas.bilevel.gradients import slope
    >>> loss = lambda theta, outer, batch: ((theta - batch) ** 2).sum() / 2
    >>> problem = Bilevel(loss, loss, rule=SGD(lr=0.5))
    >>> descend(problem, torch.zeros(1), {}, torch.ones(1), None, 2, slope)[0]
    tensor([0.7500])
    """
    theta = problem.start(theta, outer, batch)
    began, kind = theta, _kind(theta)
    if memory is None:
        memory = problem.rule.init(theta) if steps else ()
    gradient = None
    for k in range(steps):
        assert problem.inner_loss is not None  # Estimator.__call__ has refused it
        gradient = slope(problem.inner_loss, theta, outer, problem.batch_at(batch, k))
        theta, memory = problem.rule(theta, memory, gradient, outer)
        if _kind(theta) != kind:
            _refuse_change(began, theta)
    return theta, memory, gradient


def _kind(theta: Tree) -> list[tuple[torch.Size, torch.dtype]]:
    return [(x.shape, x.dtype) for x in tree_leaves(theta)]


def _refuse_change(before: Tree, after: Tree) -> None:
    """Broadcasting and promotion would go on with another theta, without a word."""
    was, now = (
        {keystr(path): f"{x.dtype} of shape {tuple(x.shape)}" for path, x in tree_flatten_with_path(tree)[0]}
        for tree in (before, after)
    )
    name = next(name for name in {**was, **now} if was.get(name) != now.get(name))
    raise BilevelError(
        f"a step of the rule made theta{name} {now.get(name)} out of {was.get(name)}; the rule's numbers and memory "
        "must fit theta's shapes and dtypes"
    )
