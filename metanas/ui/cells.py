"""The cells of a space as a view draws them, read from space.json, where nothing is trusted.

    cells = cells_of(space)                    the graphs that hold choices, each once
    edges(cells[0], {"1<-0": "none", ...})     what an architecture makes of one

A NAS-Bench-201 space has one cell, a DARTS space two (normal and reduce), however often they stand in the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from metanas.ui.fields import Label, Record, as_record, string, strings
from metanas.ui.points import Cell, Link, Vertex

MOST = 64  # nodes of a cell, and cells: what is larger cannot be drawn in letters
ROWS = 400  # edges of a derived cell
SEEN = 200_000  # records looked at in search of cells


@dataclass(frozen=True)
class Edge:
    """An edge of a derived cell: what is on it, and at the last of a node what the node does ("": nothing)."""

    source: str
    target: str
    label: str
    choice: str | None
    body: str = ""


def cells_of(space: object) -> tuple[Cell, ...]:
    """The cells of a space document, in its order; () where it has none, or is damaged.

    >>> edge = {"source": "0", "content": {"choice": "1<-0", "contents": []}}
    >>> [(vertex.name, vertex.links) for cell in cells_of({"graph": {"nodes": [{"name": "1", "edges": [edge]}]}})
    ...  for vertex in cell.vertices]
    [('1', (Link(source='0', choice='1<-0', fixed=''),))]
    """
    found: dict[frozenset[str], Cell] = {}
    for place, graph in _graphs(as_record(as_record(space).get("graph"))):
        vertices = _between([_vertex(node) for node in _records(graph, "nodes")[:MOST]])
        choices = frozenset(name for vertex in vertices for name in _choices(vertex))
        if choices and choices not in found and len(found) < MOST:
            found[choices] = Cell(_name(choices, place), vertices)
    return tuple(found.values())


def edges(cell: Cell, architecture: Mapping[str, Label]) -> tuple[Edge, ...]:
    """The edges that an architecture takes, in the order of the nodes; a choice that it does not hold takes none.

    >>> cell = Cell("", (Vertex("2", (Link("0", "a"), Link("1", "b")), inputs="in", labels=("0", "1")),))
    >>> [(edge.source, edge.label) for edge in edges(cell, {"in": ("1",), "a": "none", "b": "skip"})]
    [('1', 'skip')]
    """
    found: list[Edge] = []
    for vertex in cell.vertices:
        wanted = taken(architecture.get(vertex.inputs)) if vertex.inputs else ()
        inside: list[Edge] = []
        for place, link in enumerate(vertex.links):
            if vertex.inputs and (place >= len(vertex.labels) or vertex.labels[place] not in wanted):
                continue
            if link.choice and link.choice not in architecture:
                continue
            label = " + ".join(taken(architecture.get(link.choice))) if link.choice else link.fixed
            inside.append(Edge(link.source, vertex.name, label, link.choice))
        if inside and vertex.body:
            inside[-1] = replace(inside[-1], body=" + ".join(taken(architecture.get(vertex.body))))
        found += inside
    return tuple(found[:ROWS])


def taken(label: Label | None) -> tuple[str, ...]:
    """
    >>> taken("none"), taken(("0", "2")), taken(None)
    (('none',), ('0', '2'), ())
    """
    return () if label is None else (label,) if isinstance(label, str) else label


def _graphs(root: Record) -> Iterator[tuple[str, Record]]:
    """Every graph in the document with the node that holds it, outer ones first, without recursion."""
    waiting, seen = [("", root)], 0
    while waiting and seen < SEEN:
        place, record = waiting.pop()
        seen += 1
        inside: list[tuple[str, Record]] = []
        if isinstance(record.get("nodes"), list):
            yield place, record
            for node in _records(record, "nodes"):
                name = string(node, "name") or place
                contents = [as_record(edge.get("content")) for edge in _records(node, "edges")]
                inside += [(name, content) for content in (*contents, as_record(node.get("body"))) if content]
        listed = record.get("contents")
        pairs = listed if isinstance(listed, list) else []
        inside += [(place, as_record(pair[1])) for pair in pairs if isinstance(pair, list) and len(pair) == 2]
        inside.append((place, as_record(record.get("body"))))  # of a scan
        waiting += [(name, content) for name, content in reversed(inside) if content]


def _records(record: Record, name: str) -> list[Record]:
    listed = record.get(name)
    return [as_record(entry) for entry in listed] if isinstance(listed, list) else []


def _vertex(node: Record) -> Vertex:
    choice, body = as_record(node.get("choice")), as_record(node.get("body"))
    links = tuple(_link(edge) for edge in _records(node, "edges")[:MOST])
    return Vertex(
        name=string(node, "name") or "?",
        links=links,
        inputs=string(choice, "name"),
        labels=strings(choice, "candidates"),
        body=string(body, "choice"),
    )


def _link(edge: Record) -> Link:
    content = as_record(edge.get("content"))
    return Link(string(edge, "source") or "?", string(content, "choice"), string(content, "kind") or "")


def _choices(vertex: Vertex) -> list[str]:
    named = (vertex.inputs, vertex.body, *(link.choice for link in vertex.links))
    return [name for name in named if name]


def _between(vertices: list[Vertex]) -> tuple[Vertex, ...]:
    """The nodes with choices, and those on a way from one to another, sources first; a circle is left out."""
    named = {vertex.name: vertex for vertex in vertices}
    order: list[Vertex] = []
    for _ in named:  # as many rounds as there are nodes are enough for any order
        done = {vertex.name for vertex in order}
        ready = [v for v in named.values() if v.name not in done and _sources(v) & named.keys() <= done]
        order += ready
        if not ready:
            break
    after: set[str] = set()  # nodes that a choice reaches
    for vertex in order:
        if _choices(vertex) or _sources(vertex) & after:
            after.add(vertex.name)
    before: set[str] = set()  # nodes that reach a choice
    for vertex in reversed(order):
        if _choices(vertex) or vertex.name in before:
            before |= _sources(vertex) | {vertex.name}
    return tuple(vertex for vertex in order if vertex.name in after & before)


def _sources(vertex: Vertex) -> set[str]:
    return {link.source for link in vertex.links}


def _name(choices: frozenset[str], place: str) -> str:
    """What the names of its choices begin with, as in `normal.2<-0`; otherwise the node that holds it."""
    starts = {name.partition(".")[0] if "." in name else "" for name in choices}
    return starts.pop() or place if len(starts) == 1 else place
