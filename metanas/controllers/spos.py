"""Single path one-shot: architectures are bred by crossover and mutation, judged by a supernet trained on random paths.

    training    as in `uniform_path`
    derive      an elitist genetic algorithm over architectures, whose value is minus the supernet's loss

Guo, Zhang, Mu, Heng, Liu, Wei, Sun: Single path one-shot neural architecture search with uniform sampling, ECCV 2020,
arXiv:1904.00420. The genetic algorithm is NSGA-II with one objective, which is one: the better half of parents and
children lives on, and parents are the better of two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from metanas.controllers.memory import best_of
from metanas.controllers.nsga2 import Nsga2
from metanas.controllers.uniform_path import UniformPath, Value
from metanas.errors import SpaceError
from metanas.space import Architecture, Space


@final
@dataclass(frozen=True, kw_only=True)
class Spos(UniformPath):
    """Uniform single-path training, evolution. The paper breeds 20 generations of 50.

    Args:
        evaluations: architectures that the supernet judges in the end.
        population: of the evolution.

    Raises:
        SpaceError: a population below 2, or one that the evaluations are not enough for.
    """

    evaluations: int = 300
    population: int = 30

    def __post_init__(self) -> None:
        if not 2 <= self.population <= self.evaluations:
            raise SpaceError(f"population must be between 2 and evaluations, {self.evaluations}, got {self.population}")

    def searched(self, space: Space, value: Value, rng: np.random.Generator) -> Architecture:
        breeding = Nsga2(population=self.population)
        memory = breeding.start(space)
        for _ in range(int(self.evaluations)):
            architecture = breeding.propose(space, memory, rng=rng)
            memory = breeding.tell(memory, architecture, (value(architecture),))
        return best_of(space, memory)
