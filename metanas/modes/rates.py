"""Learning rates of the inner steps, learned: one for all, for each tensor, for each step, or for both.

    w_j after step k  =  w_j - exp(log_jk) * direction_j

Rates are seen through the steps that use them: `Unrolled` learns them, estimators that look at the losses alone refuse
them. Rates for each step belong to a training that begins anew at every outer step; where theta persists with the
memory of its rule, the steps go on counting and all get the last rate.

Sources: Maclaurin, Duvenaud, Adams 2015, arXiv:1502.03492 (a rate for each layer and step); Micaelli, Storkey 2021,
arXiv:2007.09250.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from metanas.bilevel import Tree, per_step
from metanas.errors import BilevelError, nearest
from metanas.modes.decays import spread
from metanas.modes.part import Part

PerRate = Literal["all", "layer", "step", "layer and step"]


def rate(
    theta: Tree, *, per: PerRate = "all", steps: int | None = None, start: float = 0.1, name: str = "rate"
) -> Part:
    """Learned learning rates of the inner rule, in place of its own.

    Args:
        theta: the tree that is stepped, for its names, dtype and device; it is not kept.
        per: "all": one; "layer": one for each tensor; "step": one for each inner step; "layer and step": both.
        steps: with a rate for each step, how many, >= 1; later steps take the last one. Else None.
        start: every rate at first, > 0.
        name: of the part.

    Returns:
        A part with {"log": logarithms of the rates} and `lr`: 0-d or (steps,), or a tree like theta of such tensors.
        Shown: the rate, or the least, the geometric mean and the greatest.

    Raises:
        BilevelError: an unknown `per`, a start that is not > 0 and finite, steps that are missing, < 1 or not asked
            for, or a theta without tensors.

    >>> import torch
    >>> from metanas.bilevel import SGD
    >>> theta = {"weight": torch.ones(2), "bias": torch.ones(1)}
    >>> part = rate(theta, per="layer and step", steps=2, start=0.1)
    >>> own = {"log": {"weight": torch.tensor([1.0, 0.5]).log(), "bias": torch.tensor([0.1, 0.2]).log()}}
    >>> rule = SGD(lr=part.lr)
    >>> theta, memory = rule(theta, rule.init(theta), theta, own)
    >>> theta
    {'weight': tensor([0., 0.]), 'bias': tensor([0.9000])}
    """
    leaves = tree_leaves(theta)
    if per not in get_args(PerRate):
        raise BilevelError(
            f"per must be one of {', '.join(get_args(PerRate))}, got {per!r}{nearest(per, get_args(PerRate))}"
        )
    if not 0 < start < math.inf:
        raise BilevelError(f"start must be > 0 and finite, got {start}")
    if not leaves:
        raise BilevelError("theta has no tensors to step; give the parameters of the network")
    stepwise = per in ("step", "layer and step")
    if stepwise and (steps is None or steps < 1):
        raise BilevelError(f'per="{per}" needs steps >= 1, got {steps}')
    if not stepwise and steps is not None:
        raise BilevelError(f'per="{per}" has no rate for each step, got steps={steps}; leave steps out')
    shape = () if steps is None else (steps,)

    def logs(p: Tensor) -> Tensor:
        return p.new_full(shape, math.log(start))

    layered = per in ("layer", "layer and step")
    start_at = tree_map(logs, theta) if layered else logs(leaves[0])
    return Part(name, {"log": start_at}, lambda own: spread("rate", own["log"]), lr=_stepwise if stepwise else _plain)


def _plain(own: Tree) -> Tree:
    return tree_map(lambda log: log.exp(), own["log"])


def _stepwise(own: Tree) -> Callable[[Tensor], Any]:
    # Adam counts its steps in float32, which is no index
    return lambda step: tree_map(lambda log: per_step(log)(step.long()).exp(), own["log"])
