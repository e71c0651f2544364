"""What was evaluated before: where it is proposed again, it is told what it had, and nothing is trained.

All trainings of a search have one seed, so a second one of the same architecture would say what is known. Controllers
propose again what they do not keep: evolution a child like one that died, Optuna's samplers what they hold to be best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from metanas.loop.failures import measured
from metanas.space import Architecture, Space


class Known:
    """Owns the values of what was evaluated and did not fail, where an architecture is evaluated `once`; else nothing.

    >>> a, known = Architecture({"y": ("conv",)}), Known(once=True)
    >>> known.measured(lambda architecture: 0.5, a), known.measured(lambda architecture: 1 / 0, a)
    (((0.5,), None, False), ((0.5,), None, True))
    """

    def __init__(self, *, once: bool) -> None:
        self.once = once
        self.values: dict[tuple[Any, ...], tuple[float, ...]] = {}

    def measured(
        self, objective: Callable[..., Any], architecture: Architecture, *epochs: int
    ) -> tuple[tuple[float, ...], str | None, bool]:
        """As `failures.measured`, and whether it was known: of a training of as many epochs, where these are told."""
        key = (architecture, *epochs)
        if key in self.values:
            return self.values[key], None, True
        found, reason = measured(objective, *key)
        if self.once and reason is None:
            self.values[key] = found
        return found, reason, False

    def state(self) -> list[list[Any]]:
        """Plain data: a row [architecture, epochs, values] for each evaluation."""
        return [[a.to_json(), epochs, list(values)] for (a, *epochs), values in self.values.items()]

    def restore(self, space: Space, rows: Iterable[Sequence[Any]]) -> None:
        """Goes on from what `state()` gave."""
        self.values = {(space.architecture(taken), *epochs): tuple(values) for taken, epochs, values in rows}
