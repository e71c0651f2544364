"""Regularised evolution: the best of a few drawn from the population has a child, and the oldest dies, however good.

    until the population is full    a random architecture
    then                            parent = best of `sample` drawn from it; child = parent with one choice changed
    tell                            the child joins, the oldest leaves

Real, Aggarwal, Huang, Le: Regularized evolution for image classifier architecture search, AAAI 2019, arXiv:1802.01548.
Death by age is what keeps one lucky evaluation from filling the population.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from metanas.controllers.contract import ValueController
from metanas.controllers.memory import NOTHING, best_of, remembered
from metanas.errors import SpaceError
from metanas.space import Architecture, Space


@dataclass(frozen=True, kw_only=True)
class RegularisedEvolution(ValueController):
    """Ageing evolution by mutation. The defaults are those of NAS-Bench-201.

    Memory: that of random search, and "population": [architecture, value] of those alive, oldest first.

    Args:
        population: how many are alive.
        sample: how many of them compete to be the parent, all different. (The paper's pseudo-code may draw one twice,
            which selects less sharply: 93.94 in place of 93.98 on NAS-Bench-201's table, 1,500 seeds.)

    Raises:
        SpaceError: one of them is less than 1.
    """

    population: int = 10
    sample: int = 3

    def __post_init__(self) -> None:
        if min(self.population, self.sample) < 1:
            raise SpaceError(f"population and sample must be >= 1, got {self.population} and {self.sample}")

    def start(self, space: Space) -> dict[str, Any]:
        return {**NOTHING, "population": []}

    def propose(self, space: Space, memory: Mapping[str, Any], *, rng: np.random.Generator) -> Architecture:
        alive = memory["population"]
        if memory["told"] < self.population or not alive:
            return space.sample(rng)
        chosen = rng.choice(len(alive), size=min(int(self.sample), len(alive)), replace=False)
        drawn = [alive[k] for k in chosen]
        parent, _ = max(drawn, key=lambda row: row[1])
        return space.mutate(space.architecture(parent), rng)

    def tell(self, memory: Mapping[str, Any], architecture: Architecture, value: float) -> dict[str, Any]:
        alive = list(memory["population"])
        if math.isfinite(value):
            alive.append([architecture.to_json(), value])
        return {**remembered(memory, architecture, value), "population": alive[-int(self.population) :]}

    def best(self, space: Space, memory: Mapping[str, Any]) -> Architecture:
        return best_of(space, memory)
