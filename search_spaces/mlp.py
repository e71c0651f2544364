"""Multilayer perceptrons for rows of a table: residual blocks as in Gorishniy et al., NeurIPS 2021, arXiv:2106.11959.

Linear stem to the trunk's width; 1 to `blocks` blocks; batch norm, ReLU, linear head. A block goes from the trunk to a
hidden layer and back, and is searched in four ways:

    norm        none or batch norm before it
    hidden      half, once or twice the trunk's width
    activation  relu, gelu, silu or tanh
    residual    whether its input is added

A choice of blocks 1 to d matters only where the depth is at least d, so there are 48 + 48^2 + ... + 48^blocks
architectures: 112,944 by default. A search holds the widest layers; narrower ones are their first features.
"""

from metanas.space import NEEDED, Choice, Edge, Graph, Node, Size, Space, one_of, op

RECIPE = {
    "search.epochs": 60,
    "search.batch_size": 32,
    "search.lr": 0.02,
    "search.weight_decay": 0.03,
    "evaluation.epochs": 60,
    "evaluation.batch_size": 32,
    "evaluation.lr": 0.005,
    "evaluation.weight_decay": 0.1,
}
"""Small steps and a strong decay: tables are small, and their networks overfit sooner than those for images."""

ACTIVATIONS = ("relu", "gelu", "silu", "tanh")
"""All give 0 for 0: a hidden feature that a mask switches off stays off, as if the layer were narrower."""


def space(width: int = 64, blocks: int = 3) -> Space:
    """The space. `width`: features of the trunk; `blocks`: greatest number of blocks.

    Raises ValueError where the width is not even and positive, or there is no block.
    """
    if width < 2 or width % 2 or blocks < 1:
        raise ValueError(f"width must be even and >= 2, blocks >= 1, got {width} and {blocks}")
    nodes = [Node("stem", (Edge("row", op("linear", width=width)),))]
    names = ["stem", *(f"block{k}" for k in range(1, blocks + 1))]
    for k in range(1, blocks + 1):
        nodes.append(Node(names[k], (Edge(names[k - 1], block(k, width)),)))
    depth = Choice("depth", tuple(map(str, range(1, blocks + 1))), ordered=True)
    nodes += [
        Node("trunk", tuple(map(Edge, names[1:])), choice=depth, body=op("norm", norm="batch", activation="relu")),
        Node("head", (Edge("trunk", op("linear", width=NEEDED)),)),
    ]
    ways = (f"{{norm{k}}} {{hidden{k}}} {{activation{k}}} {{residual{k}}}" for k in range(1, blocks + 1))
    template = f"{{depth}}: {' | '.join(ways)}"
    settings = {"width": width, "blocks": blocks}
    return Space(Graph(("row",), tuple(nodes), "head"), "mlp", template=template, settings=settings)


def block(k: int, width: int) -> Graph:
    """Block `k` of the trunk."""
    normed = one_of(f"norm{k}", {"none": None, "batch": op("norm", norm="batch_cell")})
    hidden = Size(f"hidden{k}", (width // 2, width, 2 * width))
    active = one_of(f"activation{k}", {name: op("activation", activation=name) for name in ACTIVATIONS})
    added = one_of(f"residual{k}", {"plain": op("none"), "residual": None})
    nodes = (
        Node("norm", (Edge("x", normed),)),
        Node("up", (Edge("norm", op("elastic_linear", width=hidden)),)),
        Node("active", (Edge("up", active),)),
        Node("down", (Edge("active", op("elastic_linear", width=width)),)),
        Node("out", (Edge("down"), Edge("x", added))),
    )
    return Graph(("x",), nodes, "out")
