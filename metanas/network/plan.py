"""From a program to the steps of the fused executor, for mixtures at a given set of choices.

    names      what computes the same has one name: pools of a value, a skip and what it skips
    sums       a mixture is a sum of weighted values, a node a sum of mixtures: one flat sum; `none` is left out of it
    rules      for each operation that a sum reads, by its specification; what no rule takes runs as it is
    order      of the program; what the output does not need is left out

A rule takes an operation whose maker is metanas's own, in a network built for a search.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from torch import Tensor, nn

from metanas.network.blocks import FactorizedReduce, Zero, activation
from metanas.network.grouped import (
    Branch,
    Chain,
    FusedStep,
    Halve,
    Once,
    Part,
    Plain,
    Pool,
    Stage,
    Sum,
    Values,
    Wide,
    blocks,
    every_second,
    paddable,
    unblocked,
)
from metanas.space import Apply, Combine, Program, Step, sources_of

Shape = tuple[int, ...]
SHARED = ("avg_pool", "max_pool", "activation", "flatten", "narrow", "rest")
"""Operations that are computed once where they have no parameters and read the same value."""


@dataclass(frozen=True)
class Parts:
    """What is planned for.

    modules: the module of each Apply, by its value
    own:     kinds of operations whose makers are metanas's own
    mixed:   choices that are set to mixing weights
    call:    (step, values, mix) -> value, as the plain executor computes it
    cpu:     where arithmetic is dear and operations are cheap: dilated convolutions run on blocks of pixels there; else
             kernels are padded to be one, and pools and sums have backward passes of their own
    kept:    of choices that are mixed, the candidates that run where not all do
    """

    program: Program
    shapes: Mapping[str, Shape]
    modules: Mapping[str, nn.Module]
    own: frozenset[str]
    mixed: frozenset[str]
    call: Callable[[Step, Values, Mapping[str, Tensor]], Tensor]
    cpu: bool
    kept: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def sources(self, step: Step) -> tuple[str, ...]:
        """What a step reads: of a mixture, what is kept."""
        if isinstance(step, Combine) and step.choice and step.choice in self.kept:
            return tuple(step.sources[k] for k in self.kept[step.choice])
        return sources_of(step)

    def running(self) -> Parts:
        """The same without the steps that nothing reads which runs."""
        need = {self.program.output}
        for step in reversed(self.program.steps):
            if step.out in need:
                need.update(self.sources(step))
        return replace(self, program=replace(self.program, steps=tuple(s for s in self.program.steps if s.out in need)))


def plan(parts: Parts) -> tuple[tuple[FusedStep, ...], str]:
    """The steps that compute the program's output, and what it is called: a skip has the name of what it skips."""
    planner = _Planner(parts.running() if parts.kept else parts)
    return planner.steps(), planner.name(parts.program.output)


class _Planner:
    """Owns what has been found about each value on the way: its one name, and the sums that read it."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.made = {step.out: step for step in parts.program.steps}
        self.alias: dict[str, str] = {}
        self.once: dict[str, Once] = {}
        self._name()
        self.sums = self._sums()
        reads = Counter(name for step in self._read_plainly() for name in self._sources(step))
        reads.update(value for terms in self.sums.values() for value, _ in terms)
        reads[self.name(parts.program.output)] += 1
        self.reader: dict[str, tuple[str, Part | None]] = {  # of what one sum alone reads: the sum, and the weight
            value: (out, part) for out, terms in self.sums.items() for value, part in terms if reads[value] == 1
        }

    def name(self, value: str) -> str:
        """The one name of what has the same content."""
        return self.alias.get(value, value)

    def _sources(self, step: Step) -> tuple[str, ...]:
        return tuple(map(self.name, self.parts.sources(step)))

    def _name(self) -> None:
        seen: dict[object, str] = {}
        for step in self.parts.program.steps:
            if not isinstance(step, Apply) or step.op.kind not in self.parts.own:
                continue
            module, source = self.parts.modules[step.out], self.name(step.source)
            if isinstance(module, nn.Identity):
                self.alias[step.out] = source
            elif step.op.kind in SHARED and not list(module.parameters()) and not list(module.buffers()):
                first = seen.setdefault((source, step.op), step.out)
                if first != step.out:
                    self.alias[step.out] = first

    def _sums(self) -> dict[str, list[tuple[str, Part | None]]]:
        """Sum -> its terms, flat: a sum that one sum alone reads, as it is, is part of that."""
        reads = Counter(name for step in self.parts.program.steps for name in self._sources(step))
        reads[self.name(self.parts.program.output)] += 1
        found: dict[str, list[tuple[str, Part | None]]] = {}
        for step in self.parts.program.steps:
            if not isinstance(step, Combine) or step.how != "sum":
                continue
            mixed = step.choice in self.parts.mixed
            terms: list[tuple[str, Part | None]] = []
            kept = self.parts.kept.get(step.choice or "", range(len(step.sources)))
            for k, value in ((k, self.name(step.sources[k])) for k in kept):
                if not mixed and value in found and reads[value] == 1:
                    terms += found.pop(value)
                else:
                    terms.append((value, (step.choice, k) if mixed and step.choice else None))
            found[step.out] = [term for term in terms if not self._zero(term[0])] or terms[:1]
        return found

    def _zero(self, value: str) -> bool:
        step = self.made.get(value)
        return isinstance(step, Apply) and step.op.kind in self.parts.own and isinstance(self._module(step), Zero)

    def _module(self, step: Apply) -> nn.Module:
        return self.parts.modules[step.out]

    def _read_plainly(self) -> Iterable[Step]:
        """The steps that are no sums, and not another's second name."""
        swallowed = {s.out for s in self.parts.program.steps if isinstance(s, Combine) and s.how == "sum"}
        return (s for s in self.parts.program.steps if s.out not in swallowed and s.out not in self.alias)

    def steps(self) -> tuple[FusedStep, ...]:
        wide = self._wide()
        found: list[FusedStep] = []
        for step in self.parts.program.steps:
            if step.out in wide:
                found += wide[step.out]
            elif step.out in self.sums:
                found += self._sum(step.out)
            elif step.out not in self.alias and not (isinstance(step, Combine) and step.how == "sum"):
                found += self._one(step)
        return _needed(found, self.name(self.parts.program.output))

    # Convolutions of one value

    def _wide(self) -> dict[str, list[FusedStep]]:
        """Value -> the steps that compute it: with all convolutions of the same value and specification; and those of
        another specification that the same sums read, in the same order, are added before they are taken apart.
        """
        groups: dict[object, list[Apply]] = defaultdict(list)
        for step in self.parts.program.steps:
            if isinstance(step, Apply) and step.op.kind == "preact_conv" and self._bare(step) and step.op.groups == 1:
                weighed = self._part(step.out) is not None
                groups[self.name(step.source), step.op, weighed].append(step)
        together: dict[object, list[list[Apply]]] = defaultdict(list)
        for group in groups.values():
            first = group[0]
            readers = tuple(self.reader.get(step.out, (step.out, None))[0] for step in group)
            scaled = self._part(first.out) is not None
            same = self.name(first.source), first.op.activation, first.op.width, first.op.stride, scaled
            together[same, readers].append(group)
        found: dict[str, list[FusedStep]] = {}
        for alike in together.values():
            branches = tuple(map(self._branch, alike))
            outs = tuple(step.out for step in alike[0])
            lit = self._lit(self.name(alike[0][0].source), alike[0][0].op.activation)
            steps: list[FusedStep] = [lit, Wide(lit.out, outs, branches, not self.parts.cpu and paddable(branches))]
            found |= {step.out: steps for group in alike for step in group}
            for step in (step for group in alike[1:] for step in group):  # added to the first already
                out, part = self.reader[step.out]
                self.sums[out].remove((step.out, part))
        return found

    def _branch(self, group: list[Apply]) -> Branch:
        convs, norms = [], []
        for step in group:
            _, conv, norm = self._module(step).children()
            assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
            convs.append(conv)
            norms.append(norm)
        return Branch(tuple(convs), norms[0], tuple(part for step in group if (part := self._part(step.out))))

    def _bare(self, step: Apply) -> bool:
        """Whether the operation is metanas's own, and all its norms are those of the batch, without parameters."""
        norms = [m for m in self._module(step).modules() if isinstance(m, nn.BatchNorm2d)]
        bare = all(not norm.affine and not norm.track_running_stats for norm in norms)
        return step.op.kind in self.parts.own and bool(norms) and bare

    def _part(self, value: str) -> Part | None:
        return self.reader.get(value, ("", None))[1]

    def _lit(self, source: str, name: str) -> Once:
        """The activation of a value, made once."""
        return self._once(f"{source}|{name}", source, activation(name))

    def _once(self, out: str, source: str, function: Callable[[Tensor], Tensor]) -> Once:
        return self.once.setdefault(out, Once(out, source, function))

    # Single operations

    def _one(self, step: Step) -> list[FusedStep]:
        if isinstance(step, Apply) and step.op.kind in self.parts.own and self._bare(step):
            if step.op.kind == "separable":
                return self._chain(step)
            if isinstance(module := self._module(step), FactorizedReduce):
                return self._halve(step, module)
        if isinstance(step, Apply) and not self.parts.cpu and self._box(step):
            return [Pool(step.out, self.name(step.source), self._module(step))]  # type: ignore[arg-type]  # it is one
        named = {source: self.name(source) for source in self.parts.sources(step)}

        def call(values: Values, mix: Mapping[str, Tensor]) -> Tensor:
            return self.parts.call(step, {old: values[new] for old, new in named.items()}, mix)

        return [Plain(step.out, tuple(dict.fromkeys(named.values())), call)]

    def _box(self, step: Apply) -> bool:
        """Whether it is metanas's own average pool over square windows about each pixel, without the padding."""
        pool = self._module(step)
        if step.op.kind not in self.parts.own or not isinstance(pool, nn.AvgPool2d):
            return False
        kernel = pool.kernel_size
        odd = isinstance(kernel, int) and kernel % 2 == 1 and pool.padding == kernel // 2 and pool.stride == 1
        return odd and not pool.count_include_pad and not pool.ceil_mode and pool.divisor_override is None

    def _chain(self, step: Apply) -> list[FusedStep]:
        source, op = self.name(step.source), step.op
        lit = self._lit(source, op.activation)
        stages = _stages(self._module(step))
        part = self._part(step.out)
        odd = op.kernel % 2 == 1  # an even kernel is padded by a number that is no multiple of the dilation
        if op.stride == op.dilation == 2 and len(stages) == 1 and odd:
            even = self._once(f"{lit.out}|even", lit.out, partial(every_second, shift=0))
            return [lit, even, Chain(step.out, even.out, (replace(stages[0], plain=True),), part)]
        if self._on_blocks(step):
            small = self._once(f"{lit.out}|{op.dilation}", lit.out, partial(blocks, size=op.dilation))
            return [lit, small, Chain(step.out, small.out, (replace(stages[0], plain=True),), part)]
        return [lit, Chain(step.out, lit.out, stages, part)]

    def _on_blocks(self, step: Step) -> bool:
        """Whether it is a dilated convolution that runs on blocks, whose sum is taken before they are put together."""
        if not isinstance(step, Apply) or step.op.kind != "separable" or not self.parts.cpu:
            return False
        op, shape = step.op, self.parts.shapes[step.source]
        fits = op.dilation > 1 and op.stride == 1 and not any(side % op.dilation for side in shape[1:])
        return (
            fits and op.kernel % 2 == 1 and op.option("repeat", 1) == 1 and step.out in self.reader and self._bare(step)
        )

    def _halve(self, step: Apply, module: FactorizedReduce) -> list[FusedStep]:
        lit = self._lit(self.name(step.source), "relu")
        even, odd = (
            self._once(f"{lit.out}|{word}", lit.out, partial(every_second, shift=shift))
            for shift, word in enumerate(("even", "odd"))
        )
        norm = module.norm[0]
        assert isinstance(norm, nn.BatchNorm2d)
        halves = (module.even, module.odd)
        return [lit, even, odd, Halve(step.out, (even.out, odd.out), halves, norm, self._part(step.out))]

    # Sums

    def _sum(self, out: str) -> list[FusedStep]:
        terms = [(value, None if self._scaled(value) else part) for value, part in self.sums[out]]
        apart: dict[int, list[tuple[str, Part | None]]] = defaultdict(list)
        for term in terms:
            step = self.made.get(term[0])
            apart[step.op.dilation if isinstance(step, Apply) and self._on_blocks(step) else 1].append(term)
        found: list[FusedStep] = []
        whole = apart.pop(1, [])
        for size, on_blocks in apart.items():
            small, large = f"{out}|{size}", f"{out}|1|{size}"
            found += [Sum(small, _weighed_last(on_blocks)), Once(large, small, partial(unblocked, size=size))]
            whole.append((large, None))
        return [*found, Sum(out, _weighed_last(whole), not self.parts.cpu)]

    def _scaled(self, value: str) -> bool:
        """Whether a value comes multiplied by its mixing weight."""
        step = self.made.get(value)
        if value not in self.reader or not isinstance(step, Apply) or not self._bare(step):
            return False
        conv = step.op.kind == "preact_conv" and step.op.groups == 1
        return conv or step.op.kind == "separable" or isinstance(self._module(step), FactorizedReduce)


def _stages(module: nn.Module) -> tuple[Stage, ...]:
    """The stages of a separable convolution; the first activation is left out, its source has been through it."""
    found, modules = [], list(module.children())
    for k in range(0, len(modules), 4):
        before, depthwise, pointwise, norm = modules[k : k + 4]
        assert isinstance(depthwise, nn.Conv2d) and isinstance(pointwise, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        found.append(Stage(depthwise, pointwise, norm, before if k else None))
    return tuple(found)


def _weighed_last(terms: Iterable[tuple[str, Part | None]]) -> tuple[tuple[str, Part | None], ...]:
    return tuple(sorted(terms, key=lambda term: term[1] is not None))


def _needed(steps: Iterable[FusedStep], output: str) -> tuple[FusedStep, ...]:
    """Those that the output needs, each once, in their order."""
    found: list[FusedStep] = []
    need = {output}
    for step in reversed(list(dict.fromkeys(steps))):
        if need.intersection(step.outs):
            need.update(step.sources)
            found.append(step)
    return tuple(reversed(found))
