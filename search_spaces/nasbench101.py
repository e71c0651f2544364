"""NAS-Bench-101 (Ying et al., ICML 2019, arXiv:1902.09635): at most 7 vertices and 9 edges, an operation a vertex.

Stem conv 3x3; three stacks of three cells at C, 2C and 4C channels, halved by a 2x2 max pool between stacks; global
average pool, linear. Every convolution is followed by batch norm and ReLU. The first vertex of a cell is its input, the
last its output; each in between adds any of those before it and has one of three operations:

    from the input      projected to the vertex's width by a 1x1 convolution
    from another        its first channels, as many as the vertex has
    the output          the vertices that it reads side by side, C channels shared out evenly, the remainder to the
                        first; if it reads the input, that is projected and added
    width of a vertex   its share of the output, or that of its widest reader

All cells are one, written `1=conv3x3(input) 2=maxpool3x3(input+1) ... out=1+2 direct=input`. The size counts what is
taken: an operation for each vertex, an edge or none for each pair, 169,093,980 in all. Without what is on no path, and
with one of isomorphic cells, 423,624 are left; the benchmark trained these (`network_class` tells them apart).
"""

import hashlib
from collections.abc import Sequence

from metanas.space import (
    NEEDED,
    Architecture,
    Choice,
    Content,
    Edge,
    Graph,
    Limit,
    Needed,
    Node,
    Space,
    chain,
    one_of,
    op,
)

OPERATIONS = ("conv3x3", "conv1x1", "maxpool3x3")

RECIPE = {"search.controller": "evolution", "space.options.channels": 16, "space.options.cells": 1}
"""Edges that are there or not have no mixture, so a search goes by values; its networks are small ones."""


def space(channels: int = 128, cells: int = 3, stacks: int = 3, vertices: int = 7, edges: int = 9) -> Space:
    """The space. `channels`: C, width of the first stack; `cells`: in each of the `stacks`; `vertices`: of the cell,
    input and output included; `edges`: the most that a cell may have.

    Raises ValueError where there are fewer than 3 vertices or none of the others.
    """
    if min(channels, cells, stacks, edges) < 1 or vertices < 3:
        given = f"{channels}, {cells}, {stacks}, {vertices}, {edges}"
        raise ValueError(f"channels, cells, stacks, edges must be >= 1 and vertices >= 3, got {given}")
    steps: list[tuple[str, Content]] = [("stem", conv(channels, 3))]
    for stack in range(stacks):
        if stack:
            steps.append((f"down{stack}", op("max_pool", kernel=2, stride=2)))
        steps += [(f"stack{stack}_cell{k}", cell(channels * 2**stack, vertices)) for k in range(cells)]
    steps.append(("head", op("classifier", width=NEEDED)))
    inner = [str(v) for v in range(1, vertices - 1)]
    bound = Limit((*(f"in{v}" for v in inner), "out", "direct"), at_most=edges)
    template = " ".join(f"{v}={{op{v}}}({{in{v}}})" for v in inner) + " out={out} direct={direct}"
    settings = {"channels": channels, "cells": cells, "stacks": stacks, "vertices": vertices, "edges": edges}
    return Space(chain(*steps), "nasbench101", limits=(bound,), template=template, settings=settings)


def conv(width: int | Needed | None, kernel: int = 1) -> Content:
    """Convolution, batch norm, ReLU."""
    return op("conv", width=width, kernel=kernel, norm="batch", activation="relu")


def cell(width: int, vertices: int) -> Graph:
    """The cell: every vertex reads any of those before it."""
    inner = [str(v) for v in range(1, vertices - 1)]
    nodes = []
    for k, v in enumerate(inner):
        body = one_of(
            f"op{v}", dict(zip(OPERATIONS, (conv(None, 3), conv(None), op("max_pool", kernel=3)), strict=True))
        )
        before = inner[:k]
        edges = (Edge("input", conv(NEEDED)), *(Edge(u, op("narrow", width=NEEDED)) for u in before))
        nodes.append(Node(v, edges, choice=Choice(f"in{v}", ("input", *before), take=None), body=body))
    out = Choice("out", tuple(inner), take=None)
    nodes.append(Node("cat", tuple(map(Edge, inner)), combine="split", width=width, choice=out))
    direct = Choice("direct", ("input",), take=None)
    nodes.append(Node("shortcut", (Edge("input", conv(width)),), choice=direct))
    nodes.append(Node("output", (Edge("cat"), Edge("shortcut"))))
    return Graph(("input",), tuple(nodes), "output")


def choices(matrix: Sequence[Sequence[int]], operations: Sequence[str]) -> dict[str, str | tuple[str, ...]]:
    """What the choices take for a cell as the benchmark gives it.

    Args:
        matrix: the adjacency; row i, column j is 1 where vertex j reads vertex i < j.
        operations: of the inner vertices, one of `OPERATIONS` each.

    >>> choices([[0, 1, 1], [0, 0, 1], [0, 0, 0]], ["conv1x1"])
    {'op1': 'conv1x1', 'in1': ('input',), 'out': ('1',), 'direct': ('input',)}
    """
    last = len(operations) + 1
    names = ("input", *map(str, range(1, last)))

    def read(vertex: int, first: int, end: int) -> tuple[str, ...]:
        return tuple(names[u] for u in range(first, end) if matrix[u][vertex])

    taken: dict[str, str | tuple[str, ...]] = {}
    for v in range(1, last):
        taken |= {f"op{v}": operations[v - 1], f"in{v}": read(v, 0, v)}
    return taken | {"out": read(last, 1, last), "direct": read(last, 0, 1)}


def matrix(architecture: Architecture) -> tuple[list[list[int]], list[str]]:
    """The adjacency of a cell and the operations of its inner vertices, but for vertices that lie on no path from input
    to output: ([], []) where there is no path.

    >>> matrix(space(vertices=4).parse("1=conv3x3(input) 2=conv1x1() out=1+2 direct="))
    ([[0, 1, 0], [0, 0, 1], [0, 0, 0]], ['conv3x3'])
    """
    inner = sorted((name.removeprefix("op") for name in architecture if name.startswith("op")), key=int)
    reads = {v: architecture[f"in{v}"] for v in inner}
    reads["output"] = (*architecture["out"], *architecture["direct"])
    fed, useful = {"input"}, {"output"}
    for v, sources in reads.items():
        fed |= {v} if fed.intersection(sources) else set()
    for v, sources in reversed(reads.items()):
        useful |= set(sources) if v in useful else set()
    kept = [v for v in ("input", *reads) if v in fed & useful]
    rows = [[int(u in reads.get(v, ())) for v in kept] for u in kept]
    return rows, [architecture[f"op{v}"][0] for v in kept[1:-1]]


def network_class(architecture: Architecture) -> str:
    """The benchmark's own key, the same for isomorphic cells: 32 hexadecimal digits.

    An MD5 sum for every vertex (readers, sources, operation), taken anew with those of its sources and its readers as
    many times as there are vertices. Cells of one class may differ in parameters: the remainder goes to the first.

    >>> network_class(space(vertices=4).parse("1=conv3x3(input) 2=conv1x1(1) out=2 direct="))
    '96794a104891b22bf4f2abbdd7c3e90f'
    """
    rows, operations = matrix(architecture)
    size = len(rows)
    sources = [[u for u in range(size) if rows[u][v]] for v in range(size)]
    readers = [[w for w in range(size) if rows[v][w]] for v in range(size)]
    labels = [-1, *map(OPERATIONS.index, operations), -2][:size]
    marks = [_md5(str((len(readers[v]), len(sources[v]), labels[v]))) for v in range(size)]
    for _ in range(size):
        near = [_joined(marks, sources[v]) + "|" + _joined(marks, readers[v]) for v in range(size)]
        marks = [_md5(f"{around}|{mark}") for around, mark in zip(near, marks, strict=True)]
    return _md5(str(sorted(marks)))


def _joined(marks: Sequence[str], vertices: Sequence[int]) -> str:
    return "".join(sorted(marks[v] for v in vertices))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
