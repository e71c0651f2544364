"""Evaluations that fail: what counts as a failure, why, and when a search gives up.

    failed            a value that is not finite, a training that diverged, a network that cannot be or is too large
    passes through    a file that cannot be read, a row that a table lacks, a stop that was asked for

A failed evaluation is told as it is and is never the best. Where the first few all fail, the search stops and says why:
more of them would fail alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from metanas.errors import (
    BilevelError,
    DivergedError,
    MetanasError,
    OutOfMemoryError,
    ShapeError,
    SpaceError,
)

HOPELESS = 5
"""Evaluations that fail at the beginning, without one that does not, after which a search gives up."""
OWN = (BilevelError, DivergedError, OutOfMemoryError, ShapeError, SpaceError)


def measured(objective: Callable[..., Any], *arguments: Any) -> tuple[tuple[float, ...], str | None]:
    """(what an objective gives as plain numbers, why it failed or None); without numbers where it raised.

    >>> measured(lambda x: 2 * x, 3), measured(lambda: (1, float("inf")))
    (((6.0,), None), ((1.0, inf), 'the value is inf'))
    >>> measured(lambda: [][1:] + 0 * (1 / 0))
    ((), 'ZeroDivisionError: division by zero')
    """
    try:
        found = objective(*arguments)
        values = (
            tuple(map(float, found))
            if isinstance(found, Sequence) or getattr(found, "ndim", 0) > 0
            else (float(found),)
        )
    except OWN as error:
        return (), str(error)
    except MetanasError:
        raise
    except (RuntimeError, ValueError, ArithmeticError) as error:  # of torch too: out of memory, shapes
        return (), f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    wrong = next((value for value in values if not math.isfinite(value)), None)
    return values, None if wrong is None else f"the value is {wrong}"


class Failures:
    """Owns why evaluations failed, and whether any did not."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.succeeded = False

    def add(self, reason: str | None) -> None:
        """One more evaluation; None: it did not fail."""
        self.succeeded |= reason is None
        if reason is not None:
            self.reasons[reason] += 1

    def give_up(self, budget: int) -> None:
        """Raises DivergedError where all so far failed, and they are enough (or all there are).

        >>> failures = Failures()
        >>> for reason in ("the value is nan", "the value is inf", "the value is nan"): failures.add(reason)
        >>> failures.give_up(budget=3)
        Traceback (most recent call last):
        metanas.errors.DivergedError: every evaluation failed (2 times: the value is nan; 1 times: the value is inf)...
        """
        if self.succeeded or self.reasons.total() < min(HOPELESS, budget):
            return
        grouped = "; ".join(f"{count} times: {reason}" for reason, count in self.reasons.most_common(3))
        raise DivergedError(
            f"every evaluation failed ({grouped}); mend the objective; of trainings that diverge, lower evaluation.lr"
        )

    def state(self) -> list[list[Any]]:
        """Plain data: a row for every reason; nothing that succeeded needs to be kept beside the search's own best."""
        return [[reason, count] for reason, count in self.reasons.items()]

    def restore(self, rows: Iterable[Sequence[Any]], *, succeeded: bool) -> None:
        """Goes on from what `state()` gave."""
        self.reasons = Counter({str(reason): int(count) for reason, count in rows})
        self.succeeded = succeeded
