"""The sandwich rule with in-place distillation: in each step of the weights the largest, the smallest and k drawn
architectures train the weights that they share.

    y      = network(largest)
    loss   = task loss(y, targets) + sum over the smallest and the drawn of soft loss(network(architecture), y held)
    soft   = - mean over the batch of sum over classes of softmax(y) log softmax(outputs)      classification
             mean squared difference                                                         regression

Yu, Huang: Universally slimmable networks and improved training techniques, ICCV 2019, arXiv:1903.05134; with depths and
kernels as well: Yu et al.: BigNAS, ECCV 2020, arXiv:2003.11142 (k = 2 in both). The gradient is that of the sum; the
value that is reported is the task's loss of the largest. It is for spaces whose choices are sizes, where every
architecture lies between the two: what the largest has learned is then what the others can be taught.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from metanas.modes.meta_network import TaskLoss
from metanas.modes.stateless import Stateless
from metanas.network import Mix, Network, Precision, by_size, computed_in, extreme


def soft_cross_entropy(outputs: Tensor, teacher: Tensor) -> Tensor:
    """The mean cross entropy of the outputs (batch, classes) to the teacher's probabilities, a scalar.

    >>> even = torch.zeros(1, 2)
    >>> soft_cross_entropy(even, even)
    tensor(0.6931)
    """
    return F.cross_entropy(outputs, torch.softmax(teacher, -1))


def sandwich(
    network: Network,
    *,
    loss: TaskLoss = F.cross_entropy,
    soft: TaskLoss = soft_cross_entropy,
    precision: Precision = "float32",
) -> Callable[[Any, Any, Any], Tensor]:
    """The loss of a step: (theta, outer, batch) -> 0-d tensor.

    outer["mix"] and each of outer["others"] are one-hot mixing weights of an architecture that was drawn, and are
    constants: which candidate each takes is read from the device. A width runs as a slice of the widest.

    Args:
        network: a supernet (phase "search").
        loss: of the task, on outputs and targets, for the largest.
        soft: (outputs, the largest's outputs) -> scalar, for the others.
        precision: of the forward passes.

    Raises:
        SpaceError: what `network.by_size` says.
    """
    call, sizes = Stateless(network), by_size(network)

    def taught(theta: Any, outer: Any, batch: Any) -> Tensor:
        inputs, targets = batch

        def outputs(mix: Mix) -> Tensor:
            found: Tensor = computed_in(precision, call, theta, inputs, mix=mix)
            return found

        largest, smallest = (extreme(sizes, network.kept, largest=which) for which in (True, False))
        drawn = [{name: int(w.argmax()) for name, w in mix.items()} for mix in (outer["mix"], *outer.get("others", ()))]
        best = outputs(largest)
        teacher = best.detach()
        learned = torch.stack([soft(outputs(mix), teacher) for mix in (smallest, *drawn)]).sum()
        return loss(best, targets) + (learned - learned.detach())

    return taught
