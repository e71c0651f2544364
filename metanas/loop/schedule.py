"""How the weights of a supernet are trained during a search."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Numbers of a search; the defaults are those of DARTS on CIFAR-10 where they do not depend on the budget.

    Args:
        epochs: passes over the inner split.
        warmup: epochs at the start in which only the weights are trained.
        batch_size: of the inner and of the outer batches.
        lr, lr_end: learning rate of the weights, from the one to the other along a half cosine, set per epoch.
        momentum, nesterov, weight_decay: of SGD on the weights.
        clip: greatest gradient norm of the weights.
        outer_clip: greatest norm of the gradient in omega; a longer one, of an exploding hypergradient, is scaled down.
        order: who moves first in a step, "advance" (the weights: first-order DARTS) or "outer" (the structure:
            second-order DARTS, DrNAS).
        monitor: examples of the outer split on which the derived architecture is watched after each epoch.
        patience: the search gives up after so many steps in a row in which an update was left out as not finite, or
            when all of its steps were such.
        perturb: by how much the mixing weights may be off in the training of the weights at the end of the search, from
            0 linearly (SDARTS; see `perturbation`).
        perturb_steps: of the ascent to the worst of them; 0: at random (SDARTS: 7, or 0).
        shrink_to: candidates that are left of each choice at the end, the strongest (see `shrinking`); None: all.
        shrink_stages: in which the others go, at equal distances in time.
    """

    epochs: int
    warmup: int = 0
    batch_size: int = 64
    lr: float = 0.025
    lr_end: float = 0.001
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    clip: float = 5.0
    outer_clip: float = 5.0
    order: Literal["advance", "outer"] = "advance"
    monitor: int = 512
    patience: int = 20
    perturb: float = 0.0
    perturb_steps: int = 0
    shrink_to: int | None = None
    shrink_stages: int = 1

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0.

        >>> [round(Schedule(epochs=3, lr=1.0, lr_end=0.0).rate(k), 2) for k in range(3)]
        [1.0, 0.75, 0.25]
        """
        return self.lr_end + (self.lr - self.lr_end) * (1 + math.cos(math.pi * epoch / self.epochs)) / 2
