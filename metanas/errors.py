"""The errors of the library: one root, and one class for each kind of thing that can be wrong.

Every message is one line that says what came, what is allowed, and how to mend it. Each class also inherits the
built-in that a caller would expect, so `except ValueError` catches a bad space as well as a bad number.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class MetanasError(Exception):
    """Root of all errors that the library raises on purpose."""


class SpaceError(MetanasError, ValueError):
    """A search space, a choice or an architecture that cannot be."""


class ShapeError(SpaceError):
    """Shapes that do not fit on an edge of a network."""


class DataError(MetanasError, ValueError):
    """Data that cannot be searched on: empty, mislabelled, not finite, of the wrong rank, leaking between splits."""


class RecipeError(MetanasError, ValueError):
    """A recipe with one or more mistakes; `problems` lists them all, each with its path."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))

    def __reduce__(self) -> tuple[type[RecipeError], tuple[tuple[str, ...]]]:
        return type(self), (self.problems,)  # pickle calls the class with `args`, which is the joined line


class BilevelError(MetanasError, ValueError):
    """A bilevel problem and an estimator that do not belong together."""


class DivergedError(MetanasError, ArithmeticError):
    """Too many updates in a row were not finite."""


class RankError(MetanasError, RuntimeError):
    """Processes that work together and cannot go on: one is gone, or late, or there should be one only."""

    @classmethod
    def of(cls, error: Exception) -> RankError:
        """From what torch.distributed says."""
        why = (str(error).splitlines() or ["no reason given"])[0][:200]
        return cls(f"another rank is gone or late ({why}); start all again: a run goes on from its last checkpoint")


class OutOfMemoryError(MetanasError, RuntimeError):
    """A batch that does not fit into memory."""


class RunError(MetanasError, RuntimeError):
    """A run folder that cannot be used: missing, locked, read-only, changed, or of another version."""


class CheckpointError(RunError):
    """A checkpoint that is damaged, unsafe, or does not fit what it is loaded into."""


class InterruptedSearchError(MetanasError):
    """A search that was asked to stop, and wrote a checkpoint first; `signal` is the number of the signal, or None."""

    def __init__(self, message: str, signal: int | None = None) -> None:
        self.signal = signal
        super().__init__(message)


class ExportError(MetanasError, RuntimeError):
    """An export that was refused, or that does not compute what its source computes."""


class MissingDependencyError(MetanasError, ImportError):
    """An optional dependency is missing or too old; the message holds the pip command that mends it."""


def nearest(name: object, allowed: Iterable[str]) -> str:
    """A hint for a misspelt name: `'; did you mean "drnas"?'`, or the allowed names where none is near.

    >>> nearest("drnaz", ["darts", "drnas"])
    '; did you mean "drnas"?'
    >>> nearest("x", ["darts", "drnas"])
    '; allowed: darts, drnas'
    """
    names = list(allowed)
    close = difflib.get_close_matches(str(name), names, n=1)
    return f'; did you mean "{close[0]}"?' if close else f"; allowed: {', '.join(names)}"
