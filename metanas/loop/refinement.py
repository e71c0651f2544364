"""Local search from a derived architecture, by successive halving on short trainings.

    candidates = the start and its neighbours (at most `rounds[0].candidates`)
    for each round:  every candidate is trained from scratch for `epochs`; the best `candidates` of the next round go on
    the best of the last round is the architecture

A supernet judges operations by what they do for the mixture; a network trained alone, however briefly, by what they
do for itself. All candidates of a round are trained the same way with the same seed.

Local search: White, Nolen, Savani: Exploring the loss landscape in neural architecture search, UAI 2021,
arXiv:2005.02960. Successive halving: Jamieson, Talwalkar, AISTATS 2016, arXiv:1502.07943.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from metanas.errors import SpaceError
from metanas.loop.failures import measured
from metanas.loop.steps import Evaluation
from metanas.space import Architecture, Space

Brief = Callable[[Architecture, int], float]
"""(architecture, epochs) -> value, larger is better: minus the loss on the outer split after a short training."""


@dataclass(frozen=True)
class Round:
    """How many candidates are trained, and for how many epochs."""

    candidates: int
    epochs: int


class Refinement:
    """A local search in progress.

    Args:
        space: where the neighbours are from.
        start: the derived architecture; it is always a candidate of the first round.
        brief: the objective.
        rounds: with ever fewer candidates.
        seed: decides which neighbours compete, where there are more than the first round takes.

    Raises:
        SpaceError: no round, or a round that takes more candidates than the one before.
    """

    def __init__(self, space: Space, start: Architecture, brief: Brief, rounds: Sequence[Round], *, seed: int) -> None:
        counts = [r.candidates for r in rounds]
        if not counts or counts != sorted(counts, reverse=True) or counts[-1] < 1:
            raise SpaceError(f"rounds must take ever fewer candidates, at least 1, got {counts}")
        self.space, self.start, self.brief, self.rounds = space, start, brief, tuple(rounds)
        self.round = 0
        self.candidates = [start, *self._neighbours(seed)]
        self.entrants = len(self.candidates)
        self.values: list[float] = []
        self.step = 0

    def _neighbours(self, seed: int) -> list[Architecture]:
        """As many neighbours as the first round takes, in random order; a large neighbourhood is not listed whole."""
        room = self.rounds[0].candidates - 1
        listed = list(islice(self.space.neighbours(self.start), 100 * room))
        order = np.random.default_rng(seed).permutation(len(listed))
        return [listed[k] for k in order[:room]]

    @property
    def budget(self) -> int:
        """How many trainings there are in all."""
        return sum(min(r.candidates, self.entrants) for r in self.rounds)

    def steps(self) -> Iterator[Evaluation]:
        """The trainings that are left, in order; values of different rounds do not compare."""
        while self.round < len(self.rounds):
            epochs = self.rounds[self.round].epochs
            while len(self.values) < len(self.candidates):
                architecture = self.candidates[len(self.values)]
                values, reason = measured(self.brief, architecture, epochs)
                self.values.append(values[0] if values else math.nan)
                self.step += 1
                best, value = self._ranked()[0]
                good = math.isfinite(value)
                found, height = (best, value) if good else (None, None)
                yield Evaluation(self.step, self.budget, architecture, self.values[-1], found, height, reason)
            self._halve()

    def _ranked(self) -> list[tuple[Architecture, float]]:
        rows = list(zip(self.candidates, self.values, strict=False))
        return sorted(rows, key=lambda row: -row[1] if math.isfinite(row[1]) else math.inf)

    def _halve(self) -> None:
        ranked = [architecture for architecture, _ in self._ranked()]
        self.round += 1
        keep = self.rounds[self.round].candidates if self.round < len(self.rounds) else 1
        self.candidates, self.values = ranked[:keep], []

    def derive(self) -> Architecture:
        """The best architecture so far: of the last round, once all is done."""
        return self._ranked()[0][0] if self.values else self.candidates[0]

    def state(self) -> dict[str, Any]:
        """Everything that the search needs to go on: plain data."""
        return {
            "round": self.round,
            "step": self.step,
            "candidates": [a.to_json() for a in self.candidates],
            "values": [v if math.isfinite(v) else None for v in self.values],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state()` gave."""
        self.round, self.step = state["round"], state["step"]
        self.candidates = [self.space.architecture(a) for a in state["candidates"]]
        self.values = [-math.inf if v is None else v for v in state["values"]]
