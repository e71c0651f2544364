"""What an architecture is judged by after a short training, by name: several at once make several objectives.

    score            the task's metric on the outer split (accuracy: 0 to 1)
    loss             the mean loss there
    parameters       trainable ones                                             (`evaluation.cost`)
    multiply_adds    of one forward pass of one example

A name with a minus before it is to be small: `("score", "-parameters")`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import nn

from metanas.evaluation.cost import cost
from metanas.evaluation.training import Briefly, Score
from metanas.space import Architecture

Measure = Callable[[nn.Module, Score, tuple[int, ...]], float]
"""(the trained network, its score on the outer split, the shape of an example) -> a number."""

MEASURES: Mapping[str, Measure] = {
    "score": lambda network, found, shape: found.score,
    "loss": lambda network, found, shape: found.loss,
    "parameters": lambda network, found, shape: float(cost(network, shape).parameters),
    "multiply_adds": lambda network, found, shape: float(cost(network, shape).multiply_adds),
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
