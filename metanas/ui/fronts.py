"""What of a search for several objectives no other architecture beats, as the events of a run tell of it.

Values stand under the objective's name, in its own units; a name with a minus before it is to be small.

The hypervolume of a front (Zitzler, Thiele, IEEE Transactions on Evolutionary Computation 3(4), 1999) is told as a
share of the box between the worst and the best value that this run evaluated in each objective: 1 where one
architecture is the best in all. It says how a run gets on; between runs, which have other boxes, it says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate

from metanas.ui.fields import Record, as_number, as_record
from metanas.ui.points import ValuePoint

MOST = 200
"""Points kept on a front, the newest."""
AXES = 3
"""Objectives up to which a view has the time for a hypervolume."""

Extent = Mapping[str, tuple[float, float]]


def objectives(record: Record) -> dict[str, float]:
    """The values of an event by name, those that are numbers; empty where one of them is not finite.

    >>> objectives({"values": {"score": 0.9, "-parameters": 100}}), objectives({"values": {"score": None, "x": 1}})
    ({'score': 0.9, '-parameters': 100.0}, {})
    """
    numbers = {str(name): as_number(value) for name, value in as_record(record.get("values")).items()}
    found = {name: value for name, value in numbers.items() if value is not None and math.isfinite(value)}
    return found if len(found) == len(numbers) else {}


def beats(rival: Mapping[str, float], values: Mapping[str, float]) -> bool:
    """Whether a rival is at least as good in all objectives, and better in one.

    >>> beats({"score": 0.9, "-size": 5}, {"score": 0.9, "-size": 6}), beats({"score": 1}, {"score": 1})
    (True, False)
    """
    if rival.keys() != values.keys():
        return False
    gains = [(rival[name] - values[name]) * (-1 if name.startswith("-") else 1) for name in values]
    return min(gains, default=0) >= 0 and max(gains, default=0) > 0


def joined(front: tuple[ValuePoint, ...], point: ValuePoint) -> tuple[ValuePoint, ...]:
    """The front with one more point, where that belongs there; a point that is told again takes its own place."""
    others = tuple(p for p in front if p.step != point.step and p.architecture != point.architecture)
    if not point.values or any(beats(other.values, point.values) for other in others):
        return front if point not in front else (*others, point)
    return (*(other for other in others if not beats(point.values, other.values)), point)[-MOST:]


def stretched(extent: Extent, values: Mapping[str, float]) -> Extent:
    """The least and the greatest value of each objective, with those of one more architecture.

    >>> stretched({"score": (0.5, 0.7)}, {"score": 0.9, "-size": 3.0})
    {'score': (0.5, 0.9), '-size': (3.0, 3.0)}
    """
    found = dict(extent)
    for name, value in values.items():
        low, high = found.get(name, (value, value))
        found[name] = min(low, value), max(high, value)
    return found


def hypervolume(front: Sequence[ValuePoint], extent: Extent) -> float | None:
    """The share of the box `extent` that a front dominates; None where there is no box, or it has too many sides.

    >>> front = [ValuePoint(k, s, None, None, {}, {"s": s, "-n": n}) for k, s, n in ((1, 1.0, 3.0), (2, 0.5, 2.0))]
    >>> hypervolume(front, {"s": (0.0, 1.0), "-n": (1.0, 5.0)}), hypervolume(front[:1], {"s": (1.0, 1.0)})
    (0.625, None)
    """
    names = [name for name, (low, high) in extent.items() if 0 < high - low < math.inf]
    told = [point.values for point in front if all(name in point.values for name in names)]
    if not told or not 0 < len(names) <= AXES:
        return None
    return _covered([tuple(_share(name, values[name], *extent[name]) for name in names) for values in told])


def _share(name: str, value: float, low: float, high: float) -> float:
    share = (value - low) / (high - low)
    return 1 - share if name.startswith("-") else share


def _covered(rows: Sequence[tuple[float, ...]]) -> float:
    """The volume between points and zero: in slices along the last axis, each of one dimension less."""
    if len(rows[0]) == 1:
        return max(row[0] for row in rows)
    rows = sorted(rows, key=lambda row: -row[-1])
    depths = [row[-1] - below for row, below in zip(rows, [*(row[-1] for row in rows[1:]), 0.0], strict=True)]
    if len(rows[0]) == 2:  # a slice is as wide as the widest so far
        return sum(wide * depth for wide, depth in zip(accumulate((row[0] for row in rows), max), depths, strict=True))
    return sum(d * _covered([row[:-1] for row in rows[:k]]) for k, d in enumerate(depths, start=1) if d > 0)
