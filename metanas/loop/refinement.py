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
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import numpy as np

from metanas.loop.failures import measured
from metanas.loop.halving import Brief, Halving, Round
from metanas.loop.side_by_side import in_order
from metanas.loop.steps import Evaluation
from metanas.space import Architecture, Space


class Refinement:
    """A local search in progress.

    Args:
        space: where the neighbours are from.
        start: the derived architecture; it is always a candidate of the first round.
        brief: the objective.
        rounds: with ever fewer candidates.
        seed: decides which neighbours compete, where there are more than the first round takes.
        workers: how many trainings of a round run at the same time, in threads (`side_by_side`).

    Raises:
        SpaceError: no round, or a round that takes more candidates than the one before.
    """

    def __init__(
        self,
        space: Space,
        start: Architecture,
        brief: Brief,
        rounds: Sequence[Round],
        *,
        seed: int,
        workers: int = 1,
    ) -> None:
        self.space, self.start, self.brief, self.workers = space, start, brief, workers
        self.halving = Halving(rounds, [start])
        self.halving.candidates += self._neighbours(seed)
        self.entrants = len(self.halving.candidates)
        self.step = 0

    def _neighbours(self, seed: int) -> list[Architecture]:
        """As many neighbours as the first round takes, in random order; a large neighbourhood is not listed whole."""
        room = self.halving.rounds[0].candidates - 1
        listed = list(islice(self.space.neighbours(self.start), 100 * room))
        order = np.random.default_rng(seed).permutation(len(listed))
        return [listed[k] for k in order[:room]]

    @property
    def budget(self) -> int:
        """How many trainings there are in all."""
        return sum(min(r.candidates, self.entrants) for r in self.halving.rounds)

    @property
    def epochs(self) -> int:
        """How many epochs it takes, one after the other: a round waits for the last of its trainings."""
        return sum(-(-min(r.candidates, self.entrants) // self.workers) * r.epochs for r in self.halving.rounds)

    def steps(self) -> Generator[Evaluation, None, None]:
        """The trainings that are left, in order; values of different rounds do not compare."""
        while self.halving.next() is not None:
            due = self.halving.due()
            measures = in_order(lambda row: measured(self.brief, *row), due, self.workers)
            with closing(measures):
                for (architecture, epochs), (values, reason) in zip(due, measures, strict=True):
                    yield self._told(architecture, epochs, values[0] if values else math.nan, reason)

    def _told(self, architecture: Architecture, epochs: int, value: float, reason: str | None) -> Evaluation:
        self.halving.add(value)
        self.step += 1
        best, height = self.halving.ranked()[0]
        found, best_value = (best, height) if math.isfinite(height) else (None, None)
        return Evaluation(self.step, self.budget, architecture, value, found, best_value, reason, epochs=epochs)

    def derive(self) -> Architecture:
        """The best architecture so far: of the last round, once all is done."""
        return self.halving.best()

    def state(self) -> dict[str, Any]:
        """Everything that the search needs to go on: plain data."""
        return {**self.halving.state(), "step": self.step}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state()` gave."""
        self.step = state["step"]
        self.halving.restore(self.space, state)
