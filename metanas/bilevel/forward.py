"""Forward mode through the steps of the inner problem: exact as the unroll, with memory that does not grow with them.

    Z = d theta / d outer,   Z' = (d rule / d theta) Z + d rule / d outer       one column for each outer number
    gradient = d F / d outer + Z' d F / d theta

One tangent for each outer number goes along, so time and memory grow with their count; for a few learning rates or
decays, and many steps, it is the estimator of choice.

Of the backward pass of some losses torch has no forward derivative (`F.mse_loss`, `F.huber_loss`): such a problem is
refused; the same loss in plain arithmetic has one.

Sources: Franceschi et al. 2017, arXiv:1703.01785 (forward-HG, RTHO).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp, vmap
from torch.utils._pytree import tree_map

from metanas.bilevel.estimator import Estimator, Hypergradient, sound, unmeasured
from metanas.bilevel.gradients import slope
from metanas.bilevel.problem import Bilevel, descend
from metanas.bilevel.trees import Tree, norm, ravel
from metanas.errors import BilevelError


@dataclass(frozen=True)
class ForwardMode(Estimator):
    """The exact gradient through `steps` inner steps, by tangents that go forward with them.

    Args:
        steps: inner steps, >= 0.
        chunk: how many tangents go at a time, >= 1, where memory is short; None: all.

    Raises:
        BilevelError: steps < 0 or chunk < 1; on the call, where torch has no forward derivative of what a loss calls.

    >>> from metanas.bilevel import SGD, Bilevel
    >>> loss = lambda theta, outer, batch: ((theta["w"] - outer["target"]) ** 2).sum() / 2
    >>> goal = lambda theta, outer, batch: theta["w"].sum()
    >>> problem = Bilevel(loss, goal, rule=SGD(lr=0.5))
    >>> ForwardMode(steps=2)(problem, {"w": torch.zeros(1)}, {"target": torch.ones(1)}, None, None).gradient
    {'target': tensor([0.7500])}
    """

    steps: int
    chunk: int | None = None

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise BilevelError(f"steps must be >= 0, got {self.steps}")
        if self.chunk is not None and self.chunk < 1:
            raise BilevelError(f"chunk must be >= 1 or None, got {self.chunk}")

    @property
    def descends(self) -> bool:
        return self.steps > 0

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
        def reached(outer: Tree) -> tuple[Tensor, tuple[Tree, Tree, Tensor]]:
            end, after, gradient = descend(problem, theta, outer, inner_batch, memory, self.steps, slope)
            loss = problem.outer_loss(end, outer, outer_batch)
            return loss, (end, after, unmeasured(loss) if gradient is None else norm(gradient))

        flat, back = ravel(outer)

        def along(tangent: Tensor) -> Any:
            return jvp(reached, (outer,), (back(tangent),), has_aux=True)

        _load_forward_formulas()
        basis = torch.eye(len(flat), dtype=flat.dtype, device=flat.device)
        try:
            loss, slopes, kept = vmap(along, chunk_size=self.chunk)(basis)
        except RuntimeError as error:
            if not isinstance(error, NotImplementedError) and "ZeroTensor" not in str(error):
                raise
            raise BilevelError(
                "torch has no forward derivative of a function that the losses call, as of F.mse_loss and "
                f"F.huber_loss; write it in plain arithmetic, or use Unrolled. torch: {str(error).splitlines()[0]}"
            ) from error
        loss, (end, after, stationarity) = tree_map(lambda x: x[0], (loss, kept))
        gradient = back(slopes)
        return Hypergradient(
            gradient=gradient,
            outer_loss=loss,
            stationarity=stationarity,
            residual=unmeasured(loss),
            curvature=unmeasured(loss),
            converged=sound(loss, gradient),
            theta=end,
            memory=after,
        )


def _load_forward_formulas() -> None:
    """What torch loads at the first forward derivative, with a deprecation warning about its own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import torch._decomp.decompositions_for_jvp  # noqa: F401
