"""A supernet that is trained on one random path a step, and then judges architectures by its loss.

    weights(choice)   one-hot, every candidate that may be derived equally likely, drawn anew for each step
    omega             constant: 0 for what may be derived, and so little for the rest that it is never drawn
    derive            the architecture with the least loss of the supernet among those that are looked at

`Rsps` looks at random ones, `Spos` breeds them. Candidates that other searches mix and never derive, as `none` in
DARTS, are not trained. A choice of k of n inputs is not drawn: in training, all inputs of a node come together.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metanas.controllers.base import Evaluate, GradientController, Omega, by_rows, small_random
from metanas.controllers.gumbel import gumbel_softmax, straight_through
from metanas.errors import SpaceError
from metanas.space import Architecture, Space

Value = Callable[[Architecture], float]
"""How good the supernet finds an architecture: minus its loss."""

NEVER = -1e4
"""Of a candidate that is never drawn: its probability is 0 in floating point."""


@dataclass(frozen=True, kw_only=True)
class UniformPath(GradientController):
    """Uniform single-path training; see `Rsps` and `Spos` for how an architecture is found.

    Args:
        evaluations: architectures that the supernet judges in the end.

    Raises:
        SpaceError: evaluations < 1.
    """

    evaluations: int = 100

    def __post_init__(self) -> None:
        if self.evaluations < 1:
            raise SpaceError(f"evaluations must be >= 1, got {self.evaluations}")

    @property
    def fixed(self) -> bool:
        return True

    @property
    def single_path(self) -> bool:
        return True

    def start(self, space: Space, *, generator: torch.Generator) -> Omega:
        omega = small_random(space, 0.0, generator=generator)
        for choice in space.choices:
            if choice.name in omega:
                omega[choice.name][[choice.index(label) for label in choice.never]] = NEVER
        return omega

    def relax(self, omega: Omega, *, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        return by_rows(lambda rows: straight_through(gumbel_softmax(rows, 1.0, generator=generator)), omega)

    def mean(self, omega: Omega) -> dict[str, Tensor]:
        return by_rows(lambda rows: torch.softmax(rows, -1), omega)

    def penalty(self, omega: Omega, *, progress: float) -> Tensor:
        return torch.zeros(())

    def optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, fused=True)

    def preview(self, space: Space, omega: Omega) -> Architecture | None:
        return None

    def evaluates(self, space: Space) -> int:
        return min(int(self.evaluations), space.size)

    def derive(self, space: Space, omega: Omega, *, evaluate: Evaluate, generator: torch.Generator) -> Architecture:
        """Raises SpaceError where the loss of none is finite."""
        seed = int(torch.randint(2**62, (), generator=generator))
        known: dict[Architecture, float] = {}

        def value(architecture: Architecture) -> float:
            if architecture not in known:
                loss = float(evaluate(path_of(space, architecture)))
                known[architecture] = -loss if math.isfinite(loss) else -math.inf
            return known[architecture]

        return self.searched(space, value, np.random.default_rng(seed))

    @abstractmethod
    def searched(self, space: Space, value: Value, rng: np.random.Generator) -> Architecture:
        """The best architecture of a search that calls `value` `evaluations` times (larger is better).

        Raises SpaceError where no value is finite.
        """


def path_of(space: Space, architecture: Architecture) -> dict[str, int | tuple[int, ...]]:
    """An architecture as what a supernet is set to: the place of what each choice takes, so that nothing else runs.

    >>> from metanas.space import chain, one_of, op
    >>> space = Space(chain(("y", one_of("y", {"conv": op("conv"), "skip": op("skip")}))))
    >>> path_of(space, space.architecture({"y": "skip"}))
    {'y': 1}
    """
    found: dict[str, int | tuple[int, ...]] = {}
    for choice in space.choices:
        if choice.name in architecture:
            places = tuple(map(choice.index, architecture[choice.name]))
            found[choice.name] = places[0] if choice.take == 1 else places
    return found
