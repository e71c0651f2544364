"""When are two derived networks the same network?

The canonical form of an architecture is a hash of its derived program as a labelled graph: names do not matter, the
order of a sum does not matter, `none` and what only `none` reaches is gone, dead branches are gone. Two convolutions
of the same value are *two* (separate weights), so networks of equal form have equal parameter counts; a benchmark's
own key, written on the unfolded expression, need not.

Colours are refined along both directions of the edges until they no longer split (Weisfeiler and Leman 1968, on a
directed acyclic graph with labelled vertices); ties that are left are broken one vertex at a time (McKay and Piperno
2014, arXiv:1301.1493). Then every vertex has its own colour, and the whole graph, written in their order, is hashed:
networks of equal form are isomorphic for certain.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metanas.space.architecture import Architecture
from metanas.space.graph import Op, Width
from metanas.space.program import Apply, Combine, Loop, Program, Step, sources_of
from metanas.space.space import Space

PASSES_ZERO = frozenset({"none", "skip", "avg_pool", "max_pool", "narrow"})
"""Kinds that give zero for zero and have no weights that would be lost with them, where they have no norm."""


def canonical(space: Space, architecture: Architecture) -> str:
    """The canonical form of the network derived from `architecture` (32 hexadecimal digits).

    >>> from metanas.space import Edge, Graph, Node, one_of, op
    >>> pick = lambda name: one_of(name, {"none": op("none"), "conv": op("conv", kernel=3)})
    >>> graph = Graph(("x",), (Node("y", (Edge("x", pick("a")), Edge("x", pick("b")))),), "y")
    >>> space = Space(graph)
    >>> a, b, c = (space.architecture(t) for t in ({"a": "none", "b": "conv"}, {"a": "conv", "b": "none"},
    ...            {"a": "conv", "b": "conv"}))
    >>> canonical(space, a) == canonical(space, b), canonical(space, a) == canonical(space, c)
    (True, False)
    """
    return program_form(space.derive(architecture, outputs=1))


def program_form(program: Program) -> str:
    """The canonical form of a derived program."""
    graph = _labelled(program)
    colour = refined(graph, _twins_apart(graph, {v: _digest(label) for v, label in graph.label.items()}))
    while ties := _ties(colour):
        # Vertices that refinement cannot tell apart: single one out. Which one matters only where no symmetry of the
        # graph swaps them, and then the colours that follow tell them apart.
        colour = min(
            (refined(graph, colour | {v: _digest(colour[v], "first")}) for v in ties),
            key=lambda candidate: sorted(candidate.values()),
        )
    rank = {v: k for k, v in enumerate(sorted(graph.label, key=colour.__getitem__))}
    rows = [(graph.label[v], sorted((rank[s], number) for s, number in graph.sources[v])) for v in rank]
    return hashlib.blake2b(repr(rows).encode(), digest_size=16).hexdigest()


Links = dict[str, list[tuple[str, int]]]


@dataclass(frozen=True)
class Labelled:
    """The labelled graph of a program, its vertices in topological order.

    A link is (vertex, number): which source it is where order matters, how often it is added in a sum, otherwise 0.
    """

    label: dict[str, str]
    sources: Links
    readers: Links


def refined(graph: Labelled, colour: dict[str, int]) -> dict[str, int]:
    """Colours split by what a vertex reads and what reads it, down and up the graph, until they split no more."""
    down, classes = list(colour), len(set(colour.values()))
    while True:
        for order, links in ((down, graph.sources), (reversed(down), graph.readers)):
            for v in order:
                colour[v] = _digest(colour[v], sorted([(colour[s], number) for s, number in links[v]]))
        before, classes = classes, len(set(colour.values()))
        if classes in (before, len(colour)):
            return colour


def _twins_apart(graph: Labelled, colour: dict[str, int]) -> dict[str, int]:
    """Vertices with the same label, sources and readers can be swapped without a trace: number them."""
    seen: Counter[str] = Counter()
    apart = {}
    for v in colour:
        mark = repr((colour[v], sorted(graph.sources[v]), sorted(graph.readers[v])))
        apart[v] = _digest(colour[v], seen[mark])
        seen[mark] += 1
    return apart


def _ties(colour: Mapping[str, int]) -> list[str]:
    """The vertices of one colour that several have; none where every vertex has its own."""
    tied = min((c for c, n in Counter(colour.values()).items() if n > 1), default=None)
    return [v for v in colour if colour[v] == tied]


class _Reading:
    """Reads a program once; owns the vertices, the zeros and what every value is the sum of.

    Zeros and copies get no vertex, and a sum of sums is one sum.
    """

    def __init__(self, program: Program) -> None:
        self.label = {v: f"input {k}" for k, v in enumerate(program.inputs)}
        self.sources: Links = {v: [] for v in program.inputs}
        self.terms = {v: Counter([v]) for v in program.inputs}
        self.zeros: dict[str, Width] = {}
        for step in program.steps:
            self.read(step)

    def read(self, step: Step) -> None:
        read = [self.terms[s] for s in sources_of(step)]
        if self.is_zero(step):
            self.zeros[step.out] = self.width(step)
            self.terms[step.out] = Counter({self.vertex(f"zero {self.zeros[step.out]}"): 1})
        elif isinstance(step, Combine) and step.how == "sum":
            added = [t for s, t in zip(step.sources, read, strict=True) if s not in self.zeros]
            self.terms[step.out] = sum(added, start=Counter())
        elif isinstance(step, Apply) and step.op.kind == "skip" and step.op.stride == 1:
            self.terms[step.out] = read[0]
        else:
            ordered = isinstance(step, Combine) and step.how in ("concat", "split")
            links = [(self.value(terms), k if ordered else 0) for k, terms in enumerate(read)]
            self.terms[step.out] = Counter([self.vertex(step.out, _label(step), links)])

    def is_zero(self, step: Step) -> bool:
        if isinstance(step, Apply) and step.op.kind == "none":
            return True
        if isinstance(step, Combine):  # a concatenation is as wide as all of them: it stays
            passes = step.how != "concat"
        else:
            passes = isinstance(step, Apply) and _passes_zero(step.op)
        return passes and all(s in self.zeros for s in sources_of(step))

    def width(self, step: Step) -> Width:
        """How wide a zero is: it decides how many weights its readers have."""
        given = step.op.width if isinstance(step, Apply) else step.width
        return self.zeros.get(sources_of(step)[0]) if given is None else given

    def vertex(self, name: str, label: str | None = None, links: Sequence[tuple[str, int]] = ()) -> str:
        self.label.setdefault(name, label or name)
        self.sources.setdefault(name, list(links))
        return name

    def value(self, terms: Counter[str]) -> str:
        """The vertex of a sum: its one term, or a vertex of its own."""
        links = sorted(terms.items())
        if len(links) == 1 and links[0][1] == 1:
            return links[0][0]
        return self.vertex(f"sum {links}", "sum", links)


def _labelled(program: Program) -> Labelled:
    """The graph that the output depends on."""
    reading = _Reading(program)
    output = reading.value(reading.terms[program.output])
    return _live(output, reading.label | {output: reading.label[output] + " output"}, reading.sources)


def _live(output: str, label: Mapping[str, str], sources: Links) -> Labelled:
    live, waiting = {output}, [output]
    while waiting:
        fresh = {s for s, _ in sources[waiting.pop()]} - live
        live |= fresh
        waiting += fresh
    kept = [v for v in label if v in live]
    readers: Links = {v: [] for v in kept}
    for v in kept:
        for source, number in sources[v]:
            readers[source].append((v, number))
    return Labelled({v: label[v] for v in kept}, {v: sources[v] for v in kept}, readers)


def _passes_zero(op: Op) -> bool:
    factorized_reduction = op.kind == "skip" and op.stride > 1  # it has weights
    return op.kind in PASSES_ZERO and not op.norm and not factorized_reduction


def _label(step: Apply | Combine | Loop) -> str:
    match step:
        case Apply():
            return repr(step.op)
        case Combine():
            return f"{step.how} {step.width}"
        case Loop():
            return f"loop {step.width} {program_form(step.program)}"


def _digest(*parts: object) -> int:
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest())


def distinct(space: Space, architectures: Mapping[str, Architecture]) -> dict[str, list[str]]:
    """The given architectures, named, grouped by canonical form."""
    groups: dict[str, list[str]] = {}
    for name, architecture in architectures.items():
        groups.setdefault(canonical(space, architecture), []).append(name)
    return groups


def reads_input(program: Program) -> bool:
    """Whether anything of the input reaches the output of a derived program: not in a cell that is all `none`.

    >>> from metanas.space import chain, op
    >>> from metanas.space.program import compile_graph
    >>> [reads_input(compile_graph(chain(("a", op(kind)), ("b", op("conv", width=4))))) for kind in ("none", "skip")]
    [False, True]
    """
    return any(label.startswith("input ") for label in _labelled(program).label.values())
