"""The search that needs only values: propose, evaluate, tell.

    for each of `budget` evaluations:
        architecture = controller.propose(space, memory)
        memory = controller.tell(memory, architecture, objective(architecture))
        yield Evaluation

An objective is any function from an architecture to a number (larger is better): a short training, a table, a zero-cost
score. It may give several numbers, each with a name, of which one that begins with "-" is to be small. An evaluation
that fails (`failures`) is never the best; where the first few all fail, the search gives up. What is beyond the space's
bounds is proposed anew, and never evaluated. What was evaluated before need not be again (`known`); it is told as often
as it is proposed.

A screen looks at several proposals for each evaluation, by a score that costs next to nothing, and lets the best one
pass: the warm-up and the moves of Abdelfattah et al., ICLR 2021, arXiv:2101.08134, around any controller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from metanas.controllers import ParetoController, Scalarised, ValueController
from metanas.controllers.memory import best_of
from metanas.errors import SpaceError
from metanas.loop.failures import Failures, measured
from metanas.loop.known import Known
from metanas.loop.proposals import proposed
from metanas.loop.steps import Evaluation
from metanas.space import Architecture, Space

Objective = Callable[[Architecture], float] | Callable[[Architecture], Sequence[float]]
VALUE = "value"
"""What a single objective is called that has no name."""


@runtime_checkable
class Charged(Protocol):
    """An objective that says what it has spent, in seconds."""

    spent: float

    def __call__(self, architecture: Architecture) -> Any: ...


class ValueSearch:
    """A search in progress: the controller's memory and how many architectures were evaluated.

    Args:
        objective: architecture -> how good it is, larger is better; or a sequence of numbers, one for each of `names`.
        controller: one of several values; one of a single value is then `Scalarised`.
        budget: how many architectures are evaluated at most.
        seed: of what is proposed.
        seconds: what may be charged: no evaluation begins when the objective's `spent` has reached it.
        names: of what the objective gives; `"-latency"` is to be small, and given as it is.
        screen: architecture -> score, larger is better; of `candidates` proposals the one with the largest is
            evaluated. A score that is not finite, or fails as an evaluation does, is the lowest.
        candidates: how many proposals are scored for each evaluation.
        once: whether an architecture that is proposed again has the values that it had, and costs nothing; for an
            objective that gives the same each time.

    Raises:
        SpaceError: budget or candidates < 1, or seconds for an objective that charges nothing; names that are missing
            or repeated; a controller of several values for one.
    """

    def __init__(
        self,
        space: Space,
        objective: Objective,
        controller: ValueController | ParetoController,
        *,
        budget: int,
        seed: int,
        seconds: float | None = None,
        names: Sequence[str] = (VALUE,),
        screen: Objective | None = None,
        candidates: int = 1,
        once: bool = False,
    ) -> None:
        if min(budget, candidates) < 1:
            name, given = ("budget", budget) if budget < 1 else ("candidates", candidates)
            raise SpaceError(f"{name} must be >= 1, got {given}")
        charged = objective if isinstance(objective, Charged) else None
        if seconds is not None and charged is None:
            raise SpaceError("seconds: the objective does not say what it has spent; leave them out, or take a table")
        self.seconds, self.charged = seconds, charged
        self.names = _checked(names, controller)
        self.signs = tuple(-1.0 if name.startswith("-") else 1.0 for name in self.names)
        if isinstance(controller, ValueController) and len(self.names) > 1:
            controller = Scalarised(controller=controller)
        self.space, self.objective, self.controller = space, objective, controller
        self.budget, self.seed, self.step = budget, seed, 0
        self.screen, self.candidates = screen, candidates if screen else 1
        self.scores: dict[Architecture, float] = {}
        self.memory = controller.start(space)
        self.failures, self.known = Failures(), Known(once=once)

    def steps(self) -> Iterator[Evaluation]:
        """The evaluations that are left, in order. Errors of the objective that are no failures pass through.

        Raises:
            DivergedError: the first few evaluations all failed; it groups the reasons.
        """
        self.failures.give_up(self.budget)
        while self.step < self.budget and not self._spent():
            architecture = self._screened(np.random.default_rng([self.seed, self.step]))
            found, reason, repeated = self.known.measured(self._values, architecture)
            self.failures.add(reason)
            self._tell(architecture, found)
            self.step += 1
            yield replace(self._evaluation(architecture, found, reason), repeated=repeated)
            self.failures.give_up(self.budget)

    def _values(self, architecture: Architecture) -> tuple[float, ...]:
        """What the objective gives, larger is better. TypeError for as many numbers as there are no names."""
        found = self.objective(architecture)
        several = isinstance(found, Sequence) or getattr(found, "ndim", 0) > 0
        values = tuple(map(float, found)) if several else (float(found),)  # type: ignore[arg-type]  # it is told apart
        if len(values) != len(self.names):
            raise TypeError(f"the objective gave {len(values)} values for {', '.join(self.names)}; give one for each")
        return tuple(sign * value for sign, value in zip(self.signs, values, strict=True))

    def _tell(self, architecture: Architecture, found: tuple[float, ...]) -> None:
        if isinstance(self.controller, ValueController):
            self.memory = self.controller.tell(self.memory, architecture, found[0] if found else math.nan)
        else:
            self.memory = self.controller.tell(self.memory, architecture, found)

    def _evaluation(self, architecture: Architecture, found: tuple[float, ...], reason: str | None) -> Evaluation:
        best_value = self.memory["value"]  # of several, the first one's
        several = isinstance(self.controller, ParetoController)
        return Evaluation(
            self.step,
            self.budget,
            architecture,
            found[0] if found else math.nan,
            None if best_value is None else best_of(self.space, self.memory),
            best_value,
            reason,
            self._named(found) if several else {},
            several and [architecture.to_json(), list(found)] in self.memory["front"],
        )

    def _named(self, found: Sequence[float]) -> dict[str, float]:
        """Values by name, in their own units."""
        return {n: sign * value for n, sign, value in zip(self.names, self.signs, found, strict=False)}

    def front(self) -> list[tuple[Architecture, dict[str, float]]]:
        """Of several objectives, those that no other one beats in all, and their values; from the best first one on."""
        rows = sorted(self.memory.get("front", []), key=lambda row: -row[1][0])
        return [(self.space.architecture(taken), self._named(values)) for taken, values in rows]

    def _screened(self, rng: np.random.Generator) -> Architecture:
        """The proposal that is evaluated."""
        draws = (proposed(self.space, self.controller, self.memory, rng=rng) for _ in range(self.candidates))
        proposals = list(dict.fromkeys(draws))
        return max(proposals, key=self._score) if len(proposals) > 1 else proposals[0]

    def _score(self, architecture: Architecture) -> float:
        screen = self.screen
        assert screen is not None  # there are several proposals
        if architecture not in self.scores:
            found, reason = measured(lambda: float(screen(architecture)))  # type: ignore[arg-type]  # it is one number
            self.scores[architecture] = found[0] if reason is None else -math.inf
        return self.scores[architecture]

    def _spent(self) -> bool:
        return self.seconds is not None and self.charged is not None and self.charged.spent >= self.seconds

    def derive(self) -> Architecture:
        """The best architecture so far; of several objectives, the one at the knee of the front (`controllers.front`).

        Raises SpaceError before the first finite value.
        """
        return self.controller.best(self.space, self.memory)

    def state(self) -> dict[str, Any]:
        """Everything that a search needs to go on: plain data."""
        found = {
            "step": self.step,
            "memory": dict(self.memory),
            "failures": self.failures.state(),
            "known": self.known.state(),
        }
        return found if self.charged is None else {**found, "spent": self.charged.spent}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state()` gave."""
        self.step, self.memory = state["step"], dict(state["memory"])
        self.failures.restore(state.get("failures", ()), succeeded=self.memory["value"] is not None)
        self.known.restore(self.space, state.get("known", ()))  # the first version kept none
        if self.charged is not None:
            self.charged.spent = state["spent"]


def _checked(names: Sequence[str], controller: ValueController | ParetoController) -> tuple[str, ...]:
    plain = [name.removeprefix("-") for name in names]
    if not plain or not all(plain) or len(set(plain)) < len(plain):
        raise SpaceError(f"objectives need different names, got {', '.join(map(repr, names)) or 'none'}")
    if isinstance(controller, ParetoController) and len(plain) < 2:
        raise SpaceError(f"{type(controller).__name__} needs two objectives or more, got {', '.join(names)}; name them")
    return tuple(names)
