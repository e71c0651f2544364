"""An estimator of an estimator: the mean over tasks.

    for every task:  h = of.estimate(problem, theta, outer, inner_batch[task], outer_batch[task])
    gradient = mean over tasks of h.gradient

`vmap(estimate)` does all tasks at once and must equal the loop, which is its specification. The order matters:
`vmap` goes outside of the gradient. The gradient of a `vmap` with an inner gradient is silently wrong for affine
norms without running statistics.

Sources: Finn, Abbeel, Levine 2017, arXiv:1703.03400, algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_leaves, tree_map

from metanas.bilevel.estimator import Estimator, Hypergradient
from metanas.bilevel.problem import Bilevel
from metanas.bilevel.trees import Tree
from metanas.errors import BilevelError


@dataclass(frozen=True)
class Tasks(Estimator):
    """The mean hypergradient over tasks that share theta, the outer variables and the memory.

    Every tensor of both batches has the tasks as its first axis; what is no tensor is shared. In the result
    `gradient` and `outer_loss` are means; `stationarity`, `residual`, `curvature` and `converged` are those of the
    worst task; `theta`, `memory` and `carry` have the tasks as their first axis.

    Args:
        of: the estimator of one task.
        loop: one task after the other, with the memory of one; the same numbers.
        chunk: how many tasks at a time, where not all at once; less memory, and on a CPU often faster.

    Raises:
        BilevelError: chunk < 1; on the call, where the batches have no task axis or not the same number of tasks.

    >>> from metanas.bilevel import SGD, Bilevel, Unrolled
    >>> loss = lambda theta, outer, batch: ((theta["w"] - batch) ** 2).sum() / 2
    >>> maml = Bilevel(loss, loss, start=lambda theta, outer, batch: outer["theta0"], rule=SGD(lr=0.5))
    >>> outer, tasks = {"theta0": {"w": torch.zeros(1)}}, torch.tensor([[1.0], [3.0]])
    >>> Tasks(Unrolled(1))(maml, {}, outer, tasks, tasks).gradient
    {'theta0': {'w': tensor([-0.5000])}}
    """

    of: Estimator
    loop: bool = False
    chunk: int | None = None

    def __post_init__(self) -> None:
        if self.chunk is not None and self.chunk < 1:
            raise BilevelError(f"chunk must be >= 1 or None, got {self.chunk}")

    @property
    def descends(self) -> bool:
        return self.of.descends

    def doubts(self, h: Hypergradient) -> str | None:
        return self.of.doubts(h)  # the fields are those of the worst task

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
        def one(inner_batch: Any, outer_batch: Any, carry: Tree) -> Hypergradient:
            return self.of.estimate(
                problem, theta, outer, inner_batch, outer_batch, memory=memory, carry=carry, generator=generator
            )

        axes = (inner_batch, outer_batch, carry)
        count = _tasks(axes)
        if self.loop:
            rows = [one(*tree_map(lambda x, i=i: x[i] if isinstance(x, Tensor) else x, axes)) for i in range(count)]
            h = tree_map(lambda *row: torch.stack(row), *rows)
        else:
            dims = tree_map(lambda x: 0 if isinstance(x, Tensor) else None, axes)
            h = vmap(one, in_dims=dims, randomness="same", chunk_size=self.chunk)(*axes)
        return Hypergradient(
            gradient=tree_map(lambda x: x.mean(0), h.gradient),
            outer_loss=h.outer_loss.mean(0),
            stationarity=h.stationarity.amax(0),
            residual=h.residual.amax(0),
            curvature=h.curvature.amin(0),
            converged=h.converged.all(0),
            theta=h.theta,
            memory=h.memory,
            carry=h.carry,
        )


def _tasks(axes: Tree) -> int:
    tensors = [x for x in tree_leaves(axes) if isinstance(x, Tensor)]
    counts = sorted({x.shape[0] if x.dim() else -1 for x in tensors})
    if len(counts) != 1 or counts[0] < 1:
        got = ", ".join(sorted({str(tuple(x.shape)) for x in tensors})) or "no tensor"
        raise BilevelError(f"every tensor of the batches must have the tasks as its first axis, got shapes {got}")
    return counts[0]
