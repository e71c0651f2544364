"""What a controller is: it holds no state, and it says what it needs. The loop computes only that:

    GradientController   a hypergradient     DARTS, DrNAS          (in `base`, with what else needs torch)
    ValueController      a value             random search
    ParetoController     several values      NSGA-II

State is a value: the memory of a value controller is plain data, omega a dict of tensors; both go into a checkpoint. A
search by values over a table takes milliseconds, so nothing here imports torch, which takes seconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metanas.controllers.memory import knee_of
from metanas.space import Architecture, Space


class Controller(ABC):
    """What gradient and value controllers share: they say which of the two they are, and nothing else."""

    @property
    @abstractmethod
    def needs(self) -> str:
        """`"gradient"`, `"value"` or `"values"`."""


class ValueController(Controller):
    """Proposes architectures and is told how good they are."""

    @property
    def needs(self) -> str:
        return "value"

    @abstractmethod
    def start(self, space: Space) -> dict[str, Any]:
        """Its memory before the first proposal: plain data, JSON. `memory["value"]` is the best finite value told so
        far, None before there is one; what else it holds is the controller's own business.
        """

    @abstractmethod
    def propose(self, space: Space, memory: Mapping[str, Any], *, rng: np.random.Generator) -> Architecture:
        """The next architecture to evaluate."""

    @abstractmethod
    def tell(self, memory: Mapping[str, Any], architecture: Architecture, value: float) -> dict[str, Any]:
        """The memory after an evaluation (larger is better). A value that is not finite is never the best."""

    @abstractmethod
    def best(self, space: Space, memory: Mapping[str, Any]) -> Architecture:
        """The best architecture so far. Raises SpaceError before the first finite value."""


class ParetoController(Controller):
    """Proposes architectures and is told several values of each; it keeps those that no other one beats in all."""

    @property
    def needs(self) -> str:
        return "values"

    @abstractmethod
    def start(self, space: Space) -> dict[str, Any]:
        """Its memory before the first proposal: plain data, JSON. `memory["front"]` holds a row [architecture, values]
        for each that no other one dominates, in the order told, `memory["value"]` the best finite first value (None
        before there is one) and `memory["best"]` whose it is.
        """

    @abstractmethod
    def propose(self, space: Space, memory: Mapping[str, Any], *, rng: np.random.Generator) -> Architecture:
        """The next architecture to evaluate."""

    @abstractmethod
    def tell(self, memory: Mapping[str, Any], architecture: Architecture, values: Sequence[float]) -> dict[str, Any]:
        """The memory after an evaluation; of each value, larger is better. Where one of them is not finite, or there
        are none, the evaluation failed: it is never on the front.
        """

    def best(self, space: Space, memory: Mapping[str, Any]) -> Architecture:
        """The one of the front that gives up least (`front.knee`). Raises SpaceError before the first finite values."""
        return knee_of(space, memory)
