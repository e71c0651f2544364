"""What operations cost one by one, each counted or measured once at its input's shape.

    row(op, shape) = (shape of what comes out, cost)           once for each pair, however often a network has it
    table(program) = sum of the rows of its steps              exact for parameters and multiply-adds, since sums,
                                                               means and concatenations have none; an estimate of
                                                               latency, which leaves these and what overlaps out

The shapes are those of the derived network itself, so the sum also holds where widths are chosen or needed. A table is
JSON, so that what was measured on one machine can be used on another:

    table = OperationTable.measured(device=torch.device("cpu"))
    table.of(space, (3, 32, 32), 10)(architecture)             measures what it meets for the first time
    table.save("latency.json");  OperationTable.read("latency.json")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from metanas.errors import SpaceError, nearest
from metanas.evaluation.costs import cost
from metanas.network import OPS, Maker
from metanas.network.network import make
from metanas.network.ops import Shape
from metanas.network.timing import timed
from metanas.run.atomic import read_json, write_json
from metanas.space import Apply, Architecture, Combine, Loop, Op, Program, Space, op_from_json, op_to_json

COSTS = ("parameters", "multiply_adds", "latency_ms")
"""What an operation costs; multiply-adds and milliseconds are of one forward pass."""
ONCE = "parameters"
"""What a loop costs once and not for every element of its sequence."""

SCHEMA = 1
Row = tuple[Shape, float]
"""(shape that comes out, cost)"""


def check_cost(name: object, allowed: Sequence[str] = COSTS) -> None:
    """Raises SpaceError for an unknown cost, with the nearest."""
    if name not in allowed:
        raise SpaceError(f"unknown cost {name!r}{nearest(name, allowed)}")


@dataclass(eq=False)
class OperationTable:
    """Rows of operations; `counted`, `measured` and `read` make one.

    Args:
        what: one of `COSTS`.
        find: (operation, shape of its input without the batch) -> row; None: what is not in the table is refused.
        rows: what was found so far.
        facts: where it was measured, for a reader.
    """

    what: str
    find: Callable[[Op, Shape], Row] | None = None
    rows: dict[tuple[Op, Shape], Row] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def counted(cls, what: str, *, ops: Mapping[str, Maker] = OPS) -> OperationTable:
        """Of parameters or multiply-adds, counted without memory (`evaluation.cost`).

        >>> OperationTable.counted("parameters").row(Op("conv", width=8, kernel=3), (3, 4, 4))
        ((8, 4, 4), 224.0)
        """
        check_cost(what, COSTS[:2])

        def find(op: Op, shape: Shape) -> Row:
            with torch.device("meta"), torch.no_grad():
                module = make(op, shape, "scratch", ops)
                given = module.eval()(torch.empty(2, *shape))
                return tuple(given.shape[1:]), float(getattr(cost(module, shape), what))

        return cls(what, find)

    @classmethod
    def measured(
        cls, *, ops: Mapping[str, Maker] = OPS, device: torch.device | None = None, batch: int = 1, passes: int = 15
    ) -> OperationTable:
        """Of latency: the median of some forward passes in evaluation mode, after two that do not count.

        Args:
            device: where; None: the CPU.
            batch: examples of a pass.
            passes: at most so many for each operation.
        """
        device = device or torch.device("cpu")

        def find(op: Op, shape: Shape) -> Row:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                module, inputs = make(op, shape, "scratch", ops).to(device).eval(), torch.randn(batch, *shape)
                if inputs.dim() == 4:  # as in a network
                    inputs = inputs.to(memory_format=torch.channels_last)
                    module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
                inputs = inputs.to(device)
                given = module(inputs)
                found = timed(lambda: module(inputs), device=device, warmup=2, passes=passes, seconds=0.2)
            return tuple(given.shape[1:]), found.median

        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        facts = {"device": name, "batch": batch, "threads": torch.get_num_threads(), "torch": torch.__version__}
        return cls("latency_ms", find, facts=facts)

    def row(self, op: Op, shape: Shape) -> Row:
        """The row of an operation. Raises SpaceError where it is not there and cannot be found here."""
        key = (op, tuple(shape))
        if key not in self.rows:
            if self.find is None:
                raise SpaceError(
                    f"the table of {self.what} has no row for {op} at {tuple(shape)}, of {len(self.rows)}; make it "
                    "for this space and these inputs"
                )
            self.rows[key] = self.find(*key)
        return self.rows[key]

    def total(self, program: Program, shapes: Sequence[Shape]) -> float:
        """The sum over the steps of a program without choices, whose inputs have these shapes."""
        at, total = dict(zip(program.inputs, map(tuple, shapes), strict=True)), 0.0
        for step in program.steps:
            if isinstance(step, Apply):
                at[step.out], price = self.row(step.op, at[step.source])
                total += price
            elif isinstance(step, Combine):
                at[step.out] = combined(step.how, [at[s] for s in step.sources])
            else:
                at[step.out], body, times = looped(step, at[step.source])
                total += self.total(step.program, body) * (1 if self.what == ONCE else times)
        return total

    def of(self, space: Space, shape: Shape, outputs: int) -> Callable[[Architecture], float]:
        """The cost of architectures of a space, by sums; `shape` of one input, `outputs` as for a network."""
        return lambda architecture: self.total(space.derive(architecture, outputs), [shape])

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        rows = [
            {"op": op_to_json(op), "shape": list(shape), "gives": list(given), "cost": price}
            for (op, shape), (given, price) in self.rows.items()
        ]
        return {"schema": SCHEMA, "what": self.what, **self.facts, "rows": rows}

    @classmethod
    def from_json(cls, data: Any) -> OperationTable:
        """The table of `to_json`; what is not in it is refused. Raises SpaceError for anything else."""
        try:
            if data["schema"] != SCHEMA:
                raise SpaceError(f"operation table: schema {data['schema']!r}, this version reads {SCHEMA}")
            check_cost(data["what"])
            rows = {
                (op_from_json(r["op"]), tuple(map(int, r["shape"]))): (tuple(map(int, r["gives"])), float(r["cost"]))
                for r in data["rows"]
            }
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, SpaceError):
                raise
            raise SpaceError(
                f"operation table: cannot be read ({error}); give what OperationTable.save wrote"
            ) from None
        facts = {name: value for name, value in data.items() if name not in ("schema", "what", "rows")}
        return cls(data["what"], None, rows, facts)

    def save(self, path: str | Path) -> None:
        """Writes it as JSON, whole or not at all."""
        write_json(Path(path), self.to_json())

    @classmethod
    def read(cls, path: str | Path) -> OperationTable:
        """The table in a file. Raises RunError where it is missing or no JSON, SpaceError where it is no table."""
        return cls.from_json(read_json(Path(path)))


def combined(how: str, shapes: Sequence[Shape]) -> Shape:
    """The shape of values that are combined."""
    first = shapes[0]
    return (sum(shape[0] for shape in shapes), *first[1:]) if how in ("concat", "split") else first


def looped(step: Loop, shape: Shape) -> tuple[Shape, list[Shape], int]:
    """Of a loop along (time, features): what it gives, what its body is given, and how often."""
    time, features = shape
    return (time, step.width), [(step.width,), (features,)], time
