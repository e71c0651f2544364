"""Meta-parameter: the outer variables are whatever shapes the training of a network, and not its structure.

    inner loss = mean over i of  weight_i(outer) * loss_i(theta)  +  penalty(theta, outer)      on inner batches
    outer loss = mean over i of  loss_i(theta)                                                  on outer batches

Weights of the examples clean data (Franceschi et al. 2017, arXiv:1703.01785) or reweight classes; a penalty is a decay,
one for all or one for each parameter; a transform of the inner batch is a learned augmentation, or labels that are
smoothed; learning rates are outer variables of the rule (`bilevel.rules`). All of them at once are one problem.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from metanas.bilevel import Bilevel, Rule, Tree, persists
from metanas.bilevel.problem import PLAIN
from metanas.modes.stateless import Stateless
from metanas.network import Precision, computed_in

Losses = Callable[[Tensor, Tensor], Tensor]
"""(outputs (batch, width), targets (batch, ...)) -> the loss of each example (batch,)."""


def cross_entropies(outputs: Tensor, targets: Tensor) -> Tensor:
    """The cross entropy of each example: targets are labels (batch,), or shares of the classes (batch, classes).

    >>> import torch
    >>> cross_entropies(torch.zeros(2, 4), torch.tensor([0, 3]))
    tensor([1.3863, 1.3863])
    """
    return F.cross_entropy(outputs, targets, reduction="none")


def meta_parameter(
    network: nn.Module,
    *,
    losses: Losses = cross_entropies,
    inner_losses: Callable[[Tree, Tensor, Tensor], Tensor] | None = None,
    weights: Callable[[Tree, Any], Tensor] | None = None,
    penalty: Callable[[Tree, Tree], Tensor] | None = None,
    transform: Callable[[Tree, Any], Any] | None = None,
    rule: Rule = PLAIN,
    start: Callable[[Tree, Tree, Any], Tree] = persists,
    precision: Precision = "float32",
) -> Bilevel:
    """The bilevel problem of learning what shapes a training.

    Args:
        network: from inputs to outputs; its parameters are theta, {name: tensor}. Its norms must keep no statistics.
        losses: of the examples, of both problems.
        inner_losses: (outer, outputs, targets) -> (batch,), of the inner problem where it has losses of its own: a
            learned loss.
        weights: (outer, inner batch) -> (batch,); None: all 1. What belongs to an example is looked up by its position,
            which travels in the batch: `lambda outer, batch: outer["weight"][batch[2]].sigmoid()`.
        penalty: (theta, outer) -> scalar, added to the inner loss.
        transform: (outer, inner batch) -> batch, differentiable in the outer variables; before the network.
        rule: of the inner steps; its numbers may be outer variables.
        start: where the inner problem begins.
        precision: of the network's forward pass, and so of its gradients; losses and penalties are float32.

    Returns:
        A problem over theta and outer; a batch is (inputs, targets, ...), of which the rest is for `weights` and
        `transform`.

    >>> import torch
    >>> network = nn.Linear(2, 1, bias=False)
    >>> square = lambda outputs, targets: (outputs[:, 0] - targets) ** 2
    >>> problem = meta_parameter(network, losses=square, weights=lambda outer, batch: outer["w"][batch[2]])
    >>> batch = (torch.eye(2), torch.tensor([1.0, 2.0]), torch.tensor([0, 1]))
    >>> theta, outer = {"weight": torch.zeros(1, 2)}, {"w": torch.tensor([1.0, 0.0])}
    >>> problem.inner_loss(theta, outer, batch), problem.outer_loss(theta, outer, batch)
    (tensor(0.5000), tensor(2.5000))
    """
    call = Stateless(network)

    def inner_loss(theta: Tree, outer: Tree, batch: Any) -> Tensor:
        seen = batch if transform is None else transform(outer, batch)
        outputs = computed_in(precision, call, theta, seen[0])
        each = losses(outputs, seen[1]) if inner_losses is None else inner_losses(outer, outputs, seen[1])
        if weights is not None:
            each = weights(outer, batch) * each
        return each.mean() if penalty is None else each.mean() + penalty(theta, outer)

    def outer_loss(theta: Tree, outer: Tree, batch: Any) -> Tensor:
        return losses(computed_in(precision, call, theta, batch[0]), batch[1]).mean()

    return Bilevel(inner_loss, outer_loss, start=start, rule=rule)
