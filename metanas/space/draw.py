"""Spaces and architectures as text: the choices as a table, a graph as indented lines. ASCII only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from metanas.space.architecture import Architecture
from metanas.space.graph import Choice, Content, Graph, Node, OneOf, Op, Scan
from metanas.space.space import Space

WRITTEN_OUT = 80
"""Characters of candidates that a graph shows beside their choice; longer lists stand among the choices alone."""


def draw_space(space: Space) -> str:
    """The whole space: its size, its choices, its graph (a cell that stands in several places is drawn once).

    >>> from metanas.space import chain, one_of, op
    >>> print(draw_space(Space(chain(("y", one_of("y", {"conv": op("conv"), "skip": op("skip")}))), "tiny")))
    tiny: 2 architectures, 1 choices
    <BLANKLINE>
    choices
      y   1 of 2   conv skip
    <BLANKLINE>
    graph
      y = image --[y: conv | skip]
    """
    size = f"{space.size:,}" if space.size < 10**12 else f"{space.size:.3e}"
    wide = max((len(c.name) for c in space.choices), default=0)
    choices = [f"  {c.name:<{wide}}   {_take(c):<8} {_candidates(c)}" for c in space.choices]
    choices += [f"  limit: {limit}" for limit in space.limits]
    lines = [f"{space.name}: {size} architectures, {len(space.choices)} choices", "", "choices", *choices, "", "graph"]
    lines += [f"  {line}" for line in _Drawing().graph(space.graph)]
    return "\n".join(line.rstrip() for line in lines)


def draw_architecture(space: Space, architecture: Architecture) -> str:
    """One line per choice: what it takes.

    >>> from metanas.space import chain, one_of, op
    >>> space = Space(chain(("y", one_of("y", {"conv": op("conv"), "skip": op("skip")}))))
    >>> print(draw_architecture(space, space.architecture({"y": "skip"})))
    y  skip
    """
    rows = [(c.name, " + ".join(architecture[c.name]) or "-") for c in space.choices if c.name in architecture]
    wide = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:<{wide}}  {taken}" for name, taken in rows)


def _take(choice: Choice) -> str:
    n = len(choice.candidates)
    return f"any of {n}" if choice.take is None else f"{choice.take} of {n}"


def _candidates(choice: Choice) -> str:
    return " ".join(f"({label})" if label in choice.never else label for label in choice.candidates)


class _Drawing:
    """Draws graphs, each body only once; owns the bodies drawn so far, by what they would look like."""

    def __init__(self) -> None:
        self.drawn: dict[tuple[str, ...], str] = {}

    def graph(self, graph: Graph) -> Iterator[str]:
        for node in graph.order:
            yield from self.node(node)

    def node(self, node: Node) -> Iterator[str]:
        edges = [edge.source + _arrow(edge.content) for edge in node.edges]
        choice = f"  ({_take(node.choice)}: {node.choice.name})" if node.choice else ""
        how = "" if len(edges) == 1 or node.combine in ("sum", "each") else f"{node.combine} of "
        joiner = " + " if node.combine in ("sum", "mean") else ", "
        yield f"{node.name} = {how}{joiner.join(edges)}{_arrow(node.body)}{choice}"
        for content in (*(e.content for e in node.edges), node.body):
            yield from self.inside(content, node.name)

    def inside(self, content: Content, where: str) -> Iterator[str]:
        inner = [content] if isinstance(content, Graph) else []
        if isinstance(content, Scan):
            inner = [content.body]
        if isinstance(content, OneOf):
            inner = [c for _, c in content.contents if isinstance(c, Graph)]
        for graph in inner:
            mark = tuple(_shape(graph))
            if mark in self.drawn:
                yield f"    the same cell as in {self.drawn[mark]}"
                continue
            self.drawn[mark] = where
            yield from (f"    {line}" for line in self.graph(graph))


def _shape(graph: Graph) -> Iterator[str]:
    """What a graph looks like, widths aside: the same cell at another width is the same cell."""
    for node in graph.order:
        yield node.name + "".join(edge.source + _arrow(_any_width(edge.content)) for edge in node.edges)


def _any_width(content: Content) -> Content:
    return replace(content, width=None) if isinstance(content, Op) else content


def _arrow(content: Content) -> str:
    match content:
        case None:
            return ""
        case Op():
            return f" --[{content}]"
        case OneOf():
            labels = " | ".join(label for label, _ in content.contents)
            return f" --[{content.choice}: {labels}]" if len(labels) <= WRITTEN_OUT else f" --[{content.choice}]"
        case Graph():
            return " --[cell]"
        case Scan():
            return " --[scan]"
