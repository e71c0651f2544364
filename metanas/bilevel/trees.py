"""Arithmetic on trees of tensors: what the estimators say about theta and the outer variables, they say in these words.

A tree is anything that torch's pytree knows: a dict of tensors, a dict of dicts, a tuple, one tensor. All functions are
pure and keep the dtype and the device of their leaves. They run under every `torch.func` transform.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from metanas.errors import BilevelError

Tree: TypeAlias = Any
"""A pytree whose leaves are tensors."""


def axpy(a: float | Tensor, x: Tree, y: Tree) -> Tree:
    """a * x + y, leaf by leaf, in the dtype of y; `a` is one number for the whole tree.

    >>> axpy(2.0, {"w": torch.ones(2)}, {"w": torch.ones(2)})
    {'w': tensor([3., 3.])}
    """
    return tree_map(lambda x, y: (a.to(y.dtype) if isinstance(a, Tensor) else a) * x + y, x, y)


def add(x: Tree, y: Tree) -> Tree:
    """x + y, leaf by leaf.

    >>> add((torch.ones(1),), (torch.ones(1),))
    (tensor([2.]),)
    """
    return tree_map(torch.add, x, y)


def dot(x: Tree, y: Tree) -> Tensor:
    """The inner product of two trees, a 0-d tensor of the widest dtype of their leaves, at least float32.

    Raises:
        BilevelError: the trees have no leaves, so that there is no dtype or device to answer in.

    >>> dot({"a": torch.ones(2), "b": torch.ones(1)}, {"a": torch.ones(2), "b": torch.ones(1)})
    tensor(3.)
    """
    pairs = list(zip(tree_leaves(x), tree_leaves(y), strict=True))
    if not pairs:
        raise BilevelError("theta has no tensors to descend on; take no inner steps, for instance FirstOrder(0)")
    dtype = reduce(torch.promote_types, (a.dtype for a, _ in pairs), torch.float32)
    return torch.stack([(a * b).sum(dtype=dtype) for a, b in pairs]).sum()


def norm(x: Tree) -> Tensor:
    """The Euclidean norm over all leaves, a 0-d tensor.

    >>> norm({"a": torch.tensor([3.0]), "b": torch.tensor([4.0])})
    tensor(5.)
    """
    return dot(x, x).sqrt()


def zeros(x: Tree) -> Tree:
    """A tree of zeros like x.

    >>> zeros({"w": torch.ones(2)})
    {'w': tensor([0., 0.])}
    """
    return tree_map(torch.zeros_like, x)


def detach(x: Tree) -> Tree:
    """The same values, cut from every graph; leaves that are no tensors stay as they are.

    >>> detach({"w": torch.ones(1, requires_grad=True), "k": 3})
    {'w': tensor([1.]), 'k': 3}
    """
    return tree_map(lambda x: x.detach() if isinstance(x, Tensor) else x, x)


def finite(x: Tree) -> Tensor:
    """True where every number of every floating leaf is finite: a 0-d bool tensor on the device, no host read.

    >>> finite({"w": torch.tensor([1.0, float("nan")])}), finite(torch.ones(2))
    (tensor(False), tensor(True))
    """
    flags = [torch.isfinite(leaf).all() for leaf in tree_leaves(x) if leaf.is_floating_point()]
    return torch.stack(flags).all() if flags else torch.tensor(True)


def ravel(x: Tree) -> tuple[Tensor, Callable[[Tensor], Tree]]:
    """All numbers of a tree as one vector (n,), of the widest dtype of its leaves, and the way back.

    >>> vector, back = ravel({"a": torch.ones(2, 1), "b": torch.tensor(3.0)})
    >>> vector, back(2 * vector)
    (tensor([1., 1., 3.]), {'a': tensor([[2.],
            [2.]]), 'b': tensor(6.)})
    """
    leaves, spec = tree_flatten(x)
    sizes = [leaf.numel() for leaf in leaves]
    dtype = reduce(torch.promote_types, (leaf.dtype for leaf in leaves))

    def back(vector: Tensor) -> Tree:
        parts = torch.split_with_sizes(vector, sizes)
        return tree_unflatten(
            [part.view_as(leaf).to(leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)], spec
        )

    return torch.cat([leaf.reshape(-1).to(dtype) for leaf in leaves]), back
