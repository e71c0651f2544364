"""A model of the values told so far proposes what may be best: a Gaussian process, Thompson sampling.

    k(a, b)      exp(-d(a, b) / length) of the squared distance of two encodings: twice the choices that differ
    y            the values as normal scores of their ranks, so that their scale and outliers do not matter
    candidates   neighbours of the best ones told, and random architectures, none of which was told
    propose      the candidate with the largest draw of its own from the posterior (independent Thompson sampling)

After White, Neiswanger, Savani: BANANAS, AAAI 2021, arXiv:1910.11858, whose ensemble of networks gives way to a
Gaussian process: with a few hundred values its posterior is exact and takes a millisecond.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metanas.controllers.contract import ValueController
from metanas.controllers.memory import NOTHING, best_of, remembered
from metanas.errors import SpaceError
from metanas.space import Architecture, Space

Array = NDArray[np.float64]
MOST = 500
"""Values that the model looks at, the newest: its time grows with their third power."""


@dataclass(frozen=True, kw_only=True)
class Predictor(ValueController):
    """Proposes by a model of what it was told.

    Memory: that of random search, and "rows": [architecture, value] of every finite value, in the order told.

    Args:
        start_with: random architectures before the model is asked.
        length: of the kernel, in choices that differ.
        noise: variance of a value beside that of the process (1).
        parents: how many of the best lend their neighbours.
        random: random candidates beside them.

    Raises:
        SpaceError: a number that is not positive.
    """

    start_with: int = 10
    length: float = 2.0
    noise: float = 0.05
    parents: int = 8
    random: int = 10

    def __post_init__(self) -> None:
        for name in ("start_with", "length", "noise", "parents", "random"):
            if not getattr(self, name) > 0:
                raise SpaceError(f"{name} must be > 0, got {getattr(self, name)}")

    def start(self, space: Space) -> dict[str, Any]:
        return {**NOTHING, "rows": []}

    def propose(self, space: Space, memory: Mapping[str, Any], *, rng: np.random.Generator) -> Architecture:
        rows = memory["rows"][-MOST:]
        if len(rows) < max(self.start_with, 2):
            return space.sample(rng)
        told = [Architecture(taken) for taken, _ in rows]
        values = np.array([value for _, value in rows])
        best = np.argsort(-values, kind="stable")[: int(self.parents)]
        near = [other for k in best for other in _neighbours(space, told[k])]
        drawn = [space.sample(rng) for _ in range(int(self.random))]
        candidates = list(dict.fromkeys([*near, *drawn]).keys() - set(told))
        if not candidates:
            return space.sample(rng)
        candidates.sort(key=lambda architecture: tuple(architecture.items()))  # a set has an order of its own
        mean, deviation = self._posterior(_codes(space, told), normal_scores(values), _codes(space, candidates))
        return candidates[int(np.argmax(mean + deviation * rng.standard_normal(len(candidates))))]

    def _posterior(self, x: Array, y: Array, at: Array) -> tuple[Array, Array]:
        """Mean and deviation of the process at each row of `at`, given y (told,) at the rows of x."""
        root = np.linalg.cholesky(self._kernel(x, x) + self.noise * np.eye(len(x)))
        across = np.linalg.solve(root, self._kernel(x, at))
        mean = across.T @ np.linalg.solve(root, y)
        return mean, np.sqrt(np.maximum(1 - (across**2).sum(0), 0.0))

    def _kernel(self, a: Array, b: Array) -> Array:
        apart = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
        return np.asarray(np.exp(-np.maximum(apart, 0.0) / (2 * self.length)))

    def tell(self, memory: Mapping[str, Any], architecture: Architecture, value: float) -> dict[str, Any]:
        found = remembered(memory, architecture, value)
        rows = [*memory["rows"], [architecture.to_json(), value]] if math.isfinite(value) else memory["rows"]
        return {**found, "rows": rows}

    def best(self, space: Space, memory: Mapping[str, Any]) -> Architecture:
        return best_of(space, memory)


@lru_cache(maxsize=64)
def _neighbours(space: Space, architecture: Architecture) -> tuple[Architecture, ...]:
    return tuple(space.neighbours(architecture))


@lru_cache(maxsize=1 << 14)
def _code(space: Space, architecture: Architecture) -> Array:
    return np.asarray(space.encode(architecture), dtype=np.float64)


def _codes(space: Space, architectures: list[Architecture]) -> Array:
    return np.stack([_code(space, architecture) for architecture in architectures])


def normal_scores(values: Array) -> Array:
    """What a normal sample of that size would be expected to hold at each rank; equal values share one.

    >>> normal_scores(np.array([3.0, 1000.0, 3.0, 1.0])).round(2).tolist()
    [0.0, 1.15, 0.0, -1.15]
    """
    order = np.sort(values)
    rank = (np.searchsorted(order, values, "left") + np.searchsorted(order, values, "right") - 1) / 2
    inverse = NormalDist().inv_cdf
    return np.array([inverse(p) for p in (rank + 0.5) / len(values)])
