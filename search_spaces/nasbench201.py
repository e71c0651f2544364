"""NAS-Bench-201 (Dong and Yang, ICLR 2020, arXiv:2001.00326): one cell of 4 nodes and 6 edges, 5 operations an edge.

Stem conv 3x3 and batch norm (no ReLU); three stages of cells at C, 2C and 4C channels; a residual block with stride 2
between stages; batch norm, ReLU, global average pool, linear. A node is the sum of its edges. All cells share their six
choices, so there are 5^6 = 15,625 architectures, written `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`.
"""

from metanas.space import NEEDED, Architecture, Content, Edge, Graph, Node, Space, chain, one_of, op

EDGES = ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))
TEMPLATE = "|{1<-0}~0|+|{2<-0}~0|{2<-1}~1|+|{3<-0}~0|{3<-1}~1|{3<-2}~2|"


def space(channels: int = 16, cells: int = 5) -> Space:
    """The space. `channels`: C, width of the first stage; `cells`: N, cells in each of the three stages.

    Raises ValueError where one of them is less than 1.
    """
    if cells < 1:
        raise ValueError(f"cells must be >= 1, got {cells}")
    steps: list[tuple[str, Content]] = [("stem", op("conv", width=channels, kernel=3, norm="batch"))]
    for stage in range(3):
        width = channels * 2**stage
        if stage:
            steps.append(
                (f"reduce{stage}", op("residual", width=width, kernel=3, stride=2, norm="batch", activation="relu"))
            )
        steps += [(f"stage{stage}_cell{k}", cell(width)) for k in range(cells)]
    steps.append(("head", op("classifier", width=NEEDED, norm="batch", activation="relu")))
    settings = {"channels": channels, "cells": cells}
    return Space(chain(*steps), "nasbench201", template=TEMPLATE, settings=settings)


def cell(width: int) -> Graph:
    """The cell: every node is the sum of one operation on each node before it."""

    def operations(i: int, j: int) -> Content:
        def conv(kernel: int) -> Content:
            return op("preact_conv", width=width, kernel=kernel, norm="batch_cell", activation="relu")

        return one_of(
            f"{i}<-{j}",
            {
                "none": op("none"),
                "skip_connect": op("skip"),
                "nor_conv_1x1": conv(1),
                "nor_conv_3x3": conv(3),
                "avg_pool_3x3": op("avg_pool", kernel=3),
            },
        )

    nodes = tuple(Node(str(i), tuple(Edge(str(j), operations(i, j)) for j in range(i))) for i in (1, 2, 3))
    return Graph(("0",), nodes, "3")


def network_class(architecture: Architecture) -> str:
    """The benchmark's own key for isomorphic cells, of which there are 6,466.

    It unfolds the cell to an expression in which a skip is transparent and zeros are marked, so it tells neither shared
    from repeated values nor parameter counts: use `metanas.space.canonical` for "the same network".

    >>> same = [space().parse(f"|none~0|+|{a}~0|none~1|+|{b}~0|none~1|none~2|") for a, b in
    ...         [("none", "skip_connect"), ("nor_conv_1x1", "skip_connect")]]
    >>> network_class(same[0]) == network_class(same[1])
    True
    """
    value = {0: "0"}
    for node in (1, 2, 3):
        terms = []
        for source in range(node):
            (label,) = architecture[f"{node}<-{source}"]
            if label == "none" or value[source] == "#":
                terms.append("#")
            elif label == "skip_connect":
                terms.append(value[source])
            else:
                terms.append(f"({value[source]})@{label}")
        value[node] = "+".join(sorted(terms))
    return value[3]
