"""The search that needs only values: propose, evaluate, tell.

    for each of `budget` evaluations:
        architecture = controller.propose(space, memory)
        memory = controller.tell(memory, architecture, objective(architecture))
        yield Evaluation

An objective is any function from an architecture to a number (larger is better): a short training, a table, a zero-cost
score. A value that is not finite is told as it is, and is never the best. What is beyond the space's bounds is proposed
anew, and never evaluated.

A screen looks at several proposals for each evaluation, by a score that costs next to nothing, and lets the best one
pass: the warm-up and the moves of Abdelfattah et al., ICLR 2021, arXiv:2101.08134, around any controller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from metanas.controllers import ValueController
from metanas.errors import SpaceError
from metanas.loop.steps import Evaluation
from metanas.space import Architecture, Space

Objective = Callable[[Architecture], float]
REDRAWN = 100
"""Proposals beyond the bounds after which an architecture within them is drawn at random."""


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
        screen: architecture -> score, larger is better; of `candidates` proposals the one with the largest is
            evaluated. A score that is not finite is the lowest.
        candidates: how many proposals are scored for each evaluation.

    Raises:
        SpaceError: budget or candidates < 1, or seconds for an objective that charges nothing.
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
        screen: Objective | None = None,
        candidates: int = 1,
    ) -> None:
        if min(budget, candidates) < 1:
            name, given = ("budget", budget) if budget < 1 else ("candidates", candidates)
            raise SpaceError(f"{name} must be >= 1, got {given}")
        charged = objective if isinstance(objective, Charged) else None
        if seconds is not None and charged is None:
            raise SpaceError("seconds: the objective does not say what it has spent; leave them out, or take a table")
        self.seconds, self.charged = seconds, charged
        self.space, self.objective, self.controller = space, objective, controller
        self.budget, self.seed, self.step = budget, seed, 0
        self.screen, self.candidates = screen, candidates if screen else 1
        self.scores: dict[Architecture, float] = {}
        self.memory = controller.start(space)

    def steps(self) -> Iterator[Evaluation]:
        """The evaluations that are left, in order. Errors of the objective pass through."""
        while self.step < self.budget and not self._spent():
            architecture = self._screened(np.random.default_rng([self.seed, self.step]))
            value = float(self.objective(architecture))  # memory is plain data: no tensor, no numpy number
            self.memory = self.controller.tell(self.memory, architecture, value)
            self.step += 1
            best_value = self.memory["value"]
            best = None if best_value is None else self.derive()
            yield Evaluation(self.step, self.budget, architecture, value, best, best_value)

    def _screened(self, rng: np.random.Generator) -> Architecture:
        """The proposal that is evaluated."""
        proposals = list(dict.fromkeys(self._proposed(rng) for _ in range(self.candidates)))
        return max(proposals, key=self._score) if len(proposals) > 1 else proposals[0]

    def _score(self, architecture: Architecture) -> float:
        assert self.screen is not None  # there are several proposals
        if architecture not in self.scores:
            score = float(self.screen(architecture))
            self.scores[architecture] = score if math.isfinite(score) else -math.inf
        return self.scores[architecture]

    def _proposed(self, rng: np.random.Generator) -> Architecture:
        """A proposal within the bounds."""
        for _ in range(REDRAWN):
            architecture = self.controller.propose(self.space, self.memory, rng=rng)
            if self.space.keeps(architecture):
                return architecture
        return self.space.sample(rng)

    def _spent(self) -> bool:
        return self.seconds is not None and self.charged is not None and self.charged.spent >= self.seconds

    def derive(self) -> Architecture:
        """The best architecture so far. Raises SpaceError before the first finite value."""
        return self.controller.best(self.space, self.memory)

    def state(self) -> dict[str, Any]:
        """Everything that a search needs to go on: plain data."""
        found = {"step": self.step, "memory": dict(self.memory)}
        return found if self.charged is None else {**found, "spent": self.charged.spent}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state()` gave."""
        self.step, self.memory = state["step"], dict(state["memory"])
        if self.charged is not None:
            self.charged.spent = state["spent"]
