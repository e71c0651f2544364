"""Reverse-mode gradients of scalar functions of trees, at the three prices that the estimators pay.

    gradient_of   the outermost gradient: nothing differentiates through it, no graph is built: the price of autograd
    slope         the inner gradient that an unrolled step differentiates through: a graph of the backward pass
    held_slope    the inner gradient of first-order methods, a constant: taken at cut-off inputs, no graph

`torch.func.grad` always builds the graph of its own backward pass. On a small supernet that is 1.4 times the time of
`torch.autograd.grad`, and `vjp` told not to build it is at 1.2 (`benchmarks/bilevel_gradients.py`); but under `vmap`
only the transforms work. So the outermost gradient is autograd's own, and `vjp` where a transform is active.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.func import grad, vjp
from torch.utils._pytree import tree_flatten, tree_unflatten

from metanas.bilevel.trees import Tree, detach

Loss: TypeAlias = Callable[[Tree, Tree, Any], Tensor]
"""(theta, outer, batch) -> a 0-d tensor."""
Slope: TypeAlias = Callable[[Loss, Tree, Tree, Any], Tree]
"""(loss, theta, outer, batch) -> the gradient of the loss in theta, a tree like theta."""


def gradient_of(
    function: Callable[[Tree], tuple[Tensor, Any]], at: Tree, *, unread: Callable[[list[bool]], None] | None = None
) -> tuple[Tree, Tensor, Any]:
    """The gradient of `function` at a tree, with its value and what else it computed.

    The result is a constant: differentiating through it gives zero without a word, so use `slope` for that.

    Args:
        function: tree -> (0-d tensor, auxiliary tree of tensors).
        at: where.
        unread: is told which leaves the function does not read, where autograd can tell: not under a transform.

    Returns:
        (gradient like `at`, value, auxiliary), all constants; a leaf that the function does not read gets zeros.

    >>> gradient_of(lambda x: ((x["w"] ** 2).sum(), x["w"].max()), {"w": torch.tensor([1.0, 2.0])})
    ({'w': tensor([2., 4.])}, tensor(5.), tensor(2.))
    """
    if torch._C._are_functorch_transforms_active():
        viewed: Any = vjp(function, at, has_aux=True)
        value, pull, aux = viewed
        (gradient,) = pull(torch.ones_like(value), retain_graph=False, create_graph=False)
        return gradient, value, aux
    leaves, spec = tree_flatten(at)
    leaves = [x.detach().requires_grad_() for x in leaves]  # each its own, even where one tensor stands at two places
    with torch.enable_grad():
        value, aux = function(tree_unflatten(leaves, spec))
    reads = value.requires_grad  # any leaf at all
    found = torch.autograd.grad(value, leaves, allow_unused=True) if reads else [None] * len(leaves)
    if unread is not None:
        unread([x is None for x in found])
    whole = [torch.zeros_like(at) if x is None else x for x, at in zip(found, leaves, strict=True)]
    return tree_unflatten(whole, spec), *detach((value, aux))


def slope(loss: Loss, theta: Tree, outer: Tree, batch: Any) -> Tree:
    """The gradient of the loss in theta, itself differentiable in theta and in the outer variables.

    >>> slope(lambda t, o, b: o * (t ** 2).sum(), torch.tensor([1.0, 2.0]), torch.tensor(3.0), None)
    tensor([ 6., 12.])
    """
    return grad(loss)(theta, outer, batch)


def held_slope(loss: Loss, theta: Tree, outer: Tree, batch: Any) -> Tree:
    """The same numbers as `slope`, held constant: its derivatives are zero.

    >>> held_slope(lambda t, o, b: o * (t ** 2).sum(), torch.tensor([1.0, 2.0]), torch.tensor(3.0), None)
    tensor([ 6., 12.])
    """
    theta, outer = detach((theta, outer))  # or a transform around would record this forward pass too
    return gradient_of(lambda t: (loss(t, outer, batch), ()), theta)[0]
