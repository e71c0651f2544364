"""Several objectives at once: who dominates whom, how crowded it is on a front, and how much a front covers.

    a dominates b    at least as good in every objective, better in one; of each, larger is better
    rank             0 for what nothing dominates, 1 for what nothing else dominates once rank 0 is gone, ...
    crowding         of a point on its front: the sum over objectives of the distance between its two neighbours, over
                     the objective's range; infinite at the ends
    hypervolume      of the space between a front and a reference point that all of it dominates
    knee             the point nearest to the best of every objective, each scaled to its range on the front

Ranks and crowding: Deb, Pratap, Agarwal, Meyarivan, A fast and elitist multiobjective genetic algorithm: NSGA-II, IEEE
Transactions on Evolutionary Computation 6(2), 2002. Hypervolume: Zitzler, Thiele, ibid. 3(4), 1999; exact, by slices
along the last objective, each of which is a hypervolume of one dimension less.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether a is at least as good in every objective, and better in one.

    >>> dominates((1, 2), (1, 1)), dominates((1, 2), (1, 2)), dominates((2, 0), (1, 1))
    (True, False, False)
    """
    return all(x >= y for x, y in zip(a, b, strict=True)) and any(x > y for x, y in zip(a, b, strict=True))


def ranks(points: ArrayLike) -> NDArray[np.int64]:
    """The rank of each row of points (points, objectives).

    >>> ranks([[1, 1], [2, 0], [0, 2], [0, 0], [1, 1]]).tolist()
    [0, 0, 0, 1, 0]
    """
    rows = np.asarray(points, dtype=np.float64)
    at_least = np.asarray((rows[:, None] >= rows[None]).all(-1))  # [a, b]: a is at least as good as b in all
    beats = at_least & ~at_least.T
    found = np.full(len(rows), -1)
    rank = 0
    while (left := found < 0).any():
        found[left & ~beats[left].any(0)] = rank
        rank += 1
    return found


def crowding(points: ArrayLike) -> Array:
    """How far the neighbours of each point of one front are apart, (points,).

    >>> crowding([[0, 4], [1, 2], [2, 1], [4, 0]]).tolist()
    [inf, 1.25, 1.25, inf]
    """
    rows = np.asarray(points, dtype=np.float64)
    found = np.zeros(len(rows))
    for column in rows.T:
        order = np.argsort(column, kind="stable")
        across = column[order[-1]] - column[order[0]]
        found[order[[0, -1]]] = np.inf
        if across > 0:
            found[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / across
    return found


def hypervolume(points: ArrayLike, reference: Sequence[float]) -> float:
    """The volume that points (points, objectives) dominate above a reference point (objectives,), exactly.

    Points that are not above it in every objective count for nothing. The time grows with the power of the number of
    objectives: milliseconds for a few hundred points of two, or some dozens of three.

    >>> hypervolume([[1, 2], [2, 1]], (0, 0)), hypervolume([[1, 1, 1], [2, 2, 0.5]], (0, 0, 0))
    (3.0, 2.5)
    """
    at = np.asarray(reference, dtype=np.float64)
    rows = np.asarray(points, dtype=np.float64).reshape(-1, len(at))
    return _volume(rows[(rows > at).all(1)] - at)


def _volume(rows: Array) -> float:
    """Of positive points, above zero."""
    if not len(rows):
        return 0.0
    if rows.shape[1] == 1:
        return float(rows.max())
    rows = rows[np.argsort(-rows[:, -1], kind="stable")]
    if rows.shape[1] == 2:  # the slices are as wide as the widest so far
        depth = -np.diff(rows[:, 1], append=0.0)
        return float(np.maximum.accumulate(rows[:, 0]) @ depth)
    total = 0.0
    for k in range(len(rows)):
        depth = rows[k, -1] - (rows[k + 1, -1] if k + 1 < len(rows) else 0.0)
        if depth > 0:
            total += depth * _volume(rows[: k + 1, :-1])
    return float(total)


def knee(points: ArrayLike) -> int:
    """Which point of a front gives up least; of several, the first.

    >>> knee([[0, 10], [9, 9], [10, 0]])
    1
    """
    rows = np.asarray(points, dtype=np.float64)
    best, across = rows.max(0), np.ptp(rows, 0)
    lost = (best - rows) / np.where(across > 0, across, 1.0)
    return int(np.argmin((lost**2).sum(1)))
