"""Partial channels: the same choices, of which a supernet runs every candidate on a part of the channels only.

    x -> the first 1 / K of the channels -> the choice among the candidates, as narrow -+
    x -> the rest of the channels (pooled where the candidates have a stride) ----------+-> side by side, shuffled

Xu, Xie, Zhang, Chen, Qi, Tian, Xiong: PC-DARTS, ICLR 2020, arXiv:1907.05737. It is a space of its own with the choices
of the first one: a supernet of it learns mixing weights for that, and what is derived is of that, whole. The supernet's
weights do not fit it.
"""

from __future__ import annotations

from dataclasses import replace

from metanas.errors import SpaceError
from metanas.space.graph import Content, Edge, Graph, Node, OneOf, Op, op
from metanas.space.space import Space


def partial_channels(space: Space, *, of: int = 4) -> Space:
    """The space in which every choice among single operations sees 1 / `of` of its channels.

    It takes choices with one input whose operations have, where they name one, the same width, as many channels as come
    in. Others stay as they are: choices of inputs or sizes, and those among graphs (but the choices inside of these).

    Raises:
        SpaceError: `of` is less than 2 or does not divide a width; no such choice.

    >>> from metanas.space.graph import chain, one_of
    >>> conv = {"conv": op("conv", width=8, kernel=3), "skip": op("skip")}
    >>> space = Space(chain(("stem", op("conv", width=8)), ("y", one_of("y", conv)), ("head", op("classifier"))))
    >>> [step.op.width for step in partial_channels(space).program.steps if hasattr(step, "op")]
    [8, 2, 6, 2, None, None, None]
    """
    if of < 2:
        raise SpaceError(f"partial channels: must be 1 of 2 or more parts, got 1 of {of}")
    graph = _graph(space.graph, of)
    found = replace(space, graph=graph)
    if graph == space.graph:
        raise SpaceError(
            f"space {space.name!r} has no choice among operations with a width, so there are no channels to take a "
            "part of; use another controller"
        )
    return found


def _graph(graph: Graph, of: int) -> Graph:
    return replace(graph, nodes=tuple(_node(node, of) for node in graph.nodes))


def _node(node: Node, of: int) -> Node:
    edges = tuple(Edge(edge.source, _content(edge.content, of)) for edge in node.edges)
    several = node.combine == "each" and isinstance(node.body, OneOf)
    return replace(node, edges=edges, body=node.body if several else _content(node.body, of))


def _content(content: Content, of: int) -> Content:
    match content:
        case Graph():
            return _graph(content, of)
        case OneOf() if all(isinstance(candidate, Op) for _, candidate in content.contents):
            return _narrowed(content, [c for _, c in content.contents if isinstance(c, Op)], of)
        case OneOf():
            return replace(content, contents=tuple((label, _content(c, of)) for label, c in content.contents))
    return content


def _narrowed(choice: OneOf, operations: list[Op], of: int) -> Content:
    widths = {c.width for c in operations if c.width is not None}
    strides = {c.stride for c in operations}
    if len(widths) != 1 or len(strides) != 1 or not isinstance(width := widths.pop(), int):
        return choice
    if width % of:
        raise SpaceError(
            f"choice {choice.choice!r}: {width} channels are not {of} equal parts; take a multiple of {of}, or other "
            "parts"
        )
    part = width // of
    narrow = tuple(
        (label, replace(c, width=None if c.width is None else part))
        for (label, _), c in zip(choice.contents, operations, strict=True)
    )
    nodes = (
        Node("part", (Edge("x", op("narrow", width=part)),)),
        Node("mixed", (Edge("part", replace(choice, contents=narrow)),)),
        Node("rest", (Edge("x", op("rest", width=width - part, stride=strides.pop())),)),
        Node("whole", (Edge("mixed"), Edge("rest")), combine="concat", body=op("shuffle", groups=of)),
    )
    return Graph(("x",), nodes, "whole")
