"""Local search: the neighbours of the best so far, in random order; from a place that none of them beats, begin anew.

    current    a random architecture
    propose    a neighbour of `current` that was not told yet
    tell       a better one is the new current; when no neighbour is left, the next is random

White, Nolen, Savani: Exploring the loss landscape in neural architecture search, UAI 2021, arXiv:2005.02960. This is
the variant that moves as soon as something is better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from metanas.controllers.contract import ValueController
from metanas.controllers.memory import NOTHING, best_of, remembered
from metanas.space import Architecture, Space


@dataclass(frozen=True, kw_only=True)
class LocalSearch(ValueController):
    """Climbs from random starts.

    Memory: that of random search; "current" and its value "height" (None: about to start); "seen": the names of what
    was told since the last move.
    """

    def start(self, space: Space) -> dict[str, Any]:
        return {**NOTHING, "current": None, "height": None, "seen": []}

    def propose(self, space: Space, memory: Mapping[str, Any], *, rng: np.random.Generator) -> Architecture:
        if memory["current"] is None:
            return space.sample(rng)
        seen = set(memory["seen"])
        left = [a for a in space.neighbours(space.architecture(memory["current"])) if _name(a) not in seen]
        return left[int(rng.integers(len(left)))] if left else space.sample(rng)

    def tell(self, memory: Mapping[str, Any], architecture: Architecture, value: float) -> dict[str, Any]:
        found = remembered(memory, architecture, value)
        near = memory["current"] is not None and self._near(memory["current"], architecture)
        if math.isfinite(value) and (not near or value > memory["height"]):
            return {**found, "current": architecture.to_json(), "height": value, "seen": []}
        return {**found, "seen": [*memory["seen"], _name(architecture)]}

    @staticmethod
    def _near(current: Mapping[str, Any], architecture: Architecture) -> bool:
        """Whether it is a neighbour and not a new start: one choice apart, and what that brings along."""
        taken = architecture.to_json()
        apart = [name for name, label in current.items() if name in taken and taken[name] != label]
        return len(apart) <= 1

    def best(self, space: Space, memory: Mapping[str, Any]) -> Architecture:
        return best_of(space, memory)


def _name(architecture: Architecture) -> str:
    return repr(sorted(architecture.to_json().items()))
