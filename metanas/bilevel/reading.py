"""Which outer variables a function reads: autograd knows, and looks at no number.

An estimator that sees outer variables through some functions alone would give a silent zero for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch.utils._pytree import keystr, tree_flatten, tree_flatten_with_path, tree_leaves, tree_unflatten

from metanas.bilevel.trees import Tree
from metanas.errors import BilevelError


def refuse_unread(outer: Tree, functions: Iterable[Callable[[Tree], Tree]], reason: str) -> None:
    """Raises a BilevelError that names the first outer variable which none of the functions reads.

    Does nothing under a `torch.func` transform, where autograd does not tell.

    Args:
        outer: tree of floating tensors.
        functions: outer -> a tree of tensors, each.
        reason: why that matters, the first half of the message's second sentence.

    >>> refuse_unread({"a": torch.ones(1), "b": torch.ones(1)}, [lambda outer: outer["a"] * 2], "only this is seen")
    Traceback (most recent call last):
    metanas.errors.BilevelError: outer['b'] is not read: only this is seen, so its gradient would be 0; use Unrolled...
    """
    if torch._C._are_functorch_transforms_active():
        return
    leaves, spec = tree_flatten(outer)
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    unread = [True] * len(leaves)
    for function in functions:
        with torch.enable_grad():
            values = [x for x in tree_leaves(function(tree_unflatten(leaves, spec))) if x.requires_grad]
        if values:
            ones = [torch.ones_like(x) for x in values]
            found = torch.autograd.grad(values, leaves, ones, allow_unused=True)
            unread = [before and now is None for before, now in zip(unread, found, strict=True)]
    refuse_marked(outer, unread, reason)


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
