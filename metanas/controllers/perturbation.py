"""Derivation by perturbation: the operation that is missed most when it is taken out of the supernet.

    strength(choice, candidate) = loss of the supernet without the candidate, the others reweighed to sum to 1
    one of n     the option with the largest strength
    k of n       as in `derivation`, by the strengths of the choices behind the sources

The size of a mixing weight says little about what an operation does for the supernet; its absence says more. Wang,
Cheng, Chen, Tang, Hsieh: Rethinking architecture selection in differentiable NAS, ICLR 2021, arXiv:2108.04392
(DARTS-PT; there the supernet is tuned again after each choice).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from metanas.controllers.base import Evaluate
from metanas.controllers.derivation import strongest
from metanas.space import Architecture, Space


def most_missed(space: Space, weights: Mapping[str, Tensor], evaluate: Evaluate) -> Architecture:
    """The architecture of the operations whose absence raises the loss most.

    Args:
        weights: mixing weights (candidates,) of every choice, about which the supernet is perturbed.
        evaluate: called once per candidate that may be derived.

    >>> import torch
    >>> from metanas.space import chain, one_of, op
    >>> space = Space(chain(("y", one_of("y", {"conv": op("conv"), "skip": op("skip")}))))
    >>> most_missed(space, {"y": torch.tensor([0.9, 0.1])}, lambda w: float(w["y"][0])).to_json()
    {'y': 'skip'}
    """
    return strongest(space, {name: strengths(space, weights, name, evaluate) for name in weights})


def strengths(space: Space, weights: Mapping[str, Tensor], name: str, evaluate: Evaluate) -> Tensor:
    """The loss without each candidate of one choice, (candidates,); -inf for candidates that are never derived."""
    choice = space.program.choice(name)
    found = weights[name].new_full((len(choice.candidates),), -float("inf"))
    for label in choice.options:
        index = choice.index(label)
        without = weights[name].clone()
        without[index] = 0.0
        rest = without.sum()
        if rest > 0:  # a candidate that is all there is cannot be taken out: it is kept
            found[index] = evaluate({**weights, name: without / rest})
        else:
            found[index] = float("inf")
    return found
