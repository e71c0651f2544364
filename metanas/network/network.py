"""One builder for the supernet and for the network derived from it, and the plain executor, which is the specification.

    for step in program:                              what the output does not need is left out
        Apply      value = module(source, what it reads beside)
        Combine    value = sum of weight * source     weights, indices or nothing: see `mixing`
        Loop       value = states of a small network along a sequence

What is exported is what was searched: only the phase differs (affine and tracked norms from scratch).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from metanas.errors import ShapeError, SpaceError, nearest
from metanas.network.blocks import Phase
from metanas.network.frozen import shadow
from metanas.network.mixing import Mix, combine, only_kept, route, size_arguments
from metanas.network.ops import OPS, Maker, Shape
from metanas.space import Apply, Combine, Loop, Needed, Op, Program, Size, Space, Step, sources_of
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

    Raises:
        ShapeError: shapes that do not fit, naming the value and the operation.
        SpaceError: an unknown operation, norm or activation; a width that is still open.
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
        self.shapes = infer_shapes(program, shapes, phase, ops)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the accelerators, too
            for name, module in _make(program, self.shapes, phase, ops, seed):
                self.add_module(module_name(name), module)
        for p in self.parameters():
            if p.dim() == 4:  # faster on the CPU (benchmarks/memory_format.py); torch refuses it for other tensors
                p.data = p.data.to(memory_format=torch.channels_last)
        self.zeros = frozenset(s.out for s in program.steps if isinstance(s, Apply) and s.op.kind == "none")
        self.last_read = _last_read(program)
        self.kept: Mapping[str, tuple[int, ...]] = {}

    def forward(
        self, *inputs: Tensor, mix: Mix | None = None, see: str = "", seen: dict[str, Tensor] | None = None
    ) -> Tensor:
        """The program's output, (batch, *shape); inputs of the same batch; `mix`: choice -> what it is set to.

        The value that is called `see` is put into `seen` as it passes.

        Raises SpaceError for a choice that the network does not have.
        """
        mix = only_kept(mix or {}, self.kept)
        self.check(mix)
        values = dict(zip(self.program.inputs, inputs, strict=True))
        way = route(self.program, mix)
        for step, finished in zip(self.program.steps, self.last_read, strict=True):
            if step.out not in way.needed:
                pass  # but what it would have been the last to read is let go of
            elif step.out in way.grounded:
                values[step.out] = inputs[0].new_zeros(inputs[0].shape[0], *self.shapes[step.out])
            elif isinstance(step, Combine):
                values[step.out] = combine(step, values, mix, self.zeros)
            elif isinstance(step, Apply):
                module = self._modules[module_name(step.out)]
                read = (values[source] for source in sources_of(step))
                values[step.out] = module(*read, **size_arguments(step, mix))  # type: ignore[misc]  # made for every step
            else:
                values[step.out] = self.scan(step, values[step.source], mix)
            if seen is not None and step.out == see:
                seen[see] = values[see]
            for value in finished:  # a supernet holds many values: let go of what is read no more
                values.pop(value, None)
        return values[self.program.output]

    @property
    def plain(self) -> Network:
        """The plain executor of the same modules: what a fused one was made of."""
        return self

    def keep(self, kept: Mapping[str, tuple[int, ...]]) -> None:
        """From now on only these candidates of a choice run in its mixtures, whose other weights must be 0.

        Args:
            kept: choice -> indices of candidates, growing; a choice that is not in it keeps all.
        """
        self.kept = dict(kept)

    def check(self, mix: Mix) -> None:
        """Raises SpaceError for a choice that the network does not have; one without choices takes any mix."""
        if self.program.choices:
            known = {c.name for c in self.program.choices}
            for name in mix.keys() - known:
                raise SpaceError(f"mix: no choice {name!r}{nearest(name, known)}")

    def scan(self, step: Loop, sequence: Tensor, mix: Mix) -> Tensor:
        """The states of a loop's network along a sequence: (batch, time, features) -> (batch, time, width)."""
        body = self._modules[module_name(step.out)]
        state = sequence.new_zeros(sequence.shape[0], step.width)
        states = []
        for value in sequence.unbind(1):
            state = body(state, value, mix=mix)  # type: ignore[misc]  # made for every step
            states.append(state)
        return torch.stack(states, 1)


OWN_NAMES = frozenset(
    {*dir(nn.Module()), "program", "shapes", "zeros", "last_read", "phase", "scan", "check", "plain", "kept", "keep"}
)


def module_name(value: str) -> str:
    """The name of the module that makes a value: torch allows no dot in it, and none that a module has already.

    >>> module_name("cell.1.from_0"), module_name("half")
    ('cell/1/from_0', 'half/')
    """
    return f"{value}/" if value in OWN_NAMES else value.replace(".", "/")


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


def infer_shapes(program: Program, shapes: Sequence[Shape], phase: Phase, ops: Mapping[str, Maker]) -> dict[str, Shape]:
    """The shape of every value, without the batch, found on the meta device before any memory is taken.

    Raises:
        ShapeError, SpaceError: as `Network` says.
    """
    return _infer(program, shapes, phase, ops, {})


def _infer(
    program: Program,
    shapes: Sequence[Shape],
    phase: Phase,
    ops: Mapping[str, Maker],
    known: dict[tuple[Op, Shape], Shape],
) -> dict[str, Shape]:
    """`known`: what operations have given so far; cells repeat."""
    if len(shapes) != len(program.inputs):
        raise ShapeError(f"the network has the inputs {', '.join(program.inputs)}, got {len(shapes)} shapes")
    found = dict(zip(program.inputs, map(tuple, shapes), strict=True))
    for step in program.steps:
        sources = {s: found[s] for s in sources_of(step)}
        try:
            found[step.out] = _shape_of(step, sources, phase, ops, known)
        except (RuntimeError, ValueError, IndexError) as error:
            why = (str(error).splitlines() or ["no reason given"])[0]
            if isinstance(error, SpaceError) and not isinstance(error, ShapeError):
                raise SpaceError(f"{step.out}: {why}") from None
            seen = ", ".join(f"{name} {shape}" for name, shape in sources.items())
            what = step.op if isinstance(step, Apply) else step.how if isinstance(step, Combine) else "scan"
            raise ShapeError(f"{step.out}: {what} does not take {seen} ({why})") from None
    return found


def _shape_of(
    step: Step,
    sources: Mapping[str, Shape],
    phase: Phase,
    ops: Mapping[str, Maker],
    known: dict[tuple[Op, Shape], Shape],
) -> Shape:
    shape = next(iter(sources.values()))
    if isinstance(step, Combine):
        _same_shape(step, sources)
        side_by_side = step.how in ("concat", "split")
        return (sum(sources[s][0] for s in step.sources), *shape[1:]) if side_by_side else shape
    if isinstance(step, Loop):
        time, features = shape
        _infer(step.program, [(step.width,), (features,)], phase, ops, known)
        return (time, step.width)
    if (step.op, shape) not in known:
        with torch.device("meta"), torch.no_grad():
            given = _probed(make(step.op, shape, phase, ops))(torch.empty(PROBE_BATCH, *shape))
        known[step.op, shape] = tuple(given.shape[1:])
    return known[step.op, shape]


def _probed(module: nn.Module) -> nn.Module:
    """What a maker of the user's gives may be a module that is there already: it is neither run nor changed."""
    return module if all(x.is_meta for x in (*module.parameters(), *module.buffers())) else shadow(module)


def _same_shape(step: Combine, shapes: Mapping[str, Shape]) -> None:
    first = shapes[step.sources[0]]
    start = 1 if step.how in ("concat", "split") else 0
    for source in step.sources[1:]:
        if shapes[source][start:] != first[start:]:
            raise ShapeError(f"{step.sources[0]} and {source} differ, a {step.how} needs equal shapes")


def _make(
    program: Program, shapes: Mapping[str, Shape], phase: Phase, ops: Mapping[str, Maker], seed: int
) -> Iterator[tuple[str, nn.Module]]:
    for k, step in enumerate(program.steps):
        if isinstance(step, Apply):
            yield step.out, make(step.op, shapes[step.source], phase, ops)
        elif isinstance(step, Loop):
            inputs = [(step.width,), shapes[step.source][1:]]
            yield step.out, Network(step.program, inputs, phase=phase, ops=ops, seed=seed + k)


def different(
    program: Program, shapes: Mapping[str, Shape], phase: Phase, ops: Mapping[str, Maker]
) -> Iterator[nn.Module]:
    """The module of each operation at each shape once, though cells repeat: enough to look at what a network holds.

    Args:
        shapes: of the program's values, as `infer_shapes` gives them.
    """
    seen = set()
    for step in program.steps:
        if isinstance(step, Loop):
            inputs = [(step.width,), shapes[step.source][1:]]
            yield from different(step.program, infer_shapes(step.program, inputs, phase, ops), phase, ops)
        elif isinstance(step, Apply) and (which := (step.op, shapes[step.source])) not in seen:
            seen.add(which)
            yield make(*which, phase, ops)


def make(op: Op, shape: Shape, phase: Phase, ops: Mapping[str, Maker]) -> nn.Module:
    """The module of one operation; an elastic one as wide as it may become."""
    if op.kind not in ops:
        raise SpaceError(f"unknown operation {op.kind!r}{nearest(op.kind, ops)}")
    if isinstance(op.width, Needed):
        raise SpaceError(f"the width of {op.kind!r} is still open; build with supernet() or derived()")
    if isinstance(op.width, Size):
        op = replace(op, width=op.width.values[-1])
    return ops[op.kind](op, shape, phase)
