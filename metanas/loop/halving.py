"""Successive halving: many candidates are trained briefly, the better ones longer, the best of them to the end.

    for each round:  every candidate that is left is trained from scratch for `epochs`
                     the best `candidates` of the next round go on

Jamieson, Talwalkar: Non-stochastic best arm identification and hyperparameter optimization, AISTATS 2016,
arXiv:1502.07943. `Refinement` halves the neighbours of an architecture, `Hyperband` what a controller proposes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metanas.errors import SpaceError
from metanas.space import Architecture, Space

Brief = Callable[[Architecture, int], float]
"""(architecture, epochs) -> value, larger is better: minus the loss on the outer split after a short training."""


@dataclass(frozen=True)
class Round:
    """How many candidates are trained, and for how many epochs."""

    candidates: int
    epochs: int


class Halving:
    """Owns the candidates that are left, the values of this round, and which round it is.

    Args:
        rounds: with ever fewer candidates.
        candidates: of the first round.

    Raises:
        SpaceError: no round, or a round that takes more candidates than the one before.
    """

    def __init__(self, rounds: Sequence[Round], candidates: Sequence[Architecture]) -> None:
        counts = [r.candidates for r in rounds]
        if not counts or counts != sorted(counts, reverse=True) or counts[-1] < 1:
            raise SpaceError(f"rounds must take ever fewer candidates, at least 1, got {counts}")
        self.rounds, self.candidates = tuple(rounds), list(candidates)
        self.round = 0
        self.values: list[float] = []

    def next(self) -> tuple[Architecture, int] | None:
        """The training that is due: what, and for how many epochs; None where all is done."""
        if self.round < len(self.rounds) and len(self.values) == len(self.candidates):
            self._halve()
        if self.round == len(self.rounds):
            return None
        return self.candidates[len(self.values)], self.rounds[self.round].epochs

    def due(self) -> list[tuple[Architecture, int]]:
        """The trainings that are left of this round, the one that is `next` first."""
        epochs = self.rounds[self.round].epochs if self.round < len(self.rounds) else 0
        return [(architecture, epochs) for architecture in self.candidates[len(self.values) :]]

    def add(self, value: float) -> None:
        """The value of that training; one that is not finite is the worst."""
        self.values.append(value)

    def ranked(self) -> list[tuple[Architecture, float]]:
        """What was trained in this round, from the best to the worst."""
        rows = list(zip(self.candidates, self.values, strict=False))
        return sorted(rows, key=lambda row: -row[1] if math.isfinite(row[1]) else math.inf)

    def _halve(self) -> None:
        ranked = [architecture for architecture, _ in self.ranked()]
        self.round += 1
        keep = self.rounds[self.round].candidates if self.round < len(self.rounds) else 1
        self.candidates, self.values = ranked[:keep], []

    def best(self) -> Architecture:
        """The best of this round so far; of the last one, once all is done."""
        return self.ranked()[0][0] if self.values else self.candidates[0]

    def state(self) -> dict[str, Any]:
        """Everything that it needs to go on: plain data."""
        return {
            "round": self.round,
            "candidates": [a.to_json() for a in self.candidates],
            "values": [v if math.isfinite(v) else None for v in self.values],
        }

    def restore(self, space: Space, state: Mapping[str, Any]) -> None:
        """Goes on from what `state()` gave."""
        self.round = state["round"]
        self.candidates = [space.architecture(a) for a in state["candidates"]]
        self.values = [-math.inf if v is None else v for v in state["values"]]
