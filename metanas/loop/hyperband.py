"""Hyperband: successive halving with several trades between how many are tried and how briefly they are.

    s = s_max, ..., 0, and again             s_max = floor(log_eta of the longest training R)
        n = ceil((s_max + 1) / (s + 1) eta^s)   candidates, proposed by a controller that needs values
        round i = 0, ..., s:                    floor(n / eta^i) of them, each trained from scratch for R / eta^(s-i)
        the controller is told each of them, with the value of its longest training
    the best                                 of those that were trained longest

Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar: Hyperband, JMLR 18, 2018, arXiv:1603.06560, where candidates come by
chance; here they may come from any controller, as in BOHB (Falkner, Klein, Hutter, ICML 2018, arXiv:1807.01774), whose
model is told of a single length of training. What is spent is counted in epochs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

import numpy as np

from metanas.controllers import ValueController
from metanas.errors import SpaceError
from metanas.loop.failures import Failures
from metanas.loop.halving import Brief, Halving, Round
from metanas.loop.known import Known
from metanas.loop.proposals import proposed
from metanas.loop.steps import Evaluation
from metanas.space import Architecture, Space

TRIES = 10
"""How often in a row a controller may propose what the bracket has already, before chance fills the bracket."""
DRAWS = 4
"""For each place in a bracket, the draws in a row of what it has after which a space with bounds has no more."""


def brackets(epochs: int, eta: int) -> tuple[tuple[Round, ...], ...]:
    """The rounds of every bracket, the one with the briefest trainings first.

    >>> [[(r.candidates, r.epochs) for r in rounds] for rounds in brackets(9, 3)]
    [[(9, 1), (3, 3), (1, 9)], [(5, 3), (1, 9)], [(3, 9)]]
    """
    most = next(s for s in count() if eta ** (s + 1) > epochs)
    found = []
    for s in range(most, -1, -1):
        n = -(-(most + 1) * eta**s // (s + 1))
        found.append(tuple(Round(n // eta**i, epochs // eta ** (s - i)) for i in range(s + 1)))
    return tuple(found)


class Hyperband:
    """A search in progress: the controller's memory, the bracket, and what was spent.

    Args:
        brief: the objective.
        controller: what proposes.
        epochs: of the longest training.
        eta: one in so many goes on to the next round.
        budget: epochs in all; no training begins that would go beyond.
        seed: of what is proposed.
        once: whether an architecture of a later bracket has the values that trainings of as many epochs gave before,
            where the objective gives the same each time; they count as spent.

    Raises:
        SpaceError: eta < 2, or above `epochs`; a budget that is not enough for one training.
    """

    def __init__(
        self,
        space: Space,
        brief: Brief,
        controller: ValueController,
        *,
        epochs: int,
        eta: int,
        budget: int,
        seed: int,
        once: bool = False,
    ) -> None:
        if not 2 <= eta <= epochs:
            raise SpaceError(f"eta must be between 2 and the epochs of the longest training, {epochs}, got {eta}")
        if budget < epochs:
            raise SpaceError(f"budget must be at least the epochs of the longest training, {epochs}, got {budget}")
        self.space, self.brief, self.controller, self.seed = space, brief, controller, seed
        self.plan, self.most = brackets(epochs, eta), budget
        self.memory = controller.start(space)
        self.failures, self.known = Failures(), Known(once=once)
        self.step, self.spent, self.bracket = 0, 0, 0
        self.halving: Halving | None = None
        self.longest: dict[
            str, list[Any]
        ] = {}  # of this bracket: name -> [architecture, value of its longest training]
        self.found: list[Any] | None = None  # [epochs, value, architecture] of the best so far

    @property
    def budget(self) -> int:
        """How many trainings there are in all."""
        trainings, spent = 0, 0
        for k in count():
            for round_ in self.plan[k % len(self.plan)]:
                for _ in range(round_.candidates):
                    if spent + round_.epochs > self.most:
                        return trainings
                    trainings, spent = trainings + 1, spent + round_.epochs
        raise AssertionError  # the brackets have no end

    def steps(self) -> Iterator[Evaluation]:
        """The trainings that are left, in order; values of trainings of different length do not compare.

        Raises:
            DivergedError: the first few trainings all failed; it groups the reasons.
        """
        budget = self.budget
        self.failures.give_up(budget)
        while True:
            architecture, epochs = self._due()
            if self.spent + epochs > self.most:
                return
            values, reason, repeated = self.known.measured(self.brief, architecture, epochs)
            value = values[0] if values else math.nan
            self.failures.add(reason)
            self._take(architecture, epochs, value)
            best, height = (None, None) if self.found is None else (self.derive(), self.found[1])
            yield Evaluation(
                self.step, budget, architecture, value, best, height, reason, epochs=epochs, repeated=repeated
            )
            self.failures.give_up(budget)

    def _due(self) -> tuple[Architecture, int]:
        """The next training; a new bracket begins where one is over."""
        due = None if self.halving is None else self.halving.next()
        if due is not None:
            return due
        for taken, value in self.longest.values():
            told = math.nan if value is None else value
            self.memory = self.controller.tell(self.memory, self.space.architecture(taken), told)
        rounds = self.plan[self.bracket % len(self.plan)]
        self.halving = Halving(rounds, self._proposed(rounds[0].candidates))
        self.bracket, self.longest = self.bracket + 1, {}
        return self.halving.candidates[0], rounds[0].epochs

    def _proposed(self, number: int) -> list[Architecture]:
        """Different candidates; the same ones again only where the space has no more."""
        rng = np.random.default_rng([self.seed, self.bracket])
        found: dict[Architecture, None] = {}
        _fill(found, number, TRIES, lambda: proposed(self.space, self.controller, self.memory, rng=rng))
        if self.space.bounds is None:
            _fill(found, min(number, self.space.size), math.inf, lambda: self.space.sample(rng))
        else:  # nobody knows how many architectures are within
            _fill(found, number, DRAWS * number, lambda: self.space.sample(rng))
        rows = list(found)
        return [rows[k % len(rows)] for k in range(number)]

    def _take(self, architecture: Architecture, epochs: int, value: float) -> None:
        assert self.halving is not None  # it said what is due
        self.halving.add(value)
        self.step, self.spent = self.step + 1, self.spent + epochs
        good = math.isfinite(value)
        self.longest[str(architecture)] = [architecture.to_json(), value if good else None]
        if good and (self.found is None or [epochs, value] > self.found[:2]):
            self.found = [epochs, value, architecture.to_json()]

    def derive(self) -> Architecture:
        """The best of those that were trained longest. Raises SpaceError before the first finite value."""
        if self.found is None:
            raise SpaceError(f"none of {self.step} trainings had a finite value; tell at least one")
        return self.space.architecture(self.found[2])

    def state(self) -> dict[str, Any]:
        """Everything that the search needs to go on: plain data."""
        return {
            "step": self.step,
            "spent": self.spent,
            "bracket": self.bracket,
            "memory": dict(self.memory),
            "failures": self.failures.state(),
            "known": self.known.state(),
            "longest": list(self.longest.values()),
            "found": self.found,
            "halving": None if self.halving is None else self.halving.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state()` gave."""
        self.step, self.spent, self.bracket = state["step"], state["spent"], state["bracket"]
        self.memory, self.found = dict(state["memory"]), state["found"]
        self.failures.restore(state["failures"], succeeded=self.found is not None)
        self.known.restore(self.space, state.get("known", ()))  # the first version kept none
        self.longest = {str(self.space.architecture(taken)): [taken, value] for taken, value in state["longest"]}
        self.halving = None
        if state["halving"] is not None:
            self.halving = Halving(self.plan[(self.bracket - 1) % len(self.plan)], [])
            self.halving.restore(self.space, state["halving"])


def _fill(found: dict[Architecture, None], number: int, tries: float, draw: Callable[[], Architecture]) -> None:
    """Draws until there are `number`, or so many draws in a row gave what is there already."""
    misses = 0
    while len(found) < number and misses < tries:
        before = len(found)
        found[draw()] = None
        misses = misses + 1 if len(found) == before else 0
