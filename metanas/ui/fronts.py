"""What of a search for several objectives no other architecture beats, as the events of a run tell of it.

Values stand under the objective's name, in its own units; a name with a minus before it is to be small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from metanas.ui.fields import Record, as_number, as_record
from metanas.ui.points import ValuePoint

MOST = 200
"""Points kept on a front, the newest."""


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
