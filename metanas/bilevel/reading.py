"""Which outer variables a function reads: autograd knows, and looks at no number.

An estimator that sees outer variables through some functions alone would give a silent zero for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.func import vjp
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_leaves

from metanas.bilevel.trees import Tree
from metanas.errors import BilevelError


def refuse_unread(outer: Tree, functions: Iterable[Callable[[Tree], Tree]], reason: str) -> None:
    """Raises a BilevelError that names the first outer variable which none of the functions reads.

    Args:
        outer: tree of floating tensors.
        functions: outer -> a tree of tensors, each.
        reason: why that matters, the first half of the message's second sentence.

    >>> refuse_unread({"a": torch.ones(1), "b": torch.ones(1)}, [lambda outer: outer["a"] * 2], "only this is seen")
    Traceback (most recent call last):
    metanas.errors.BilevelError: outer['b'] is not read: only this is seen, so its gradient would be 0; use Unrolled...
    """
    unread = [True] * len(tree_leaves(outer))
    for function in functions:
        unread = [before and now for before, now in zip(unread, _unread(function, outer), strict=True)]
    refuse_marked(outer, unread, reason)


def _unread(function: Callable[[Tree], Tree], outer: Tree) -> list[bool]:
    """For each leaf whether the function's value hangs on it: asked of autograd while `vjp` is recording, since under
    `vmap` no tensor of its own can be made to require a gradient."""
    marks: list[bool] = []

    def recorded(outer: Tree) -> Tensor:
        leaves = tree_leaves(outer)
        values = [x for x in tree_leaves(function(outer)) if x.requires_grad]
        ones = [torch.ones_like(x) for x in values]
        found = torch.autograd.grad(values, leaves, ones, allow_unused=True) if values else [None] * len(leaves)
        marks.extend(x is None for x in found)
        return torch.zeros(())

    with torch.enable_grad():
        vjp(recorded, outer)
    return marks


def refuse_marked(outer: Tree, unread: list[bool], reason: str) -> None:
    """Raises for the first leaf that is marked.

    >>> refuse_marked({"a": torch.ones(1)}, [False], "")
    """
    if any(unread):
        path = tree_flatten_with_path(outer)[0][unread.index(True)][0]
        raise BilevelError(
            f"outer{keystr(path)} is not read: {reason}, so its gradient would be 0; use Unrolled, which sees the "
            "losses, the start and the rule, or leave the variable out"
        )
