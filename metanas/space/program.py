"""A space compiled to a flat list of steps, so that everything after it is a loop.

    Apply     one operation, one value -> one value
    Combine   several values -> one value: all of them, or those that a choice takes (or their mixture)
    Loop      one program with a state, run along a sequence -> the sequence of its states

A mixture belongs to Combine, since a candidate may be a whole sub-graph. Every value has a name, the path of the node
that made it, and the parameters of an operation are named after its value: a derived network finds its weights in the
supernet by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from metanas.errors import SpaceError, nearest
from metanas.space.graph import Choice, Content, Graph, Node, OneOf, Op, Scan, Size


@dataclass(frozen=True)
class Apply:
    """`out` = `op` of `source`, and of the program's input `beside` where one is named."""

    out: str
    source: str
    op: Op
    beside: str = field(default="", repr=False)


@dataclass(frozen=True)
class Combine:
    """`out` = the `sources` summed, averaged, concatenated or split, as many as the choice takes."""

    out: str
    sources: tuple[str, ...]
    how: str = "sum"
    choice: str | None = None
    width: int | None = None


@dataclass(frozen=True)
class Loop:
    """`out` = the states of `program` along `source` (batch, time, features), from a zero state of `width` features."""

    out: str
    source: str
    program: Program
    width: int


Step: TypeAlias = Apply | Combine | Loop


@dataclass(frozen=True)
class Program:
    """The steps in an order in which each comes after what it reads.

    `conditions` says when a choice matters: {choice: pairs (other choice, candidate)}; one of the pairs must be
    taken. A choice that is not in it always matters.
    """

    inputs: tuple[str, ...]
    steps: tuple[Step, ...]
    output: str
    choices: tuple[Choice, ...] = ()
    conditions: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = field(default=(), repr=False)

    def choice(self, name: str) -> Choice:
        """The choice of that name."""
        return next(c for c in self.choices if c.name == name)


def sources_of(step: Step) -> tuple[str, ...]:
    """The values that a step reads, what it works on first."""
    if isinstance(step, Apply) and step.beside:
        return step.source, step.beside
    return main_sources_of(step)


def main_sources_of(step: Step) -> tuple[str, ...]:
    """The values that a step works on: where none of them is there, neither is its own."""
    return step.sources if isinstance(step, Combine) else (step.source,)


def every_step(program: Program) -> Iterator[Step]:
    """The steps of a program and of the programs inside it."""
    for step in program.steps:
        yield step
        if isinstance(step, Loop):
            yield from every_step(step.program)


def compile_graph(graph: Graph) -> Program:
    """Flatten a graph. Raises SpaceError where one choice name means two things.

    >>> from metanas.space.graph import chain, op
    >>> compile_graph(chain(("stem", op("conv", width=8)))).steps
    (Apply(out='stem', source='image', op=Op(kind='conv', width=8, kernel=1, stride=1, dilation=1, groups=1, norm='', \
activation='', options=())),)
    """
    compiler = _Compiler()
    program = compiler.program(graph)
    _refuse_twins(program)
    _require_inputs(program)
    read = _read_when(program, compiler.choices)
    conditions = []
    for name, uses in compiler.uses.items():
        # Where nothing around a use says when it matters, what reads its value does.
        when = set().union(*(read.get(path, ALWAYS) if known is None else {known} for known, path in uses))
        if None not in when:
            conditions.append((name, tuple(sorted(c for c in when if c is not None))))
    return Program(program.inputs, program.steps, program.output, tuple(compiler.choices.values()), tuple(conditions))


def _read_when(program: Program, choices: Mapping[str, Choice]) -> dict[str, set[Condition]]:
    """The conditions under which each value is read, one of which must hold; None: always.

    Only a choice of one of several values leaves the others unread. Choices of k, and of any subset, do not count: the
    benchmarks that have them (DARTS, NAS-Bench-101) count the operations of unread nodes as well.
    """
    read: dict[str, set[Condition]] = {program.output: {None}}
    at: dict[str, set[Condition]] = {}  # when a choice is met
    met: dict[str, int] = {}  # the how many-th it is
    for step in reversed(program.steps):
        when = read.setdefault(step.out, {None})
        _reduce(when, at, met, choices)
        one = choices[step.choice] if isinstance(step, Combine) and step.choice else None
        if one is not None and one.take == 1:
            met.setdefault(one.name, len(met))
            at.setdefault(one.name, set()).update(when)
            for label, source in zip(one.candidates, sources_of(step), strict=True):
                read.setdefault(source, set()).add((one.name, label))
        else:
            for source in sources_of(step):
                read.setdefault(source, set()).update(when)
    return read


def _reduce(
    when: set[Condition], at: Mapping[str, set[Condition]], met: Mapping[str, int], choices: Mapping[str, Choice]
) -> None:
    """What holds whatever a choice takes, holds whenever that choice is met; where one of the conditions always holds,
    the others say nothing. Changes `when`."""
    done: set[str] = set()  # once each: a choice may stand under itself
    while None not in when:
        named = {condition[0] for condition in when if condition is not None} - done
        whole = [name for name in named if name in met and {(name, label) for label in choices[name].options} <= when]
        if not whole:
            return
        name = min(whole, key=met.__getitem__)  # in the order met, never in that of a set: it differs between processes
        done.add(name)
        when -= {(name, label) for label in choices[name].candidates}
        when |= at[name]
    when &= ALWAYS


def _refuse_twins(program: Program) -> None:
    """Two values may not share a name: a body with a node called `in`, say, beside the value that goes into it."""
    names = [*program.inputs, *(s.out for s in program.steps)]
    twins = sorted(name for name, times in Counter(names).items() if times > 1)
    if twins:
        raise SpaceError(f"two values are called {', '.join(twins)}; rename a node or a candidate")
    for step in program.steps:
        if isinstance(step, Loop):
            _refuse_twins(step.program)


def _require_inputs(program: Program) -> None:
    """What an operation reads beside its value is an input."""
    for step in program.steps:
        if isinstance(step, Loop):
            _require_inputs(step.program)
        elif isinstance(step, Apply) and step.beside and step.beside not in program.inputs:
            raise SpaceError(f"{step.out}: beside={step.beside!r} is no input{nearest(step.beside, program.inputs)}")


Condition: TypeAlias = tuple[str, str] | None
ALWAYS: frozenset[Condition] = frozenset({None})


class _Compiler:
    """Walks a graph once; owns the choices met so far, and where and under which condition each was met."""

    def __init__(self) -> None:
        self.choices: dict[str, Choice] = {}
        self.uses: dict[str, list[tuple[Condition, str]]] = {}

    def program(self, graph: Graph, condition: Condition = None) -> Program:
        steps: list[Step] = []
        output = self.graph(graph, list(graph.inputs), "", condition, steps)
        return Program(tuple(graph.inputs), tuple(steps), output)

    def note(self, choice: Choice, condition: Condition, path: str) -> str:
        """Keeps a choice, the condition around it, and the value that it makes."""
        known = self.choices.setdefault(choice.name, choice)
        if known != choice:
            raise SpaceError(
                f"choice {choice.name!r} means two things: {', '.join(known.candidates)} (take {known.take}) "
                f"and {', '.join(choice.candidates)} (take {choice.take}); give the second another name"
            )
        self.uses.setdefault(choice.name, []).append((condition, path))
        return choice.name

    def content(self, content: Content, value: str, path: str, condition: Condition, steps: list[Step]) -> str:
        match content:
            case None:
                return value
            case Op():
                if isinstance(content.width, Size):
                    self.note(content.width.decision(), condition, path)
                steps.append(Apply(path, value, content, str(content.option("beside", ""))))
                return path
            case OneOf():
                return self.one_of(content, [value], path, condition, steps)
            case Graph():
                return self.graph(content, [value], path, condition, steps)
            case Scan():
                steps.append(Loop(path, value, self.program(content.body, condition), content.width))
                return path

    def one_of(self, content: OneOf, values: list[str], path: str, condition: Condition, steps: list[Step]) -> str:
        name = self.note(content.decision(), condition, path)
        outs = []
        for label, candidate in content.contents:
            here, when = f"{path}.{label}", (name, label)
            if isinstance(candidate, Graph):
                outs.append(self.graph(candidate, values, here, when, steps))
            else:
                outs.append(self.content(candidate, values[0], here, when, steps))
        steps.append(Combine(path, tuple(outs), choice=name))
        return path

    def graph(self, graph: Graph, values: list[str], path: str, condition: Condition, steps: list[Step]) -> str:
        if len(values) != len(graph.inputs):
            raise SpaceError(f"{path or 'graph'}: {len(values)} values for the inputs {', '.join(graph.inputs)}")
        at = dict(zip(graph.inputs, values, strict=True))
        for node in graph.order:
            at[node.name] = self.node(node, at, f"{path}.{node.name}" if path else node.name, condition, steps)
        return at[graph.output]

    def node(self, node: Node, at: dict[str, str], path: str, condition: Condition, steps: list[Step]) -> str:
        joined = path if node.body is None else f"{path}.in"
        choice = None if node.choice is None else self.note(node.choice, condition, joined)
        ins: list[str] = []
        before: Counter[str] = Counter()
        for k, edge in enumerate(node.edges):
            when = condition if node.choice is None else (node.choice.name, node.choice.candidates[k])
            alone = len(node.edges) == 1 and node.body is None and choice is None and node.combine != "split"
            twin = f"_{before[edge.source] + 1}" if edge.source in before else ""
            where = path if alone else f"{path}.from_{edge.source}{twin}"
            before[edge.source] += 1
            ins.append(self.content(edge.content, at[edge.source], where, when, steps))
        if node.combine == "each":
            return self.several(node, ins, path, condition, steps)
        if len(ins) == 1 and choice is None and node.combine != "split":
            joined = ins[0]
        else:
            steps.append(Combine(joined, tuple(ins), node.combine, choice, node.width))
        return self.content(node.body, joined, path, condition, steps)

    def several(self, node: Node, ins: list[str], path: str, condition: Condition, steps: list[Step]) -> str:
        if isinstance(node.body, Graph):
            return self.graph(node.body, ins, path, condition, steps)
        if isinstance(node.body, OneOf):
            return self.one_of(node.body, ins, path, condition, steps)
        raise SpaceError(f"node {node.name!r}: combine='each' needs a graph as its body, got {node.body}")
