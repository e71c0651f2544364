"""A training from scratch that is shaped by outer variables: the inner problem, run longer and on more data.

    for each step:  a batch of the inner split, with everything that was learned; one of the outer split, with all of it
                    but the weights of examples, which it has none of
                    theta <- rule(theta, gradient of both losses, each by its share of the examples)

With the outer variables at their start this is what the learned values are compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map, tree_structure, tree_unflatten

from metanas.bilevel import Bilevel, Tree
from metanas.bilevel.trees import finite
from metanas.data import Task
from metanas.errors import CheckpointError, DivergedError
from metanas.evaluation.training import Epoch

PARTS = 20
"""How many times a training reports where it stands."""

Draw = Callable[[int], Any]
"""Step -> a batch (inputs, targets, ...)."""


@dataclass(frozen=True)
class Shaped:
    """One of the problems whose inner losses are trained on: what it is, its batches, and its share of the examples."""

    problem: Bilevel
    outer: Tree
    draw: Draw
    share: float


class Retraining:
    """A training in progress; it owns theta and the rule's memory.

    Args:
        shaped: one entry for each split; the first one's rule is used.
        theta: weights at the beginning; it is copied.
        steps: of the rule.
        outputs: (theta, inputs) -> outputs, for the score that is reported.
        task: whose metric is reported, of the first entry's batches.
    """

    def __init__(
        self,
        shaped: tuple[Shaped, ...],
        theta: Tree,
        steps: int,
        *,
        outputs: Callable[[Tree, Tensor], Tensor],
        task: Task,
    ) -> None:
        self.shaped, self.total, self.outputs, self.task = shaped, steps, outputs, task
        self.rule = shaped[0].problem.rule
        self.theta = tree_map(lambda x: x.detach().clone(), theta)
        self.memory = self.rule.init(self.theta)
        self.step = 0

    def epochs(self) -> Iterator[Epoch]:
        """The training, in about `PARTS` parts; between two of them it may be asked for its `state()`.

        Raises:
            DivergedError: the loss, or a weight after the step, is not finite.
        """
        each = -(-self.total // PARTS)
        while self.step < self.total:
            last = min(self.step + each, self.total)
            loss = torch.zeros(())
            while self.step < last:
                loss = self._one()
            if not bool(torch.isfinite(loss) & finite((self.theta, self.memory))):
                what = f"the loss is {float(loss)}" if not bool(torch.isfinite(loss)) else "a weight is not finite"
                raise DivergedError(
                    f"training from scratch: {what} at step {self.step}; lower inner.lr, or its start where the rate "
                    "is learned"
                )
            batch = self.shaped[0].draw(self.step - 1)
            with torch.no_grad():
                score = float(self.task.metric(self.outputs(self.theta, batch[0]), batch[1]))
            yield Epoch(-(-self.step // each), -(-self.total // each), float(loss), score if score == score else None)

    def _one(self) -> Tensor:
        leaves, spec = [x.detach().requires_grad_() for x in tree_leaves(self.theta)], tree_structure(self.theta)
        theta, loss = tree_unflatten(leaves, spec), torch.zeros((), device=leaves[0].device)
        for part in self.shaped:
            assert part.problem.inner_loss is not None  # there is something to train on
            loss = loss + part.share * part.problem.inner_loss(theta, part.outer, part.draw(self.step))
        gradient = tree_unflatten(torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True), spec)
        with torch.no_grad():
            self.theta, self.memory = self.rule(self.theta, self.memory, gradient, self.shaped[0].outer)
        self.step += 1
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """Everything that a training needs to go on, as a tree of tensors and plain values."""
        return {"step": self.step, "theta": tree_leaves(self.theta), "memory": tree_leaves(self.memory)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state()` gave. Raises CheckpointError where it does not fit."""
        for name in ("theta", "memory"):
            live = getattr(self, name)
            shapes = [tuple(x.shape) for x in tree_leaves(live)]
            if shapes != [tuple(x.shape) for x in state[name]]:
                raise CheckpointError(f"{name} of the checkpoint has other shapes; was the network changed?")
            device = tree_leaves(self.theta)[0].device
            setattr(self, name, tree_unflatten([x.to(device) for x in state[name]], tree_structure(live)))
        self.step = state["step"]
