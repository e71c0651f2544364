"""Networks that classify graphs by messages along their edges, in the spirit of GraphNAS and of GNN design spaces.

The features of every node are mapped to `width`; layers; a readout of all nodes, batch norm, linear. A layer is
residual, and is searched in six ways (Gao et al., GraphNAS, arXiv:1904.09981; You, Ying, Leskovec, NeurIPS 2020,
arXiv:2011.08843, search most of them, each with others):

    x + down(f(told))        told = aggregate(up(norm(x))),  or that + own(norm(x))

    aggregate   of what a node reads: sum (Xu et al., ICLR 2019, arXiv:1810.00826), mean or max (Hamilton et al.,
                NeurIPS 2017, arXiv:1706.02216), attention (Velickovic et al., ICLR 2018, arXiv:1710.10903)
    hidden      half, once or twice `width`; narrower ones are the first features of the widest
    transform   shared: a node reads itself as it reads others; own: by a matrix of its own as well
    activation  relu, tanh or silu
    skip        whether the layer's input is added
    depth       1 to `depth` layers
    readout     of the nodes: sum, mean or max

A choice of a layer matters only where the network is as deep: 3 * (144 + 144^2 + ... + 144^depth) architectures,
9,020,592 with three layers, written `2 sum [sum/64/own/relu/residual ...]`.

Graphs are dense, (examples, nodes, features + nodes): `metanas.data.pack_graphs(features, adjacency)` makes them, and
`load_data(..., inputs="graphs")` reads them. Smaller graphs are filled up with nodes that are not there.
"""

from metanas.space import NEEDED, Choice, Edge, Graph, Node, Size, Space, one_of, op

AGGREGATES = ("sum", "mean", "max", "attention")
READOUTS = ("sum", "mean", "max")
ACTIVATIONS = ("relu", "tanh", "silu")
"""All give 0 for 0: a hidden feature that a mask switches off stays off, as if the layer were narrower."""

RECIPE = {"data.inputs": "graphs", "data.augment": (), "search.lr": 0.05, "evaluation.lr": 0.05}
"""Sums over many nodes are large, so the steps are small."""


def space(width: int = 32, depth: int = 3) -> Space:
    """The space. `width`: features of a node; `depth`: most layers.

    Raises ValueError where the width is not even and positive, or there is no layer.
    """
    if width < 2 or width % 2 or depth < 1:
        raise ValueError(f"width must be even and >= 2, depth >= 1, got {width} and {depth}")
    names = [f"layer{k}" for k in range(1, depth + 1)]
    nodes = [
        Node("features", (Edge("graph", op("node_features")),)),
        Node("mapped", (Edge("features", op("linear", width=width)),)),
    ]
    for k, name in enumerate(names, 1):
        nodes.append(Node(name, (Edge(nodes[-1].name, layer(k, width)),)))
    deep = Choice("depth", tuple(map(str, range(1, depth + 1))), ordered=True)
    readout = one_of("readout", {how: op(f"nodes_{how}", beside="graph") for how in READOUTS})
    nodes += [
        Node("trunk", tuple(map(Edge, names)), choice=deep),
        Node("read", (Edge("trunk", readout),)),
        Node("normed", (Edge("read", op("norm", norm="batch")),)),
        Node("head", (Edge("normed", op("linear", width=NEEDED)),)),
    ]
    ways = (
        f"{{aggregate{k}}}/{{hidden{k}}}/{{transform{k}}}/{{activation{k}}}/{{skip{k}}}" for k in range(1, depth + 1)
    )
    template = f"{{depth}} {{readout}} [{' '.join(ways)}]"
    settings = {"width": width, "depth": depth}
    return Space(Graph(("graph",), tuple(nodes), "head"), "graph_network", template=template, settings=settings)


def layer(k: int, width: int) -> Graph:
    """Messages, then a function of each node."""
    hidden = Size(f"hidden{k}", (width // 2, width, 2 * width))
    up = op("elastic_linear", width=hidden)
    aggregate = one_of(f"aggregate{k}", {how: op(f"graph_{how}", beside="graph") for how in AGGREGATES})
    active = one_of(f"activation{k}", {name: op("activation", activation=name) for name in ACTIVATIONS})
    skip = one_of(f"skip{k}", {"plain": op("none"), "residual": None})
    nodes = (
        Node("norm", (Edge("x", op("token_norm")),)),
        Node("up", (Edge("norm", up),)),
        Node("told", (Edge("up", aggregate),)),
        Node("own", (Edge("norm", up),)),
        Node("both", (Edge("told"), Edge("own"))),
        Node("sum", (Edge("told"), Edge("both")), choice=Choice(f"transform{k}", ("shared", "own"))),
        Node("active", (Edge("sum", active),)),
        Node("down", (Edge("active", op("elastic_linear", width=width)),)),
        Node("out", (Edge("down"), Edge("x", skip))),
    )
    return Graph(("x",), nodes, "out")
