"""What a controller by values proposes, within the bounds of the space.

    propose until the space keeps it, `REDRAWN` times at most; then an architecture within the bounds, by chance

A controller may not look at bounds; the loops overrule it, so that nothing beyond them is ever evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from metanas.controllers import ParetoController, ValueController
from metanas.space import Architecture, Space

REDRAWN = 100
"""Proposals beyond the bounds after which an architecture within them is drawn at random."""


def proposed(
    space: Space, controller: ValueController | ParetoController, memory: Mapping[str, Any], *, rng: np.random.Generator
) -> Architecture:
    """A proposal within the bounds.

    Raises:
        SpaceError: none within the bounds was found, by chance either.

    >>> from metanas.controllers import RandomSearch
    >>> from metanas.space import chain, one_of, op
    >>> space = Space(chain(("y", one_of("y", {"skip": op("skip")}))))
    >>> controller = RandomSearch()
    >>> proposed(space, controller, controller.start(space), rng=np.random.default_rng(0))["y"]
    ('skip',)
    """
    for _ in range(REDRAWN):
        architecture = controller.propose(space, memory, rng=rng)
        if space.keeps(architecture):
            return architecture
    return space.sample(rng)
