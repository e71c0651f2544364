"""When are two derived networks the same network?

The canonical form of an architecture is a hash of its derived program as a labelled graph: names do not matter, the
order of a sum does not matter, `none` and what only `none` reaches is gone, dead branches are gone. Two convolutions
of the same value are *two* (separate weights), so networks of equal form have equal parameter counts; a benchmark's
own key, written on the unfolded expression, need not.

Colours are refined along both directions of the edges until they no longer split (Weisfeiler and Leman 1968, on a
directed acyclic graph with labelled vertices), then the multiset of colours is hashed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from metanas.space.architecture import Architecture
from metanas.space.graph import Op
from metanas.space.program import Apply, Combine, Loop, Program, sources_of
from metanas.space.space import Space

PASSES_ZERO = frozenset({"none", "skip", "avg_pool", "max_pool", "narrow"})
"""Kinds that give zero for zero (with no norm and stride 1 they compute nothing else worth keeping of it)."""


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
    vertices, edges = _without_zeros(program)
    colour = {v: _digest(label) for v, label in vertices.items()}
    back: dict[str, list[tuple[str, int]]] = {v: [] for v in vertices}
    for v, sources in edges.items():
        for source, port in sources:
            back[source].append((v, port))
    classes = 0
    while len(set(colour.values())) > classes:
        classes = len(set(colour.values()))
        colour = {
            v: _digest(
                colour[v],
                sorted((colour[s], port) for s, port in edges[v]),
                sorted((colour[r], port) for r, port in back[v]),
            )
            for v in vertices
        }
    return _digest(sorted(colour.values()))


Vertices = dict[str, str]
Edges = dict[str, list[tuple[str, int]]]


def _without_zeros(program: Program) -> tuple[Vertices, Edges]:
    """The labelled graph of a program: value -> label, value -> (source, port); port 0 wherever order does not
    matter.
    """
    zero: set[str] = set()
    alias: dict[str, str] = {}
    vertices: Vertices = {v: f"input {k}" for k, v in enumerate(program.inputs)}
    edges: Edges = {v: [] for v in program.inputs}
    for step in program.steps:
        sources = [alias.get(s, s) for s in sources_of(step)]
        if isinstance(step, Combine) and step.how == "sum":
            sources = [s for s in sources if s not in zero] or sources[:1]
        if isinstance(step, Apply) and (step.op.kind == "none" or (sources[0] in zero and _passes_zero(step.op))):
            zero.add(step.out)
        if isinstance(step, Combine) and all(s in zero for s in sources):
            zero.add(step.out)
        if (isinstance(step, Combine) and step.how == "sum" and len(sources) == 1) or (
            isinstance(step, Apply) and step.op.kind == "skip" and step.op.stride == 1
        ):
            alias[step.out] = sources[0]
            continue
        vertices[step.out] = "zero" if step.out in zero else _label(step)
        ordered = isinstance(step, Combine) and step.how in ("concat", "split")
        edges[step.out] = [] if step.out in zero else [(s, k if ordered else 0) for k, s in enumerate(sources)]
    output = alias.get(program.output, program.output)
    live, waiting = set(), [output]
    while waiting:
        value = waiting.pop()
        if value not in live:
            live.add(value)
            waiting += [s for s, _ in edges[value]]
    vertices[output] += " output"
    return {v: vertices[v] for v in vertices if v in live}, {v: edges[v] for v in edges if v in live}


def _passes_zero(op: Op) -> bool:
    return op.kind in PASSES_ZERO and not op.norm


def _label(step: Apply | Combine | Loop) -> str:
    match step:
        case Apply():
            return repr(step.op)
        case Combine():
            return f"{step.how} {step.width}"
        case Loop():
            return f"loop {step.width} {program_form(step.program)}"


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def distinct(space: Space, architectures: Mapping[str, Architecture]) -> dict[str, list[str]]:
    """The given architectures, named, grouped by canonical form."""
    groups: dict[str, list[str]] = {}
    for name, architecture in architectures.items():
        groups.setdefault(canonical(space, architecture), []).append(name)
    return groups
