"""One builder for the supernet and for the network derived from it, and the plain executor, which is the specification.

    for step in program:                              what the output does not need is left out
        Apply      value = module(source)
        Combine    value = sum of weight * source     weights, indices or nothing: see `mixing`
        Loop       value = states of a small network along a sequence

What is exported is what was searched: only the phase differs (affine and tracked norms from scratch).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from metanas.errors import ShapeError, SpaceError, nearest
from metanas.network.blocks import Phase
from metanas.network.mixing import Mix, combine, reached, size_arguments
from metanas.network.ops import OPS, Maker, Shape
from metanas.space import Apply, Combine, Loop, Op, Program, Size, Space, sources_of
from metanas.space.derive import derive, resolve

PROBE_BATCH = 2


def supernet(space: Space, shape: Shape, outputs: int, *, ops: Mapping[str, Maker] = OPS, seed: int = 0) -> Network:
    """The network that holds every candidate, for a search.

    Args:
        shape: of one input, without the batch: (channels, height, width).
        outputs: width of the output: classes.
        seed: of the initial weights.

    Raises:
        ShapeError: shapes that do not fit, naming the value and the operation.
    """
    return Network(resolve(space.program, None, outputs), [shape], phase="search", ops=ops, seed=seed)


def derived(
    space: Space,
    architecture: Mapping[str, tuple[str, ...]],
    shape: Shape,
    outputs: int,
    *,
    phase: Phase = "scratch",
    ops: Mapping[str, Maker] = OPS,
    seed: int = 0,
) -> Network:
    """The network of one architecture; arguments as in `supernet`. Its values have the supernet's names."""
    program = derive(space.program, space.architecture(architecture), outputs)
    return Network(program, [shape], phase=phase, ops=ops, seed=seed)


class Network(nn.Module):
    """A program made runnable.

    Args:
        program: of a supernet (with choices) or of a derived network.
        shapes: of the inputs, without the batch.
        phase: "search" (batch statistics, cells without affine norms) or "scratch".
        ops: kind of operation -> maker.
        seed: of the initial weights; the global generator is left as it was.
    """

    def __init__(
        self,
        program: Program,
        shapes: Sequence[Shape],
        *,
        phase: Phase = "scratch",
        ops: Mapping[str, Maker] = OPS,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.program, self.phase = program, phase
        shapes_of = _infer(program, shapes, phase, ops)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for name, module in _make(program, shapes_of, phase, ops, seed):
                self.add_module(module_name(name), module)
        self.shapes = {v: tuple(s[1:]) for v, s in shapes_of.items()}
        self.zeros = frozenset(s.out for s in program.steps if isinstance(s, Apply) and s.op.kind == "none")
        self.last_read = _last_read(program)

    def forward(self, *inputs: Tensor, mix: Mix | None = None) -> Tensor:
        """The program's output. Inputs (batch, *shape); `mix`: choice -> what it is set to."""
        mix = mix or {}
        values = dict(zip(self.program.inputs, inputs, strict=True))
        need = reached(self.program, mix)
        for step, finished in zip(self.program.steps, self.last_read, strict=True):
            if step.out not in need:
                continue
            if isinstance(step, Combine):
                values[step.out] = combine(step, values, mix, self.zeros)
            elif isinstance(step, Apply):
                module = self._modules[module_name(step.out)]
                values[step.out] = module(values[step.source], **size_arguments(step, mix))  # type: ignore[misc]
            else:
                values[step.out] = self.scan(step, values[step.source], mix)
            for value in finished:  # a supernet holds many values: let go of what is read no more
                values.pop(value, None)
        return values[self.program.output]

    def scan(self, step: Loop, sequence: Tensor, mix: Mix) -> Tensor:
        """The states of a loop's network along a sequence: (batch, time, features) -> (batch, time, width)."""
        body = self._modules[module_name(step.out)]
        state = sequence.new_zeros(sequence.shape[0], step.width)
        states = []
        for value in sequence.unbind(1):
            state = body(state, value, mix=mix)  # type: ignore[misc]
            states.append(state)
        return torch.stack(states, 1)


def module_name(value: str) -> str:
    """The name of the module that makes a value: torch allows no dot in it."""
    return value.replace(".", "/")


def _last_read(program: Program) -> list[tuple[str, ...]]:
    last: dict[str, int] = {}
    for k, step in enumerate(program.steps):
        for source in sources_of(step):
            last[source] = k
    rows: list[list[str]] = [[] for _ in program.steps]
    for value, k in last.items():
        if value != program.output:
            rows[k].append(value)
    return [tuple(row) for row in rows]


def _infer(
    program: Program, shapes: Sequence[Shape], phase: Phase, ops: Mapping[str, Maker]
) -> dict[str, tuple[int, ...]]:
    """The shape of every value, found by running each step once on the meta device, before any memory is taken."""
    if len(shapes) != len(program.inputs):
        raise ShapeError(f"the network has the inputs {', '.join(program.inputs)}, got {len(shapes)} shapes")
    values = {
        name: torch.empty(PROBE_BATCH, *shape, device="meta")
        for name, shape in zip(program.inputs, shapes, strict=True)
    }
    zeros: frozenset[str] = frozenset()
    for step in program.steps:
        sources = [values[s] for s in sources_of(step)]
        try:
            if isinstance(step, Combine):
                _same_shape(step, values)
                values[step.out] = combine(step, values, {}, zeros)
            elif isinstance(step, Loop):
                batch, time, features = sources[0].shape
                _infer(step.program, [(step.width,), (features,)], phase, ops)
                values[step.out] = sources[0].new_empty(batch, time, step.width)
            else:
                with torch.device("meta"), torch.no_grad():
                    values[step.out] = make(step.op, tuple(sources[0].shape[1:]), phase, ops)(sources[0])
        except (RuntimeError, ValueError, IndexError) as error:
            if isinstance(error, SpaceError) and not isinstance(error, ShapeError):
                raise
            seen = ", ".join(f"{s} {tuple(values[s].shape[1:])}" for s in sources_of(step))
            what = step.op if isinstance(step, Apply) else type(step).__name__.lower()
            raise ShapeError(f"{step.out}: {what} does not take {seen} ({str(error).splitlines()[0]})") from None
    return {name: tuple(value.shape) for name, value in values.items()}


def _same_shape(step: Combine, values: Mapping[str, Tensor]) -> None:
    first = values[step.sources[0]].shape
    start = 2 if step.how in ("concat", "split") else 1
    for source in step.sources[1:]:
        if values[source].shape[start:] != first[start:]:
            raise ShapeError(
                f"{step.sources[0]} gives {tuple(first[1:])}, {source} gives {tuple(values[source].shape[1:])}; "
                f"a {step.how} needs equal shapes"
            )


def _make(
    program: Program, shapes: Mapping[str, tuple[int, ...]], phase: Phase, ops: Mapping[str, Maker], seed: int
) -> list[tuple[str, nn.Module]]:
    modules: list[tuple[str, nn.Module]] = []
    for step in program.steps:
        if isinstance(step, Apply):
            modules.append((step.out, make(step.op, shapes[step.source][1:], phase, ops)))
        elif isinstance(step, Loop):
            inputs = [(step.width,), tuple(shapes[step.source][2:])]
            modules.append((step.out, Network(step.program, inputs, phase=phase, ops=ops, seed=seed)))
    return modules


def make(op: Op, shape: Shape, phase: Phase, ops: Mapping[str, Maker]) -> nn.Module:
    """The module of one operation; an elastic one as wide as it may become."""
    if op.kind not in ops:
        raise SpaceError(f"unknown operation {op.kind!r}{nearest(op.kind, ops)}")
    if isinstance(op.width, Size):
        op = replace(op, width=op.width.values[-1])
    return ops[op.kind](op, shape, phase)
