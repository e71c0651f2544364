"""What an architecture is judged by after a short training, by name: several at once make several objectives.

    score            the task's metric on the outer split (accuracy: 0 to 1)
    loss             the mean loss there
    parameters       trainable ones                                             (`evaluation.cost`)
    multiply_adds    of one forward pass of one example
    latency_ms       of such a pass in evaluation mode, measured where the network is: the median, after two passes that
                     do not count. A clock is asked, so such a search does not repeat bit for bit

A name with a minus before it is to be small: `("score", "-parameters")`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from metanas.evaluation.costs import cost
from metanas.evaluation.training import Briefly, Score
from metanas.network.timing import timed
from metanas.space import Architecture

Measure = Callable[[nn.Module, Score, tuple[int, ...]], float]
"""(the trained network, its score on the outer split, the shape of an example) -> a number."""


def latency_ms(network: nn.Module, shape: tuple[int, ...]) -> float:
    """Milliseconds of a forward pass of one example; the network's mode is left as it was."""
    weight = next(network.parameters())
    inputs = torch.zeros(1, *shape, device=weight.device, dtype=weight.dtype)
    training = network.training
    network.eval()
    with torch.no_grad():
        found = timed(lambda: network(inputs), device=weight.device, warmup=2)
    network.train(training)
    return found.median


MEASURES: Mapping[str, Measure] = {
    "score": lambda network, found, shape: found.score,
    "loss": lambda network, found, shape: found.loss,
    "parameters": lambda network, found, shape: float(cost(network, shape).parameters),
    "multiply_adds": lambda network, found, shape: float(cost(network, shape).multiply_adds),
    "latency_ms": lambda network, found, shape: latency_ms(network, shape),
}


def short_measures(
    briefly: Briefly, names: Sequence[str], shape: tuple[int, ...]
) -> Callable[[Architecture, int], tuple[float, ...]]:
    """An objective of several numbers, in their own units: those of `names`, with or without a minus, in that order.

    Args:
        briefly: (architecture, epochs) -> the network after a short training, and its score.
        shape: of one example, without the batch.
    """
    taken = [MEASURES[name.removeprefix("-")] for name in names]

    def objective(architecture: Architecture, epochs: int) -> tuple[float, ...]:
        network, found = briefly(architecture, epochs)
        return tuple(measure(network, found, shape) for measure in taken)

    return objective
