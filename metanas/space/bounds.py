"""Bounds that no architecture may pass, as a number says how far beyond one is: parameters, multiply-adds, latency.

    a space with bounds draws, mutates, crosses and lists architectures within them, and no other

Where random draws do not hit them, a draw goes downhill: to the neighbour that is least far beyond, until it is within.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from metanas.errors import SpaceError
from metanas.space.architecture import Architecture

DRAWS = 64
"""Random draws before one goes downhill."""
STARTS = 8
LISTED = 2_000
"""Neighbours that are looked at, at most."""


class Walkable(Protocol):
    """What of a space is needed to walk through it."""

    def sample(self, rng: np.random.Generator) -> Architecture: ...

    def neighbours(self, architecture: Architecture) -> Iterator[Architecture]: ...


class Bounds(Protocol):
    """What says how far beyond the bounds an architecture is."""

    def excess(self, architecture: Architecture) -> float:
        """0 where the architecture keeps them; else how far it is beyond, in any unit that falls on the way back."""


def draw_within(space: Walkable, bounds: Bounds, rng: np.random.Generator) -> Architecture:
    """A random architecture of a space without bounds that keeps these.

    Raises:
        SpaceError: none was found.
    """
    for _ in range(DRAWS):
        drawn = space.sample(rng)
        if bounds.excess(drawn) <= 0:
            return drawn
    for _ in range(STARTS):
        found = downhill(space, bounds.excess, space.sample(rng))
        if bounds.excess(found) <= 0:
            return found
    raise SpaceError(f"no architecture within the bounds was found ({bounds}); loosen them")


def downhill(space: Walkable, cost: Callable[[Architecture], float], start: Architecture) -> Architecture:
    """Where the steepest descent to ever cheaper neighbours ends; at once where the cost is 0 or less.

    >>> from metanas.space import Space, chain, one_of, op
    >>> space = Space(chain(("y", one_of("y", {"conv": op("conv"), "skip": op("skip")}))))
    >>> str(downhill(space, lambda a: float(a["y"] == ("conv",)), space.architecture({"y": "conv"})))
    'y=skip'
    """
    here, price = start, cost(start)
    while price > 0:
        rows = [(cost(other), k, other) for k, other in enumerate(itertools.islice(space.neighbours(here), LISTED))]
        least = min(rows, default=None)
        if least is None or least[0] >= price:
            break
        price, _, here = least
    return here
