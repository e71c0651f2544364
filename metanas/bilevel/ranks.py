"""Several processes as one: a wrapper of the problem, of which no estimator knows.

    loss over all ranks = sum over ranks of loss(enter(theta), enter(outer), own batch) / ranks
    enter     the identity; backward, the sum over ranks: what each rank's part of the loss says of a shared tensor
    combine   the sum over ranks; backward, the identity: the cotangent is the same everywhere already

Each is the other's derivative, so gradients of any order, Jacobian products and vmapped ones are those of the whole
loss. Averaging finished hypergradients instead is right for the first order alone: an inverse Hessian, or a product of
two gradients, of a mean is not the mean of them.

theta and the outer variables must be equal on all ranks; then the loss and its gradients are, bit for bit, and so is
whatever follows from them. A norm sees the batch of its own rank ("ghost batches"). The process group is the default
one of torch.distributed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from metanas.bilevel.gradients import Loss
from metanas.bilevel.problem import Bilevel
from metanas.bilevel.trees import Tree
from metanas.errors import BilevelError, RankError

Tensors = tuple[Tensor, ...]


def over_ranks(problem: Bilevel) -> Bilevel:
    """The problem whose losses are the means over all ranks, each on the batch of its rank.

    Args:
        problem: its losses are means over their batch, and batches are of equal size on all ranks.

    Raises:
        BilevelError: torch.distributed has no process group. The losses raise RankError where another rank is gone.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise BilevelError(
            "there is no process group; call torch.distributed.init_process_group, or start with torchrun"
        )
    inner = None if problem.inner_loss is None else _shared(problem.inner_loss)
    return replace(problem, inner_loss=inner, outer_loss=_shared(problem.outer_loss))


def _shared(loss: Loss) -> Loss:
    def of_all(theta: Tree, outer: Tree, batch: Any) -> Tensor:
        part = loss(_entered(theta), _entered(outer), batch) / dist.get_world_size()
        total: Tensor = _combine(part)[0]
        return total

    return of_all


def _entered(tree: Tree) -> Tree:
    leaves, spec = tree_flatten(tree)
    return tree_unflatten(list(_enter(*leaves)), spec) if leaves else tree


class _Enter(torch.autograd.Function):
    @staticmethod
    def forward(*leaves: Tensor) -> Tensors:
        return tuple(leaf.view_as(leaf) for leaf in leaves)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.set_materialize_grads(False)  # what the loss does not read has no gradient, rather than zeros

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        return _where_there(_combine, gradients)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *leaves: Tensor) -> Any:
        return _enter(*leaves), in_dims

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
        return _where_there(lambda *found: tuple(x.view_as(x) for x in found), tangents)


class _Combine(torch.autograd.Function):
    @staticmethod
    def forward(*parts: Tensor) -> Tensors:
        return _summed(parts)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> Any:
        return _where_there(_enter, cotangents)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *parts: Tensor) -> Any:
        return _combine(*parts), in_dims

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
        return _where_there(_combine, tangents)


_enter: Callable[..., Any] = _Enter.apply
_combine: Callable[..., Any] = _Combine.apply


def _where_there(function: Callable[..., Any], rows: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """`function` of those that are there, in their places: which they are is the same on all ranks."""
    found = iter(function(*(row for row in rows if row is not None)))
    return tuple(None if row is None else next(found) for row in rows)


def _summed(parts: Tensors) -> Tensors:
    """The sums over ranks, of all tensors of a dtype in one message."""
    found: dict[int, Tensor] = {}
    by_dtype: dict[torch.dtype, list[int]] = {}
    for k, part in enumerate(parts):
        by_dtype.setdefault(part.dtype, []).append(k)
    for places in by_dtype.values():
        flat = torch.cat([parts[k].reshape(-1) for k in places])
        try:
            dist.all_reduce(flat)
        except RuntimeError as error:
            raise RankError.of(error) from error
        pieces = torch.split(flat, [parts[k].numel() for k in places])
        found |= {k: piece.view(parts[k].shape) for k, piece in zip(places, pieces, strict=True)}
    return tuple(found[k] for k in range(len(parts)))
