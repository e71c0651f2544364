"""Hierarchical cells (Liu et al., ICLR 2018, arXiv:1711.00436): a cell is a graph of motifs, a motif one of operations.

Stem conv 3x3; three stages of cells at C, 2C and 4C channels, halved by a separable convolution with stride 2 between
them; global average pool, linear. In both graphs every node reads all nodes before it and adds what comes:

    edge of a motif    none, the identity, conv 1x1, depthwise 3x3, separable 3x3, max or mean of 3x3 pixels
    edge of the cell   none, or one of the motifs

Convolutions come after a ReLU and before batch norm. A motif is one decision wherever it stands, with weights of its
own in each place, and matters only where some edge takes it. All cells are one. With three motifs of four nodes and a
cell of four there are 3.4 * 10^18; the paper has six motifs, a cell of five nodes, and evolves them.
"""

from collections.abc import Mapping

from metanas.space import NEEDED, Content, Edge, Graph, Node, Op, Space, chain, one_of, op

RECIPE = {"search.controller": "evolution"}
"""A supernet holds every motif on every edge of every cell: a search by values is far faster."""


def space(channels: int = 16, cells: int = 1, motifs: int = 3, nodes: int = 4, motif_nodes: int = 4) -> Space:
    """The space. `channels`: C; `cells`: in each stage; `motifs`: how many; `nodes`, `motif_nodes`: of the cell and of
    a motif, the input included.

    Raises ValueError where there are fewer than 2 nodes, or none of the others.
    """
    if min(channels, cells, motifs) < 1 or min(nodes, motif_nodes) < 2:
        given = f"{channels}, {cells}, {motifs}, {nodes} and {motif_nodes}"
        raise ValueError(f"channels, cells and motifs must be >= 1, nodes and motif_nodes >= 2, got {given}")
    steps: list[tuple[str, Content]] = [("stem", op("conv", width=channels, kernel=3, norm="batch"))]
    for stage in range(3):
        width = channels * 2**stage
        if stage:
            down = op("separable", width=width, kernel=3, stride=2, norm="batch", activation="relu")
            steps.append((f"down{stage}", down))
        inner = {f"m{k}": graph(f"m{k}", motif_nodes, operations(width)) for k in range(1, motifs + 1)}
        whole = graph("cell", nodes, {"none": op("none"), **inner})
        steps += [(f"stage{stage}_cell{k}", whole) for k in range(cells)]
    steps.append(("head", op("classifier", width=NEEDED, norm="batch", activation="relu")))
    settings = {"channels": channels, "cells": cells, "motifs": motifs, "nodes": nodes, "motif_nodes": motif_nodes}
    return Space(chain(*steps), "hierarchical", settings=settings)


def operations(width: int) -> dict[str, Op]:
    """What an edge of a motif may be."""
    made = {"width": width, "norm": "batch_cell", "activation": "relu"}
    return {
        "none": op("none"),
        "identity": op("skip"),
        "conv_1x1": op("preact_conv", **made),
        "depthwise_3x3": op("preact_conv", kernel=3, groups=width, **made),
        "separable_3x3": op("separable", kernel=3, **made),
        "max_pool_3x3": op("max_pool", kernel=3),
        "avg_pool_3x3": op("avg_pool", kernel=3),
    }


def graph(name: str, nodes: int, contents: Mapping[str, Content]) -> Graph:
    """Every node reads all before it, each through one of the contents."""

    def edge(i: int, j: int) -> Edge:
        return Edge(str(j), one_of(f"{name}.{i}<-{j}", contents))

    made = tuple(Node(str(i), tuple(edge(i, j) for j in range(i))) for i in range(1, nodes))
    return Graph(("0",), made, str(nodes - 1))
