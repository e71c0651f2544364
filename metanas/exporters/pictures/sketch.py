"""From one graph of a space, with its choices made, to boxes and arrows.

Operations stand where the space puts them:

    on arrows   in a cell whose nodes choose an operation for each of several inputs (NAS-Bench-201, DARTS)
    in boxes    everywhere else: chains, operations on vertices (NAS-Bench-101)

What the output does not read is left out, and so is what only makes sizes fit: a fixed 1x1 convolution on an input of a
cell with several, or one that is as wide as its reader needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from metanas.exporters.pictures.palette import kind_of
from metanas.exporters.pictures.picture import visible
from metanas.space import Content, Edge, Graph, Needed, Node, OneOf, Op, Scan, Size

FITTING = frozenset({"conv", "preact_conv", "factorized_reduce", "narrow", "skip"})
"""Kinds that, with a 1x1 kernel, are there to make sizes fit."""

SIGNS = {"sum": "+", "mean": "mean", "concat": "concat", "split": "concat", "each": ""}
"""How a box that combines values is labelled."""

Taken = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Box:
    """A box of a sketch.

    cell:  the number of the cell that it stands for
    value: the path of what it gives, as a program names its values, from the sketched graph on
    width: channels that it gives, where they are fixed
    times: how many equal ones in a row it stands for
    """

    label: str
    kind: str
    cell: int | None = None
    value: str = ""
    width: int | None = None
    times: int = 1


@dataclass(frozen=True)
class Line:
    """An arrow of a sketch, between positions in the list of its boxes; `cell`: the number of the cell on it."""

    source: int
    target: int
    label: str = ""
    kind: str = ""
    cell: int | None = None


@dataclass(frozen=True)
class Sketch:
    """Boxes, in an order in which each comes after what leads to it, and arrows."""

    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]

    @property
    def look(self) -> tuple[object, ...]:
        """Equal for cells that look the same: at any width, wherever they stand."""
        return (tuple((b.label, b.kind, b.cell) for b in self.boxes), self.lines)


@dataclass(frozen=True)
class Drawn:
    """An operation as it is drawn; `cell`: the number of the cell that it is; `width`: where it is fixed."""

    label: str
    kind: str
    cell: int | None = None
    width: int | None = None


CellOf = Callable[[Graph, str, str], Drawn]
"""(Graph, its label where it was chosen, the node that holds it) -> how it is drawn."""


def sketched(graph: Graph, taken: Taken, cell_of: CellOf, *, inside: bool) -> Sketch:
    """A graph as boxes and arrows.

    Args:
        taken: the architecture.
        cell_of: how a graph inside it is drawn.
        inside: it is a cell, not the network.
    """
    sketcher = _Sketcher(graph, taken, cell_of, inside)
    for node in live(graph, taken):
        sketcher.add(node)
    return sketcher.sketch()


def live(graph: Graph, taken: Taken) -> list[Node]:
    """The nodes that the output reads, in order."""
    read = {graph.output}
    kept = []
    for node in reversed(graph.order):
        if node.name in read:
            read |= {edge.source for edge in edges_taken(node, taken)}
            kept.append(node)
    return kept[::-1]


def edges_taken(node: Node, taken: Taken) -> list[Edge]:
    """The edges of a node that the architecture takes."""
    if node.choice is None:
        return list(node.edges)
    labels = taken.get(node.choice.name, ())
    return [edge for label, edge in zip(node.choice.candidates, node.edges, strict=True) if label in labels]


def on_arrows(graph: Graph) -> bool:
    """Whether operations stand on arrows: some node chooses one for each of several edges."""
    return any(sum(isinstance(edge.content, OneOf) for edge in node.edges) > 1 for node in graph.nodes)


@dataclass
class _Sketcher:
    """Makes one sketch; owns its boxes and where each value of the graph stands (None: nothing was taken for it)."""

    graph: Graph
    taken: Taken
    cell_of: CellOf
    inside: bool
    boxes: list[Box] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    at: dict[str, int | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.graph.inputs:
            self.at[name] = self.box(Box(visible(name), "input", value=name))

    def box(self, box: Box) -> int:
        self.boxes.append(box)
        return len(self.boxes) - 1

    def add(self, node: Node) -> None:
        """The node, from those of its edges that are taken and bring something."""
        edges = [(edge, at) for edge in edges_taken(node, self.taken) if (at := self.at[edge.source]) is not None]
        if node.combine != "each" and on_arrows(self.graph):
            self.at[node.name] = self.with_arrows(node, edges)
        else:
            self.at[node.name] = self.with_boxes(node, edges)
        if node.name == self.graph.output and self.at[node.name] is None:
            self.at[node.name] = self.box(Box("0", "none", value=node.name))

    def with_arrows(self, node: Node, edges: list[tuple[Edge, int]]) -> int | None:
        """A box for the node, its operations on the arrows to it."""
        if not edges or (len(edges) == 1 and node.body is None and self.is_plain(edges[0][0])):
            return edges[0][1] if edges else None
        sign = SIGNS[node.combine] if node.combine in ("concat", "split") else visible(node.name)
        here = self.box(Box(sign, "node", value=joined_of(node)))
        for edge, at in edges:
            content = None if self.is_plain(edge) else self.content(edge.content, node)
            drawn = content or Drawn("", "")
            self.lines.append(Line(at, here, drawn.label, drawn.kind, drawn.cell))
        return self.through(node, [here])

    def with_boxes(self, node: Node, edges: list[tuple[Edge, int]]) -> int | None:
        """A box for each operation; where several values meet without one, a box with a sign. Zeros beside others are
        not drawn.
        """
        drawn = [(edge, at, None if self.is_plain(edge) else self.content(edge.content, node)) for edge, at in edges]
        shown = [row for row in drawn if row[2] is None or row[2].kind != "none"] or drawn[:1]
        ends = [at if d is None else self.operation(d, [at], value_of(node, edge)) for edge, at, d in shown]
        meet = node.combine in ("concat", "split", "mean") or node.body is None
        if len(ends) > 1 and meet and node.combine != "each":
            here = self.box(Box(SIGNS[node.combine], "node", value=joined_of(node)))
            self.lines += [Line(end, here) for end in dict.fromkeys(ends)]
            ends = [here]
        return self.through(node, ends) if ends else None

    def through(self, node: Node, ends: list[int]) -> int:
        """What comes out of the body of a node."""
        content = self.content(node.body, node)
        return ends[0] if content is None else self.operation(content, ends, node.name)

    def operation(self, content: Drawn, ends: list[int], value: str) -> int:
        here = self.box(Box(content.label, content.kind, content.cell, value, content.width))
        self.lines += [Line(end, here) for end in dict.fromkeys(ends)]
        return here

    def is_plain(self, edge: Edge) -> bool:
        """Whether nothing that is worth a label happens on an edge."""
        op = edge.content
        if not isinstance(op, Op):
            return op is None
        between = len(self.graph.inputs) > 1 and edge.source in self.graph.inputs
        return op.kind in FITTING and op.kernel == 1 and (between or isinstance(op.width, Needed))

    def content(self, content: Content, node: Node) -> Drawn | None:
        match content:
            case None:
                return None
            case Op():
                width = content.width if isinstance(content.width, int) else None
                return Drawn(words_of(content, self.taken), kind_of(content), width=width)
            case OneOf():
                return self.chosen(content, node)
            case Graph():
                return self.cell_of(content, "", node.name)
            case Scan():
                return self.cell_of(content.body, "", node.name)

    def chosen(self, content: OneOf, node: Node) -> Drawn | None:
        label = (self.taken.get(content.choice) or ("?",))[0]
        inner = dict(content.contents).get(label)
        if isinstance(inner, OneOf):
            return self.chosen(inner, node)
        if isinstance(inner, Graph | Scan):
            body = inner.body if isinstance(inner, Scan) else inner
            return replace(self.cell_of(body, label, node.name), label=visible(label))
        if inner is None and label == "none":
            return None
        drawn = self.content(inner, node) or Drawn("", "skip")
        return replace(drawn, label=visible(label))

    def sketch(self) -> Sketch:
        last = self.at[self.graph.output]
        if self.inside and last is not None and self.boxes[last].kind == "node":
            self.boxes[last] = replace(self.boxes[last], kind="output")
        return Sketch(tuple(self.boxes), tuple(self.lines))


def joined_of(node: Node) -> str:
    """The path of what the edges of a node give together, as a program names it."""
    return node.name if node.body is None else f"{node.name}.in"


def value_of(node: Node, edge: Edge) -> str:
    """The path of what an edge gives, as a program names it; the second edge from one source has a number."""
    if len(node.edges) == 1 and node.body is None and node.choice is None and node.combine != "split":
        return node.name
    before = [other.source for other in node.edges[: node.edges.index(edge)]].count(edge.source)
    return f"{node.name}.from_{edge.source}{f'_{before + 1}' if before else ''}"


def words_of(op: Op, taken: Taken) -> str:
    """An operation in words, its width only where it was chosen.

    >>> words_of(Op("max_pool", kernel=2, stride=2), {})
    'max pool 2\N{MULTIPLICATION SIGN}2 /2'
    >>> words_of(Op("elastic_linear", width=Size("hidden", (8, 16))), {"hidden": ("16",)})
    'linear 16'
    """
    facts = [visible(op.kind.removeprefix("elastic_").replace("_", " "))]
    if op.kernel > 1 or kind_of(op) in ("conv", "separable", "dilated"):
        facts.append(f"{op.kernel}\N{MULTIPLICATION SIGN}{op.kernel}")
    if op.stride > 1:
        facts.append(f"/{op.stride}")
    if op.dilation > 1:
        facts.append(f"dilated {op.dilation}")
    if isinstance(op.width, Size):
        facts += taken.get(op.width.choice, ())
    if op.kind == "activation":
        facts = [op.activation]
    elif op.kind == "norm":
        facts = ["batch norm," if op.activation else "batch norm", op.activation]
    return " ".join(facts).strip()
