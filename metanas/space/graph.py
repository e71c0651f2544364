"""The words in which a space is written: operations, choices, and graphs that hold them.

An operation is a frozen *specification*, never a function: an executor can see which operations share work, a space can
be written to JSON, and two spaces can be compared. What hangs on an edge or inside a node is a *content*:

    None                          the value as it is
    Op("preact_conv", kernel=3)   one fixed operation
    OneOf("1<-0", (...))          a choice among contents; a candidate may be a whole graph
    Graph(...)                    a sub-graph; used twice with the same choice names, it is one cell in two places
    Scan(graph)                   a graph with a state, run along the second axis (a recurrent cell)
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from metanas.errors import SpaceError, nearest


@dataclass(frozen=True)
class Choice:
    """A decision of the search: which of `candidates` are taken.

    Args:
        name: unique in the space; the same name in two places is one shared decision.
        candidates: what a supernet mixes, in a fixed order.
        take: 1 (one of n), k (exactly k of n), or None (any subset, also the empty one).
        never: candidates that are mixed but never derived (DARTS mixes `none` and never derives it).
        ordered: the candidates are sizes in growing order.
    """

    name: str
    candidates: tuple[str, ...]
    take: int | None = 1
    never: tuple[str, ...] = ()
    ordered: bool = False

    def __post_init__(self) -> None:
        if not self.candidates:
            raise SpaceError(f"choice {self.name!r} has no candidates; give at least one")
        if len(set(self.candidates)) < len(self.candidates):
            raise SpaceError(f"choice {self.name!r} names a candidate twice: {', '.join(self.candidates)}")
        for label in self.never:
            if label not in self.candidates:
                raise SpaceError(
                    f"choice {self.name!r}: never={label!r} is no candidate{nearest(label, self.candidates)}"
                )
        if self.take is not None and not 1 <= self.take <= len(self.options):
            raise SpaceError(
                f"choice {self.name!r} takes {self.take} of {len(self.options)} options; "
                f"allowed: 1 to {len(self.options)}"
            )

    @cached_property
    def options(self) -> tuple[str, ...]:
        """The candidates that may be derived."""
        return tuple(label for label in self.candidates if label not in self.never)

    def index(self, label: str) -> int:
        """The position of a candidate; raises SpaceError for an unknown label."""
        try:
            return self.candidates.index(label)
        except ValueError:
            raise SpaceError(
                f"choice {self.name!r} has no candidate {label!r}{nearest(label, self.candidates)}"
            ) from None


@dataclass(frozen=True)
class Size:
    """A size that the search chooses: a width, a depth, an expansion. `values` grow."""

    choice: str
    values: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.values or list(self.values) != sorted(set(self.values)) or self.values[0] < 1:
            raise SpaceError(f"size {self.choice!r}: values must be positive and grow, got {self.values}")

    def decision(self) -> Choice:
        """The choice behind this size."""
        return Choice(self.choice, tuple(map(str, self.values)), ordered=True)


@dataclass(frozen=True)
class Needed:
    """As wide as the widest value that reads it (NAS-Bench-101; a head: as many as there are classes)."""


NEEDED = Needed()
Width: TypeAlias = int | Size | Needed | None
"""Channels that an operation gives: fixed, chosen, as its readers need, or (None) as many as come in; then a width
that is needed of it is needed of its source."""


@dataclass(frozen=True)
class Op:
    """The specification of one operation; `network.OPS` says how each kind is made.

    Args:
        kind: `"preact_conv"`, `"avg_pool"`, `"skip"`, ... or a name of the user's own.
        width: channels given; None: as many as come in.
        kernel, stride, dilation, groups: as in a convolution or a pool.
        norm: `""` none; `"batch"` affine batch norm; `"batch_cell"` affine only when trained from scratch (in a search
            its scale would compete with the mixing weights); `"batch_search"` there in a search only.
        activation: `""`, `"relu"`, `"tanh"`, ...
        options: further named numbers or words, sorted by name. `beside`: an input of the network that the operation
            reads as well, whatever stands before it.
    """

    kind: str
    width: Width = None
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    norm: str = ""
    activation: str = ""
    options: tuple[tuple[str, int | float | str], ...] = ()

    def __post_init__(self) -> None:
        for name in ("width", "kernel", "stride", "dilation", "groups"):
            value = getattr(self, name)
            if name == "width" and (value is None or isinstance(value, Size | Needed)):
                continue
            if not isinstance(value, int) or isinstance(value, bool):
                raise SpaceError(f"operation {self.kind!r}: {name} must be a whole number, got {value!r}")
            if value < 1:
                raise SpaceError(f"operation {self.kind!r}: {name} must be >= 1, got {value}")

    def __str__(self) -> str:
        defaults = {"kernel": 1, "stride": 1, "dilation": 1, "groups": 1}
        facts = [f"{k}={v}" for k, d in defaults.items() if (v := getattr(self, k)) != d]
        if isinstance(self.width, int):
            facts.insert(0, f"width={self.width}")
        return f"{self.kind}({', '.join(facts)})" if facts else self.kind

    def option(self, name: str, default: int | float | str) -> int | float | str:
        """The further option `name`, or `default`."""
        return dict(self.options).get(name, default)


@dataclass(frozen=True)
class OneOf:
    """A choice among contents, each under its label. `never`: labels that are mixed but never derived."""

    choice: str
    contents: tuple[tuple[str, Content], ...]
    never: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for label, _ in self.contents:
            part_of_path(label, f"choice {self.choice!r}: candidate")

    def decision(self) -> Choice:
        """The choice behind these contents."""
        return Choice(self.choice, tuple(label for label, _ in self.contents), never=self.never)


@dataclass(frozen=True)
class Edge:
    """What comes from the node or input `source`, through `content`."""

    source: str
    content: Content = None


@dataclass(frozen=True)
class Node:
    """A value: its edges combined, then sent through `body`.

    Args:
        name: unique in its graph, without '.' and '/': it is one part of the path that names the parameters.
        edges: where the value comes from.
        combine: `"sum"`, `"mean"`, `"concat"` (along channels), `"split"` (concat of `width` channels, shared out
            evenly, the remainder to the first), or `"each"`: the edges stay apart, the inputs of the graph in `body`.
        choice: which of the edges are taken; None: all of them.
        body: what the combined value goes through.
        width: channels of a split.
    """

    name: str
    edges: tuple[Edge, ...]
    combine: str = "sum"
    choice: Choice | None = None
    body: Content = None
    width: int | None = None

    def __post_init__(self) -> None:
        part_of_path(self.name, "node")
        if self.combine not in COMBINES:
            raise SpaceError(f"node {self.name!r}: combine={self.combine!r}{nearest(self.combine, COMBINES)}")
        if not self.edges:
            raise SpaceError(f"node {self.name!r} has no edges; connect it or leave it out")
        if self.choice is not None and len(self.choice.candidates) != len(self.edges):
            raise SpaceError(
                f"node {self.name!r} has {len(self.edges)} edges, but its choice {self.choice.name!r} has "
                f"{len(self.choice.candidates)} candidates; give one candidate per edge"
            )
        if (self.combine == "split") != (self.width is not None):
            raise SpaceError(f"node {self.name!r}: width goes with combine='split' and only with it")


def part_of_path(name: str, what: str) -> None:
    """Refuse a name that cannot be one part of a path such as `cell.2.from_0.skip`."""
    if not isinstance(name, str) or not name or "." in name or "/" in name:
        raise SpaceError(f"{what} {name!r}: a name is text that is not empty and holds no '.' and no '/'; rename it")


COMBINES = ("sum", "mean", "concat", "split", "each")


@dataclass(frozen=True)
class Graph:
    """Nodes in any order, the names of the values that come in, and the node whose value goes out."""

    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    output: str
    order: tuple[Node, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", topological(self))


@dataclass(frozen=True)
class Scan:
    """A graph with the inputs (state, value), run along the second axis of (batch, time, features).

    The state starts at zero with `width` features; what comes out is the sequence of states (batch, time, width).
    """

    body: Graph
    width: int

    def __post_init__(self) -> None:
        if len(self.body.inputs) != 2:
            raise SpaceError(f"scan: the body needs the inputs (state, value), got {self.body.inputs}")


Content: TypeAlias = Op | OneOf | Graph | Scan | None


def op(kind: str, **facts: Any) -> Op:
    """An operation from keywords; those that `Op` has no field for become options.

    Raises:
        SpaceError: an option that looks like a misspelt field, which would be passed over without a word
            (`Op(..., options=...)` takes any name); a number that cannot be.

    >>> op("avg_pool", kernel=3)
    Op(kind='avg_pool', width=None, kernel=3, stride=1, dilation=1, groups=1, norm='', activation='', options=())
    """
    known = [name for name in Op.__dataclass_fields__ if name not in ("kind", "options")]
    fields = {k: v for k, v in facts.items() if k in known}
    options = tuple(sorted((k, v) for k, v in facts.items() if k not in fields))
    for name, _ in options:
        if difflib.get_close_matches(name, known, cutoff=0.8):
            raise SpaceError(f"operation {kind!r}: {name!r}{nearest(name, known)}")
    return Op(kind, options=options, **fields)


def one_of(choice: str, contents: Mapping[str, Content], never: tuple[str, ...] = ()) -> OneOf:
    """A choice among named contents.

    >>> one_of("1<-0", {"none": op("none"), "skip": None}).decision().candidates
    ('none', 'skip')
    """
    return OneOf(choice, tuple(contents.items()), never)


def chain(*steps: tuple[str, Content], inputs: tuple[str, ...] = ("image",)) -> Graph:
    """A graph of contents one after another.

    >>> chain(("stem", op("conv", width=8)), ("head", op("classifier"))).output
    'head'
    """
    nodes, previous = [], inputs[0]
    for name, content in steps:
        nodes.append(Node(name, (Edge(previous, content),)))
        previous = name
    return Graph(inputs, tuple(nodes), previous)


def topological(graph: Graph) -> tuple[Node, ...]:
    """The nodes in an order in which each comes after its sources; refuses what is no connected acyclic graph."""
    names = [*graph.inputs, *(n.name for n in graph.nodes)]
    known = set(names)
    if not graph.nodes:
        raise SpaceError("the graph is empty; give it at least one node")
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise SpaceError(f"names used twice in one graph: {', '.join(twice)}; every node needs its own")
    for node in graph.nodes:
        for edge in node.edges:
            if edge.source not in known:
                raise SpaceError(
                    f"edge {node.name}<-{edge.source}: no node {edge.source!r}{nearest(edge.source, names)}"
                )
    if graph.output not in known:
        raise SpaceError(f"output {graph.output!r} is no node{nearest(graph.output, names)}")
    order = _by_depth(graph)
    if len(order) < len(graph.nodes):
        done = {*graph.inputs, *(n.name for n in order)}
        waiting = [n for n in graph.nodes if n.name not in done]
        stuck = [f"{n.name}<-{e.source}" for n in waiting for e in n.edges if e.source not in done]
        raise SpaceError(f"the graph has a cycle through the edges {', '.join(stuck)}; remove one")
    read = {graph.output}
    for node in reversed(order):
        if node.name in read:
            read |= {e.source for e in node.edges}
    loose = [n.name for n in graph.nodes if n.name not in read]
    if loose:
        raise SpaceError(
            f"nothing leads from {', '.join(loose)} to the output {graph.output!r}; connect or remove them"
        )
    return tuple(order)


def _by_depth(graph: Graph) -> list[Node]:
    """The nodes by the length of the longest way to them, then as they are given, without those behind a cycle; in a
    time that grows with the edges."""
    readers: dict[str, list[Node]] = {}
    left = {node.name: len(node.edges) for node in graph.nodes}
    depth = dict.fromkeys(graph.inputs, 0)
    for node in graph.nodes:
        for edge in node.edges:
            readers.setdefault(edge.source, []).append(node)
    ready = list(graph.inputs)
    for name in ready:  # grows on the way
        for node in readers.get(name, ()):
            left[node.name] -= 1
            if not left[node.name]:
                depth[node.name] = 1 + max(depth[e.source] for e in node.edges)
                ready.append(node.name)
    return sorted((node for node in graph.nodes if node.name in depth), key=lambda node: depth[node.name])
