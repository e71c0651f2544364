"""The contract of every hypergradient: a problem and where it stands in, a `Hypergradient` out.

    h = Unrolled(steps=5)(problem, theta, outer, inner_batch, outer_batch)
    h.gradient["log_decay"], h.outer_loss, h.stationarity, h.converged
    estimator.doubts(h)                          in words, where it has not converged; `strict=True` raises them

An estimator is a frozen value. Calling it checks the arguments once, cuts them from every graph and hands them to
`estimate`; an estimator made of another one (`Tasks`) calls that one's `estimate`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_leaves

from metanas.bilevel.gradients import Loss
from metanas.bilevel.problem import Bilevel
from metanas.bilevel.trees import Tree, detach, finite
from metanas.errors import BilevelError


class Hypergradient(NamedTuple):
    """What an estimator found. A tuple of tensors and trees of tensors, since `vmap` returns nothing else; all are
    constants.

    A field is nan where nothing was measured. Norms are Euclidean, over all leaves.
    """

    gradient: Tree
    """d outer_loss / d outer, like the outer variables."""
    outer_loss: Tensor
    """The outer loss where the gradient was taken, 0-d."""
    stationarity: Tensor
    """Norm of the last inner gradient taken, 0-d: how far from converged the inner problem was."""
    residual: Tensor
    """What the estimator knows of its own relative error, 0-d: |Hq - v| / |v| of a linear solve, the standard error of
    a mean of samples over its norm."""
    curvature: Tensor
    """The least p'Hp / p'p that a linear solve met, 0-d."""
    converged: Tensor
    """0-d bool: the estimator's own assumption held."""
    theta: Tree
    """Where the inner problem stood; may share memory with live weights."""
    memory: Tree
    """The rule's memory there; () where none was given and no step was taken."""
    carry: Tree = ()
    """The estimator's own state for the next call."""


class Estimator(ABC):
    """Estimates the gradient of the outer loss in the outer variables."""

    def __call__(
        self,
        problem: Bilevel,
        theta: Tree,
        outer: Tree,
        inner_batch: Any,
        outer_batch: Any,
        *,
        memory: Tree | None = None,
        carry: Tree = (),
        generator: torch.Generator | None = None,
        strict: bool = False,
    ) -> Hypergradient:
        """The hypergradient at (theta, outer).

        Args:
            problem: the losses, the start and the rule.
            theta: tree of floating tensors, where the inner problem stands; {} where `problem.start` makes it. Not
                written to.
            outer: tree of floating tensors, the outer variables; at least one. Not written to.
            inner_batch: what `problem.start` and, through `problem.batch_at`, the inner loss read.
            outer_batch: what the outer loss reads.
            memory: the rule's memory at theta (see `memory_of`); None: as before a first step.
            carry: the `carry` of the hypergradient before; () at first.
            generator: the only source of randomness of an estimator that draws.
            strict: raise where the result has not converged, instead of saying so in it. Makes the host wait.

        Returns:
            A `Hypergradient`, cut from every graph.

        Raises:
            BilevelError: the problem has no inner loss and the estimator needs one, a loss is not a 0-d floating
                tensor, a leaf is not a floating tensor, there is no outer variable, the rule or the start changes the
                shape or the dtype of theta, or an outer variable is read by nothing that the estimator looks at (where
                it takes a reverse pass: forward mode and evolution strategies cannot tell). Where `strict`: the
                estimator's `doubts`.
        """
        theta, outer, memory, carry = detach((theta, outer, memory, carry))
        _check_leaves("theta", theta)
        if not _check_leaves("outer", outer):
            raise BilevelError("outer has no tensors; give at least one outer variable")
        problem = _checked(problem, self.descends)
        # Nothing out here is differentiated; gradients are taken inside, where `gradients` turns recording on again.
        with torch.no_grad():
            h = self.estimate(
                problem, theta, outer, inner_batch, outer_batch, memory=memory, carry=carry, generator=generator
            )
        if strict and not bool(h.converged):
            raise BilevelError(f"{type(self).__name__} has not converged: {self.doubts(h) or 'see the result'}")
        return h

    def doubts(self, h: Hypergradient) -> str | None:
        """Why a result of this estimator is not to be trusted, and what may mend it, in one line; None where nothing
        speaks against it. Reads the host."""
        if not bool(torch.isfinite(h.outer_loss)):
            return (
                f"the outer loss is {float(h.outer_loss)} after the inner steps: lower the rule's learning rate, which "
                "may be past its stability bound, or look for what is not finite in the inner loss"
            )
        if not bool(finite(h.gradient)):
            return "the hypergradient is not finite: take fewer steps, truncate, or lower the rule's learning rate"
        return None

    @property
    @abstractmethod
    def descends(self) -> bool:
        """Whether the estimator needs an inner loss."""

    @abstractmethod
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
        """As `__call__`, on arguments that are checked and detached. Must run under `vmap`, and must not read the
        host."""


def sound(loss: Tensor, gradient: Tree) -> Tensor:
    """0-d bool: the outer loss and the hypergradient are finite.

    >>> sound(torch.tensor(1.0), {"a": torch.ones(1)}), sound(torch.tensor(float("nan")), {"a": torch.ones(1)})
    (tensor(True), tensor(False))
    """
    return torch.isfinite(loss) & finite(gradient).to(loss.device)


def unmeasured(like: Tensor) -> Tensor:
    """nan, of the dtype and on the device of `like`: the value of a field that was not measured.

    >>> unmeasured(torch.tensor(1.0, dtype=torch.float64))
    tensor(nan, dtype=torch.float64)
    """
    return torch.full_like(like, float("nan"))


def _checked(problem: Bilevel, descends: bool) -> Bilevel:
    if descends and problem.inner_loss is None:
        raise BilevelError(
            "inner_loss is None, but this estimator takes inner steps; give a loss, or use FirstOrder(0)"
        )
    inner = None if problem.inner_loss is None else _scalar("inner_loss", problem.inner_loss)
    return replace(problem, inner_loss=inner, outer_loss=_scalar("outer_loss", problem.outer_loss))


def _scalar(name: str, loss: Loss) -> Loss:
    """The same loss, which raises where it does not return a 0-d floating tensor."""

    def checked(theta: Tree, outer: Tree, batch: Any) -> Tensor:
        value: Any = loss(theta, outer, batch)
        if not isinstance(value, Tensor):
            raise BilevelError(f"{name} must return a 0-d floating tensor, got {type(value).__name__}")
        if value.dim() or not value.is_floating_point():
            raise BilevelError(
                f"{name} must return a 0-d floating tensor, got {value.dtype} of shape {tuple(value.shape)}; "
                "take its mean or sum"
            )
        return value

    return checked


def _check_leaves(name: str, tree: Tree) -> int:
    """How many leaves; raises at the first that is not a floating tensor."""
    leaves = tree_leaves(tree)
    bad = [k for k, leaf in enumerate(leaves) if not (isinstance(leaf, Tensor) and leaf.is_floating_point())]
    if bad:
        path, leaf = tree_flatten_with_path(tree)[0][bad[0]]
        got = leaf.dtype if isinstance(leaf, Tensor) else type(leaf).__name__
        raise BilevelError(f"{name}{keystr(path)} must be a floating tensor, got {got}; leave buffers out of {name}")
    return len(leaves)
