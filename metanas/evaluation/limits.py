"""Limits on what an architecture costs, as the bounds of a space: everything that draws or derives keeps them.

    excess(a) = sum over limits of max(0, cost(a) / limit - 1)

A cost is any function from an architecture to a number: a polynomial (`additive`), a built network (`ExactCost`), a
column of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from metanas.errors import SpaceError
from metanas.space import Architecture, Space, downhill

STARTS = 3
"""Random architectures from which the cheapest one is looked for."""


@dataclass(frozen=True, eq=False)
class Limits:
    """At most so much of every cost.

    Args:
        costs: name -> cost of an architecture.
        at_most: name -> its limit, > 0; of some of the costs.

    Raises:
        SpaceError: a limit that is not positive, or of no cost.

    >>> Limits({"n": lambda a: float(len(a))}, {"n": 2}).excess(Architecture({"x": "a", "y": "b", "z": "c"}))
    0.5
    """

    costs: Mapping[str, Callable[[Architecture], float]]
    at_most: Mapping[str, float]

    def __post_init__(self) -> None:
        for name, limit in self.at_most.items():
            if name not in self.costs or not limit > 0:
                raise SpaceError(f"a limit must be > 0 and of one of {', '.join(self.costs)}, got {name} = {limit}")

    def __str__(self) -> str:
        return ", ".join(f"{name} at most {limit:g}" for name, limit in self.at_most.items())

    def excess(self, architecture: Architecture) -> float:
        """How far beyond the limits it is, as shares of them; 0 within."""
        return sum(max(0.0, self.costs[name](architecture) / limit - 1) for name, limit in self.at_most.items())

    def problems(self, space: Space) -> list[str]:
        """A line for every limit that no architecture was found to keep; one where all together are too much."""
        found = []
        for name, limit in self.at_most.items():
            least = cheapest(space, self.costs[name], enough=limit)
            if least > limit:
                found.append(f"{name}: no architecture has at most {limit:g}; the smallest found has {least:g}")
        if not found:
            try:
                replace(space, bounds=self).sample(np.random.default_rng(0))
            except SpaceError:
                found.append(f"no architecture that keeps all of them was found ({self}); loosen one")
        return found


def cheapest(space: Space, cost: Callable[[Architecture], float], *, enough: float = 0.0) -> float:
    """The least cost that was found, by descents from random architectures; stops where it is `enough`."""
    rng, least = np.random.default_rng(0), np.inf
    for _ in range(STARTS):
        end = downhill(space, lambda architecture: max(cost(architecture) - enough, 0.0), space.sample(rng))
        least = min(least, cost(end))
        if least <= enough:
            break
    return float(least)
