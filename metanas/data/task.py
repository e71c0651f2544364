"""What a network is asked for: the width of its output, the loss of its training, the metric that it is judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Task:
    """A kind of question to data.

    name:        "classification" or "regression"
    loss:        (outputs (batch, width), targets (batch,)) -> scalar, a mean over the batch
    metric:      of the same two -> scalar (a tensor or a number); larger is better; nan where it is not defined. On a
                 split it is given all examples at once.
    metric_name: what the metric is called where it is shown; "accuracy" is shown in per cent

    >>> CLASSIFICATION.name, CLASSIFICATION.metric_name, CLASSIFICATION.outputs(10)
    ('classification', 'accuracy', 10)
    >>> REGRESSION.name, REGRESSION.metric_name, REGRESSION.outputs(0)
    ('regression', 'R2', 1)
    """

    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    metric: Callable[[Tensor, Tensor], Tensor | float]
    metric_name: str

    def outputs(self, classes: int) -> int:
        """Width of the output of a network for this task, where the data has so many classes."""
        return classes or 1


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The share of examples whose largest output is their class.

    >>> float(accuracy(torch.eye(4), torch.tensor([0, 1, 2, 0])))
    0.75
    """
    return (outputs.argmax(-1) == targets).float().mean()


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """The mean squared error of outputs (batch, 1) or (batch,) to targets (batch,); never one of every pair.

    >>> float(squared_error(torch.tensor([[1.0], [3.0]]), torch.tensor([1.0, 1.0])))
    2.0
    """
    return F.mse_loss(outputs.reshape(targets.shape), targets)


def r2(outputs: Tensor, targets: Tensor) -> Tensor:
    """The share of the targets' variance that is explained: 1 is perfect, 0 is their mean, less is worse than that;
    nan where all targets are equal.

    >>> y = torch.tensor([1.0, 2.0, 3.0])
    >>> float(r2(y[:, None], y)), float(r2(torch.full((3, 1), 2.0), y))
    (1.0, 0.0)
    """
    left = (outputs.reshape(targets.shape) - targets).square().sum()
    whole = (targets - targets.mean()).square().sum()
    return torch.where(whole > 0, 1 - left / whole, torch.nan)


CLASSIFICATION = Task("classification", F.cross_entropy, accuracy, "accuracy")
REGRESSION = Task("regression", squared_error, r2, "R2")
