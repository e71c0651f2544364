"""NSGA-II: the better half of parents and children lives on, by rank, and among equals where it is least crowded.

    the first generation    random architectures
    propose                 two parents, each the better of two drawn (rank, then crowding)
                            child = crossover of both with probability `crossover`, else the first
                            mutated with probability `mutation`, and where it is there already
    tell                    once `population` children are told, the best `population` of parents and children are the
                            next parents

Deb, Pratap, Agarwal, Meyarivan: A fast and elitist multiobjective genetic algorithm: NSGA-II, IEEE Transactions on
Evolutionary Computation 6(2), 2002. Crossover and mutation are those of the space.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metanas.controllers.contract import ParetoController
from metanas.controllers.front import crowding, ranks
from metanas.controllers.memory import NOTHING, remembered_front
from metanas.errors import SpaceError
from metanas.space import Architecture, Space

TRIES = 10
"""How often a child that is there already is mutated again."""


@dataclass(frozen=True, kw_only=True)
class Nsga2(ParetoController):
    """A genetic algorithm for several objectives.

    Memory: the front, and "parents" and "children": rows [architecture, values].

    Args:
        population: parents, and children of a generation.
        crossover, mutation: probabilities; that of a mutation is about what one of a few choices has where each mutates
            as often as one over their number.

    Raises:
        SpaceError: a population below 2, or a probability that is none.
    """

    population: int = 20
    crossover: float = 0.9
    mutation: float = 0.65

    def __post_init__(self) -> None:
        if self.population < 2:
            raise SpaceError(f"population must be >= 2, got {self.population}")
        for name in ("crossover", "mutation"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpaceError(f"{name} must be between 0 and 1, got {getattr(self, name)}")

    def start(self, space: Space) -> dict[str, Any]:
        return {**NOTHING, "front": [], "parents": [], "children": []}

    def propose(self, space: Space, memory: Mapping[str, Any], *, rng: np.random.Generator) -> Architecture:
        parents = memory["parents"]
        if not parents:
            return space.sample(rng)
        order = _order([values for _, values in parents])
        place = {k: at for at, k in enumerate(order)}
        first, second = (self._drawn(parents, place, rng) for _ in range(2))
        mother, father = space.architecture(first), space.architecture(second)
        child = space.crossover(mother, father, rng) if rng.random() < self.crossover else mother
        if rng.random() < self.mutation:
            child = space.mutate(child, rng)
        there = [taken for taken, _ in (*parents, *memory["children"])]
        for _ in range(TRIES):
            if child.to_json() not in there:
                break
            child = space.mutate(child, rng)
        return child

    @staticmethod
    def _drawn(parents: Sequence[Any], place: Mapping[int, int], rng: np.random.Generator) -> Any:
        """The better of two parents that are drawn."""
        one, two = (int(k) for k in rng.choice(len(parents), size=2, replace=False))
        return parents[min(one, two, key=lambda k: place[k])][0]

    def tell(self, memory: Mapping[str, Any], architecture: Architecture, values: Sequence[float]) -> dict[str, Any]:
        found = remembered_front(memory, architecture, values)
        children, parents = list(memory["children"]), list(memory["parents"])
        if len(values) and all(map(math.isfinite, values)):
            children.append([architecture.to_json(), list(values)])
        if len(children) >= self.population:
            both = [*parents, *children]
            kept = _order([row for _, row in both])[: int(self.population)]
            parents, children = [both[k] for k in sorted(kept)], []
        return {**found, "parents": parents, "children": children}


def _order(points: Sequence[Sequence[float]]) -> list[int]:
    """Points from the best to the worst: by rank, then by crowding within the rank, then the first."""
    rows = np.asarray(points, dtype=np.float64)
    rank, sparse = ranks(rows), np.zeros(len(rows))
    for k in range(int(rank.max()) + 1):
        at = rank == k
        sparse[at] = crowding(rows[at])
    return sorted(range(len(rows)), key=lambda k: (rank[k], -sparse[k]))
