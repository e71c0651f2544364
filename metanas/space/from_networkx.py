"""A space from any networkx graph whose edges or nodes carry candidates.

    edge["candidates"] = {"conv": op("conv", kernel=3), "skip": op("skip")}      a choice on the edge
    edge["op"] = op("conv", kernel=3)                                            a fixed operation on the edge
    node["candidates"], node["op"]                                               the same, applied to the combined value
    node["combine"] = "sum" | "mean" | "concat" | "split"                        how the edges come together

Nodes without a way in are the inputs; the one node without a way out is the output. A choice is named
`"target<-source"` or after its node; `"choice"` beside `"candidates"` gives it another name, and so shares it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metanas.errors import SpaceError
from metanas.space.counting import Limit
from metanas.space.graph import Content, Edge, Graph, Node, Op, one_of
from metanas.space.space import Space


def from_networkx(
    graph: Any, name: str = "space", *, limits: tuple[Limit, ...] = (), template: str | None = None
) -> Space:
    """The space that a `networkx.DiGraph` describes.

    Raises:
        SpaceError: undirected or parallel edges, a cycle, no node, several outputs, a disconnected node: with their
        names.

    >>> import networkx as nx
    >>> from metanas.space import op
    >>> g = nx.DiGraph()
    >>> g.add_edge("x", "y", candidates={"conv": op("conv", kernel=3), "skip": op("skip")})
    >>> from_networkx(g).size
    2
    """
    if not graph.is_directed() or graph.is_multigraph():
        raise SpaceError(
            f"expected a networkx.DiGraph, got {type(graph).__name__}; edges need a direction and no twins"
        )
    if len(graph) == 0:
        raise SpaceError("the graph is empty; give it at least one edge")
    names = {v: str(v) for v in graph}
    if len(set(names.values())) < len(names):
        raise SpaceError("two nodes have the same name as text; rename one")
    alone = [names[v] for v in graph if graph.degree(v) == 0]
    if alone:
        raise SpaceError(f"disconnected nodes: {', '.join(alone)}; connect or remove them")
    inputs = tuple(names[v] for v in graph if graph.in_degree(v) == 0)
    outputs = [names[v] for v in graph if graph.out_degree(v) == 0]
    nodes = tuple(
        Node(
            names[v],
            tuple(
                Edge(names[u], _content(graph.edges[u, v], f"{names[v]}<-{names[u]}")) for u in graph.predecessors(v)
            ),
            combine=graph.nodes[v].get("combine", "sum"),
            body=_content(graph.nodes[v], names[v]),
            width=graph.nodes[v].get("width"),
        )
        for v in graph
        if graph.in_degree(v) > 0
    )
    if len(outputs) > 1:
        raise SpaceError(f"a space has one output, this graph ends in {', '.join(outputs)}; join them in one node")
    built = Graph(inputs, nodes, outputs[0] if outputs else nodes[0].name)  # no output: it will find the cycle
    return Space(built, name, limits, template)


def _content(attributes: Mapping[str, Any], name: str) -> Content:
    candidates, fixed = attributes.get("candidates"), attributes.get("op")
    if candidates is not None and fixed is not None:
        raise SpaceError(f"{name}: has both 'op' and 'candidates'; keep one")
    if candidates is None:
        return fixed if not isinstance(fixed, str) else Op(fixed)
    if not isinstance(candidates, Mapping):
        candidates = {str(c) if isinstance(c, Op) else c: Op(c) if isinstance(c, str) else c for c in candidates}
    return one_of(attributes.get("choice", name), candidates, tuple(attributes.get("never", ())))
