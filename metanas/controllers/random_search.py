"""Random search: architectures drawn uniformly, the best kept. The baseline of every other controller.

Li, Talwalkar: Random search and reproducibility for neural architecture search, UAI 2019, arXiv:1902.07638.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from metanas.controllers.contract import ValueController
from metanas.controllers.memory import NOTHING, best_of, remembered
from metanas.space import Architecture, Space


@dataclass(frozen=True, kw_only=True)
class RandomSearch(ValueController):
    """Uniform proposals; memory: {"told": how many, "best": architecture or None, "value": its value or None}."""

    def start(self, space: Space) -> dict[str, Any]:
        return dict(NOTHING)

    def propose(self, space: Space, memory: Mapping[str, Any], *, rng: np.random.Generator) -> Architecture:
        return space.sample(rng)

    def tell(self, memory: Mapping[str, Any], architecture: Architecture, value: float) -> dict[str, Any]:
        return remembered(memory, architecture, value)

    def best(self, space: Space, memory: Mapping[str, Any]) -> Architecture:
        return best_of(space, memory)
