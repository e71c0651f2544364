"""Meta-network: the outer variable is the structure, the inner ones are the supernet's weights, and they persist.

    inner loss = outer loss = task loss of the supernet at the mixing weights outer["mix"], on inner and outer batches

Architecture search as a bilevel problem: Liu, Simonyan, Yang: DARTS, ICLR 2019, arXiv:1806.09055, eq. 3-4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from metanas.bilevel import SGD, Bilevel, Rule
from metanas.modes.stateless import Stateless
from metanas.network import Mix, Network, Precision, Taken, computed_in

TaskLoss = Callable[[Tensor, Tensor], Tensor]
"""(outputs (batch, classes), targets (batch,)) -> scalar."""

RULE = SGD(lr=0.025, momentum=0.9, weight_decay=3e-4)
"""DARTS's look-ahead at the start of a search: plain momentum, also where the training has Nesterov's."""


def meta_network(
    network: Network,
    *,
    loss: TaskLoss = F.cross_entropy,
    rule: Rule = RULE,
    precision: Precision = "float32",
    single_path: bool = False,
) -> Bilevel:
    """The bilevel problem of a differentiable architecture search.

    Args:
        network: a supernet (phase "search": batch statistics, no buffers written).
        loss: of the task, on outputs and targets.
        rule: what an estimator looks ahead with. A `GradientSearch` puts the numbers of its schedule into an `SGD`.
        precision: of the supernet's forward pass, and so of its gradients; the loss is float32.
        single_path: the weights are one-hot; of each choice only what they take runs, and the gradient reaches them all
            (`metanas.network.Taken`). Which that is is read from the device at every call.

    Returns:
        A problem over theta = {name: parameter} and outer = {"mix": {choice: weights (candidates,)}}; a batch is a pair
        (inputs, targets).

    >>> import torch
    >>> from metanas.space import Space, chain, one_of, op
    >>> from metanas.network import supernet
    >>> ops = one_of("y", {"conv": op("conv", width=2), "skip": op("skip")})
    >>> network = supernet(Space(chain(("y", ops), ("head", op("classifier", width=2)))), (2, 4, 4), 2)
    >>> problem = meta_network(network, loss=lambda outputs, targets: outputs.sum() * 0 + 1.0)
    >>> batch = (torch.ones(1, 2, 4, 4), torch.zeros(1, dtype=torch.long))
    >>> theta = {name: p.detach() for name, p in network.named_parameters()}
    >>> problem.outer_loss(theta, {"mix": {"y": torch.tensor([0.5, 0.5])}}, batch)
    tensor(1.)
    """
    call = Stateless(network)

    def task_loss(theta: Any, outer: Any, batch: Any) -> Tensor:
        inputs, targets = batch
        weights: dict[str, Tensor] = outer["mix"]
        if not single_path:
            return loss(computed_in(precision, call, theta, inputs, mix=weights), targets)
        path: Mix = {name: Taken(int(w.argmax()), w) for name, w in weights.items()}
        found = loss(computed_in(precision, call, theta, inputs, mix=path), targets)
        return found + 0 * torch.stack([w.sum() for w in weights.values()]).sum()  # one behind a `none` is read, too

    return Bilevel(task_loss, task_loss, rule=rule)
