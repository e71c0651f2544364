"""What the controllers that need values remember alike: how many were told, and the best finite value among them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

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
