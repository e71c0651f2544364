"""How large a supernet would be, before any of its modules is made: a space may hold more than a machine.

    for step in program:   shape of its value; parameters of its operation, made once for each (operation, shape)

A module takes tens of microseconds and a few kilobytes to make, even without memory for its weights, so a space of a
million edges would take minutes to refuse by building it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from metanas.network.network import infer_shapes, make
from metanas.network.ops import OPS, Maker, Shape
from metanas.space import Apply, Op, Space, every_step
from metanas.space.derive import resolve


@dataclass(frozen=True)
class Extent:
    """choices: of the space; operations: modules of its supernet; parameters: trainable ones of them all."""

    choices: int
    operations: int
    parameters: int

    def __str__(self) -> str:
        return f"{self.choices:,} choices, {self.operations:,} operations and {self.parameters:,} parameters"


def operations_of(space: Space) -> int:
    """How many operations a supernet of the space would hold.

    >>> from metanas.space import chain, one_of, op
    >>> operations_of(Space(chain(("y", one_of("y", {"skip": op("skip"), "pool": op("avg_pool")})))))
    2
    """
    return sum(isinstance(step, Apply) for step in every_step(space.program))


def extent(space: Space, shape: Shape, outputs: int, *, ops: Mapping[str, Maker] = OPS) -> Extent:
    """The extent of a supernet that is not built; arguments and errors as of `supernet`.

    >>> from metanas.space import chain, op
    >>> extent(Space(chain(("a", op("linear", width=4)), ("b", op("linear", width=4)))), (4,), 4)
    Extent(choices=0, operations=2, parameters=40)
    """
    program = resolve(space.program, None, outputs)
    shapes = infer_shapes(program, [shape], "search", ops)
    known: dict[tuple[Op, Shape], int] = {}
    operations = parameters = 0
    with torch.device("meta"):
        for step in program.steps:
            if not isinstance(step, Apply):
                continue
            which = step.op, shapes[step.source]
            if which not in known:
                made = make(*which, "search", ops)
                known[which] = sum(p.numel() for p in made.parameters() if p.requires_grad)
            operations += 1
            parameters += known[which]
    return Extent(len(space.choices), operations, parameters)
