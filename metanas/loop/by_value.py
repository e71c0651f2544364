"""The search that needs only values: propose, evaluate, tell.

    for each of `budget` evaluations:
        architecture = controller.propose(space, memory)
        memory = controller.tell(memory, architecture, objective(architecture))
        yield Evaluation

An objective is any function from an architecture to a number (larger is better): a short training, a table, a zero-cost
score. One that fails (`failures`) is told as not a number, and is never the best; where the first few all fail, the
search gives up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from metanas.controllers import ValueController
from metanas.errors import SpaceError
from metanas.loop.failures import Failures, measured
from metanas.loop.steps import Evaluation
from metanas.space import Architecture, Space

Objective = Callable[[Architecture], float]


@runtime_checkable
class Charged(Protocol):
    """An objective that says what it has spent, in seconds."""

    spent: float

    def __call__(self, architecture: Architecture) -> float: ...


class ValueSearch:
    """A search in progress: the controller's memory and how many architectures were evaluated.

    Args:
        objective: architecture -> how good it is, larger is better.
        budget: how many architectures are evaluated at most.
        seed: of what is proposed.
        seconds: what may be charged: no evaluation begins when the objective's `spent` has reached it.

    Raises:
        SpaceError: budget < 1, or seconds for an objective that charges nothing.
    """

    def __init__(
        self,
        space: Space,
        objective: Objective,
        controller: ValueController,
        *,
        budget: int,
        seed: int,
        seconds: float | None = None,
    ) -> None:
        if budget < 1:
            raise SpaceError(f"budget must be >= 1, got {budget}")
        charged = objective if isinstance(objective, Charged) else None
        if seconds is not None and charged is None:
            raise SpaceError("seconds: the objective does not say what it has spent; leave them out, or take a table")
        self.seconds, self.charged = seconds, charged
        self.space, self.objective, self.controller = space, objective, controller
        self.budget, self.seed, self.step = budget, seed, 0
        self.memory = controller.start(space)
        self.failures = Failures()

    def steps(self) -> Iterator[Evaluation]:
        """The evaluations that are left, in order. Errors of the objective that are no failures pass through.

        Raises:
            DivergedError: the first few evaluations all failed; it groups the reasons.
        """
        self.failures.give_up(self.budget)
        while self.step < self.budget and not self._spent():
            rng = np.random.default_rng([self.seed, self.step])
            architecture = self.controller.propose(self.space, self.memory, rng=rng)
            values, reason = measured(self.objective, architecture)
            value = values[0] if values else math.nan
            self.failures.add(reason)
            self.memory = self.controller.tell(self.memory, architecture, value)
            self.step += 1
            best_value = self.memory["value"]
            best = None if best_value is None else self.derive()
            yield Evaluation(self.step, self.budget, architecture, value, best, best_value, reason)
            self.failures.give_up(self.budget)

    def _spent(self) -> bool:
        return self.seconds is not None and self.charged is not None and self.charged.spent >= self.seconds

    def derive(self) -> Architecture:
        """The best architecture so far. Raises SpaceError before the first finite value."""
        return self.controller.best(self.space, self.memory)

    def state(self) -> dict[str, Any]:
        """Everything that a search needs to go on: plain data."""
        found = {"step": self.step, "memory": dict(self.memory), "failures": self.failures.state()}
        return found if self.charged is None else {**found, "spent": self.charged.spent}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state()` gave."""
        self.step, self.memory = state["step"], dict(state["memory"])
        self.failures.restore(state.get("failures", ()), succeeded=self.memory["value"] is not None)
        if self.charged is not None:
            self.charged.spent = state["spent"]
