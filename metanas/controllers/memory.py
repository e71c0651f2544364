"""What the controllers that need values remember alike: how many were told, and the best finite value among them; of
several values, the front.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from metanas.controllers.front import dominates, knee
from metanas.errors import SpaceError
from metanas.space import Architecture, Space

NOTHING: Mapping[str, Any] = {"told": 0, "best": None, "value": None}


def remembered(memory: Mapping[str, Any], architecture: Architecture, value: float) -> dict[str, Any]:
    """The memory after one more value (larger is better); one that is not finite is never the best.

    >>> memory = remembered(NOTHING, Architecture({"y": ("conv",)}), 0.5)
    >>> remembered(memory, Architecture({"y": ("skip",)}), math.nan)
    {'told': 2, 'best': {'y': 'conv'}, 'value': 0.5}
    """
    told = {**memory, "told": memory["told"] + 1}
    if not math.isfinite(value) or (memory["value"] is not None and value <= memory["value"]):
        return told
    return {**told, "best": architecture.to_json(), "value": value}


def best_of(space: Space, memory: Mapping[str, Any]) -> Architecture:
    """The best architecture that was told. Raises SpaceError before the first finite value."""
    if memory["best"] is None:
        raise SpaceError(f"none of {memory['told']} architectures had a finite value; tell at least one")
    return space.architecture(memory["best"])


def remembered_front(memory: Mapping[str, Any], architecture: Architecture, values: Sequence[float]) -> dict[str, Any]:
    """The memory after one more evaluation of several values; what failed is never on the front.

    >>> memory = {**NOTHING, "front": []}
    >>> for label, values in (("a", (1.0, 0.0)), ("b", (0.0, 1.0)), ("c", (2.0, 0.0)), ("d", ())):
    ...     memory = remembered_front(memory, Architecture({"y": (label,)}), values)
    >>> memory["front"], memory["value"], memory["told"]
    ([[{'y': 'b'}, [0.0, 1.0]], [{'y': 'c'}, [2.0, 0.0]]], 2.0, 4)
    """
    good = len(values) > 0 and all(map(math.isfinite, values))
    found = remembered(memory, architecture, values[0] if good else math.nan)
    front, taken = list(memory["front"]), architecture.to_json()
    if good and not any(other == taken or dominates(row, values) for other, row in front):
        front = [[other, row] for other, row in front if not dominates(values, row)]
        front.append([taken, list(values)])
    return {**found, "front": front}


def knee_of(space: Space, memory: Mapping[str, Any]) -> Architecture:
    """The architecture at the knee of the front. Raises SpaceError before the first finite values."""
    if not memory["front"]:
        return best_of(space, memory)  # which says why there is none
    return space.architecture(memory["front"][knee([row for _, row in memory["front"]])][0])
