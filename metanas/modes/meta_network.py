"""Meta-network: the outer variable is the structure, the inner ones are the supernet's weights, and they persist.

inner loss = outer loss = task loss of the supernet at the mixing weights outer["mix"], on inner and outer batches
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from metanas.bilevel import SGD, Bilevel, Rule
from metanas.network import Network

TaskLoss = Callable[[Tensor, Tensor], Tensor]
"""(outputs (batch, classes), targets (batch,)) -> scalar."""


def meta_network(network: Network, *, loss: TaskLoss = F.cross_entropy, rule: Rule = SGD(lr=0.025)) -> Bilevel:  # noqa: B008
    """The bilevel problem of a differentiable architecture search.

    Args:
        network: a supernet (phase "search": batch statistics, no buffers written).
        loss: of the task, on outputs and targets.
        rule: what an estimator looks ahead with; its learning rate may be a 0-d tensor that the schedule writes into.

    Returns:
        A problem over theta = {name: parameter} and outer = {"mix": {choice: weights (candidates,)}}; a batch is a pair
        (inputs, targets).
    """

    def task_loss(theta: Any, outer: Any, batch: Any) -> Tensor:
        inputs, targets = batch
        return loss(functional_call(network, theta, (inputs,), {"mix": outer["mix"]}), targets)

    return Bilevel(task_loss, task_loss, rule=rule)
