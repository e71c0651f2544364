"""Any controller that needs one value, told several: each proposal weighs the objectives anew.

    w         drawn from the simplex, uniformly, for each proposal
    r_j       what is lost in objective j, 0 at the best told and 1 at the worst
    value     -(max over j of w_j r_j + 0.05 sum over j of w_j r_j)          (augmented Chebyshev)
    propose   the controller, told everything so far by that value

Each weight has an optimum of its own, and all of a front are optima of some weight, also where it is not convex.
Knowles: ParEGO, IEEE Transactions on Evolutionary Computation 10(1), 2006, there with a Gaussian process: `Scalarised`
of a `Predictor`. Of a random search it is the random search.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metanas.controllers.contract import ParetoController, ValueController
from metanas.controllers.memory import NOTHING, remembered_front
from metanas.space import Architecture, Space

RHO = 0.05


@dataclass(frozen=True, kw_only=True)
class Scalarised(ParetoController):
    """A controller of one value for several.

    Memory: the front, and "rows": [architecture, values] of everything told; no values where it failed.

    Args:
        controller: what proposes; its memory is made anew for each proposal, so its time grows with what was told.
    """

    controller: ValueController

    def start(self, space: Space) -> dict[str, Any]:
        return {**NOTHING, "front": [], "rows": []}

    def propose(self, space: Space, memory: Mapping[str, Any], *, rng: np.random.Generator) -> Architecture:
        own = self.controller.start(space)
        for (taken, _), value in zip(memory["rows"], _scalars(memory["rows"], rng), strict=True):
            own = self.controller.tell(own, Architecture(taken), value)
        return self.controller.propose(space, own, rng=rng)

    def tell(self, memory: Mapping[str, Any], architecture: Architecture, values: Sequence[float]) -> dict[str, Any]:
        good = all(map(math.isfinite, values))
        row = [architecture.to_json(), list(values) if good else []]
        return {**remembered_front(memory, architecture, values), "rows": [*memory["rows"], row]}


def _scalars(rows: Sequence[Any], rng: np.random.Generator) -> list[float]:
    """One value for each row, nan where there are none."""
    good = np.array([values for _, values in rows if values])
    if not len(good):
        return [math.nan] * len(rows)
    weights = rng.dirichlet(np.ones(good.shape[1]))
    lost = weights * (good.max(0) - good) / np.where(np.ptp(good, 0) > 0, np.ptp(good, 0), 1.0)
    found = iter((-(lost.max(1) + RHO * lost.sum(1))).tolist())
    return [next(found) if values else math.nan for _, values in rows]
