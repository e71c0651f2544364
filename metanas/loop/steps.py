"""What a search reports: a frozen `Step` per outer iteration, and a `Report` with the last step of an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metanas.space import Architecture

if TYPE_CHECKING:  # searches by values go without torch
    from torch import Tensor

    from metanas.loop.guard import Verdict


@dataclass(frozen=True)
class Report:
    """Where the search stands at the end of an epoch, counted from 1. Losses are means over the epoch's steps that
    had a finite one; scores are the task's metric (accuracy: 0 to 1).

    `outer_score` and `derived_score` are those of the mixture and of the derived architecture with the weights of
    the supernet, on the same examples of the outer split; `gap` is the derived one's loss minus the mixture's:
    what is lost by making the choice. `weights` are the mean mixing weights by choice, `entropy` their mean entropy, 1
    where all candidates weigh the same. `skip_share` is that of the derived choices which skip, of those that could;
    `eigenvalue` the largest of the Hessian of the outer loss in omega, where a guard wants it; `verdict` that of the
    guard that ends the search here, or hands it over to the controller named by `instead`. All but the verdict is from
    before omega goes back. `kept` are the labels of the
    candidates that are left of each choice, where some are let go of after this epoch. `cost` is the
    expected cost at the mean mixing weights, where a search has one.

    None: no step of the epoch had a finite loss (`outer_loss` also where the structure was not learned, in a warm-up or
    by a controller whose omega is fixed), or the controller gives no preview (`architecture` and what is measured on
    it), no derived choice could skip (`skip_share`).
    """

    epoch: int
    epochs: int
    inner_loss: float | None
    outer_loss: float | None
    outer_score: float
    derived_score: float | None
    gap: float | None
    entropy: float
    lr: float
    weights: Mapping[str, tuple[float, ...]]
    architecture: Architecture | None
    skip_share: float | None = None
    eigenvalue: float | None = None
    verdict: Verdict | None = None
    instead: str | None = None
    kept: Mapping[str, tuple[str, ...]] | None = None
    cost: float | None = None


@dataclass(frozen=True)
class Step:
    """One outer iteration. The losses, the norm and the count are 0-d tensors on the device: to read one is what makes
    the host wait. `step` counts from 1, `epoch` from 0.

    `outer_loss` is nan where the structure is not learned (in a warm-up; by a controller whose omega is fixed);
    `gradient_norm` is that of the weights' step before it is clipped, `outer_gradient_norm` that of the step in omega
    (nan where there is none); `skipped` counts the updates that were left out
    so far because they were not finite.
    """

    step: int
    epoch: int
    inner_loss: Tensor
    outer_loss: Tensor
    gradient_norm: Tensor
    outer_gradient_norm: Tensor
    skipped: Tensor
    report: Report | None = None


@dataclass(frozen=True)
class Evaluation:
    """One architecture evaluated by a search that needs only values (larger is better); None before a finite value.

    `reason`: why it failed; None where it did not. `value` is then not finite. `epochs`: of its training, where some
    are longer than others. `repeated`: it was evaluated before, and is told what it had.

    Of several objectives, `value` is the first one's (larger is better), and `best` whose that is best; `values` are
    all of them by name, in their own units, empty where the evaluation raised; `front` says whether no other one so
    far beats it in all.
    """

    step: int
    budget: int
    architecture: Architecture
    value: float
    best: Architecture | None
    best_value: float | None
    reason: str | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    front: bool = False
    epochs: int | None = None
    repeated: bool = False
