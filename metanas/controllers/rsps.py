"""Random search with weight sharing: random architectures, judged by a supernet that was trained on random paths.

    training    as in `uniform_path`
    derive      the least loss of the supernet among `evaluations` random architectures

Li, Talwalkar: Random search and reproducibility for neural architecture search, UAI 2019, arXiv:1902.07638.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from metanas.controllers.memory import NOTHING, best_of, remembered
from metanas.controllers.uniform_path import UniformPath, Value
from metanas.space import Architecture, Space


@final
@dataclass(frozen=True, kw_only=True)
class Rsps(UniformPath):
    """Uniform single-path training, random architectures."""

    def searched(self, space: Space, value: Value, rng: np.random.Generator) -> Architecture:
        memory: Mapping[str, Any] = NOTHING
        for _ in range(int(self.evaluations)):
            architecture = space.sample(rng)
            memory = remembered(memory, architecture, value(architecture))
        return best_of(space, memory)
