"""Which candidates of a choice are of one kind of operation: which skip, which are nothing at all.

Labels are words of the space's author; what an operation is, its specification says.
"""

from __future__ import annotations

from collections.abc import Iterator

from metanas.space.graph import Content, Graph, OneOf, Op, Scan

SKIP = "skip"
NONE = "none"


def labels_of(graph: Graph, kind: str) -> dict[str, tuple[str, ...]]:
    """Choice of one of n operations -> its candidates that do what an operation of that kind does and nothing else.

    A candidate that is a graph counts where the one way through it holds that operation and no other. A skip with a
    stride, which has weights, counts; a value as it is, without an operation, does not: "no norm" is no skip.

    >>> from metanas.space.graph import chain, one_of, op
    >>> graph = chain(("y", one_of("y", {"conv": op("conv"), "same": op("skip"), "zero": op("none")})))
    >>> labels_of(graph, SKIP), labels_of(graph, NONE)
    ({'y': ('same',)}, {'y': ('zero',)})
    """
    found: dict[str, tuple[str, ...]] = {}
    for choice in _choices(graph):
        labels = tuple(label for label, content in choice.contents if _is(content, kind))
        if labels:
            found[choice.choice] = labels
    return found


def _choices(content: Content) -> Iterator[OneOf]:
    """Every choice among contents in it, in the order in which they are written; one that is shared comes again."""
    match content:
        case OneOf(contents=contents):
            yield content
            for _, candidate in contents:
                yield from _choices(candidate)
        case Graph(nodes=nodes):
            for node in nodes:
                for inside in (*(edge.content for edge in node.edges), node.body):
                    yield from _choices(inside)
        case Scan(body=body):
            yield from _choices(body)


def _is(content: Content, kind: str) -> bool:
    match content:
        case Op():
            return content.kind == kind
        case Graph():
            return _is_way(content, kind)
    return False


def _is_way(graph: Graph, kind: str) -> bool:
    """Whether there is one way through a graph, and one operation on it, of the kind."""
    named = {node.name: node for node in graph.nodes}
    at, on_the_way = graph.output, list[Content]()
    while at in named:
        node = named[at]
        if len(node.edges) > 1 or node.choice is not None:
            return False
        on_the_way += [content for content in (node.edges[0].content, node.body) if content is not None]
        at = node.edges[0].source
    return len(on_the_way) == 1 and _is(on_the_way[0], kind)
