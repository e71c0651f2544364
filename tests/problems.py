"""Search spaces with known answers, one of every kind that the vocabulary has to carry.

Each is written with the published definition at hand; sizes are closed forms or counted by hand.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metanas.data import pack_graphs
from metanas.network import choose, derived, own_derived, own_supernet, space_of, supernet
from metanas.space import (
    NEEDED,
    Choice,
    Content,
    Edge,
    Graph,
    Limit,
    Node,
    Scan,
    Size,
    Space,
    chain,
    one_of,
    op,
)

SEARCH_SPACES = Path(__file__).parent.parent / "search_spaces"


def shipped(name: str) -> ModuleType:
    """The module of a shipped space, loaded by path."""
    spec = importlib.util.spec_from_file_location(f"search_spaces_{name}", SEARCH_SPACES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def nasbench201(channels: int = 4, cells: int = 1) -> Space:
    return shipped("nasbench201").space(channels, cells)


# DARTS (Liu, Simonyan, Yang, ICLR 2019, arXiv:1806.09055)

DARTS_OPS = shipped("darts").OPERATIONS


def darts(channels: int = 4, layers: int = 3, operations: str = "all") -> Space:
    return shipped("darts").space(channels, layers, operations)


def darts_size(options: int = 7) -> int:
    """Per cell: 2 of n inputs at each node, one of 7 operations on each of the 8 edges taken."""
    return (math.prod(math.comb(n, 2) for n in range(2, 6)) * options**8) ** 2


# Multilayer perceptrons for tables


def mlp(width: int = 8, blocks: int = 2) -> Space:
    return shipped("mlp").space(width, blocks)


def mlp_size(blocks: int) -> int:
    """Per block two norms, three hidden widths, four activations, with or without its input; as many as are deep."""
    return sum((2 * 3 * 4 * 2) ** depth for depth in range(1, blocks + 1))


# NAS-Bench-101 (Ying et al., ICML 2019, arXiv:1902.09635)


def nasbench101(channels: int = 8, vertices: int = 5, stacks: int = 2, cells: int = 1, edges: int = 9) -> Space:
    return shipped("nasbench101").space(channels, cells, stacks, vertices, edges)


def nasbench101_size(vertices: int, most: int) -> int:
    """Three operations per inner vertex; of the v (v - 1) / 2 edges at most `most`."""
    edges = vertices * (vertices - 1) // 2
    return 3 ** (vertices - 2) * sum(math.comb(edges, k) for k in range(min(edges, most) + 1))


def nasbench_macro(channels: int = 2, head: int = 6) -> Space:
    return shipped("nasbench_macro").space(channels, head)


def mobile(channels: int = 4, stages: int = 1, depth: int = 3) -> Space:
    return shipped("mobile").space(channels, stages, depth, head=6)


def mobile_size(stages: int, depth: int) -> int:
    """Three widths a stage; three kernels, three expansions, with or without squeeze-excite for each of its blocks."""
    return (3 * sum((3 * 3 * 2) ** blocks for blocks in range(2, depth + 1))) ** stages


def vit(width: int = 8, depth: int = 2) -> Space:
    return shipped("vit").space(width, depth, heads=2, head=3, patch=4)


def vit_size(depth: int, heads: int) -> int:
    """Three widths; as many heads and three hidden widths for each of the blocks that there are."""
    return 3 * sum((heads * 3) ** blocks for blocks in range(1, depth + 1))


def mixers(width: int = 4, depth: int = 2, vocabulary: int = 0) -> Space:
    return shipped("mixers").space(width, depth, 2, vocabulary)


def graph_network(width: int = 4, depth: int = 2) -> Space:
    return shipped("graph_network").space(width, depth)


def graph_network_size(depth: int) -> int:
    """Three readouts; of each layer four aggregates, three widths, two transforms, three activations, skip or not."""
    return 3 * sum((4 * 3 * 2 * 3 * 2) ** layers for layers in range(1, depth + 1))


def graph_families(examples: int, nodes: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rings, random trees and stars of 5 to `nodes` nodes, all with one feature that is 1, and which of them each is:
    (examples, nodes, 1 + nodes) and (examples,).
    """
    rng = np.random.default_rng(seed)
    features, edges = np.zeros((examples, nodes, 1)), np.zeros((examples, nodes, nodes), dtype=bool)
    for k in range(examples):
        order = rng.permutation(count := int(rng.integers(5, nodes + 1)))
        ring = [(i, (i + 1) % count) for i in range(count)]
        tree = [(i, int(rng.integers(0, i))) for i in range(1, count)]
        star = [(0, i) for i in range(1, count)]
        for i, j in (ring, tree, star)[k % 3]:
            edges[k, order[i], order[j]] = edges[k, order[j], order[i]] = True
        features[k, :count] = 1
    return pack_graphs(features, edges), np.arange(examples) % 3


def motifs(channels: int = 2, motifs: int = 2, nodes: int = 3, motif_nodes: int = 3) -> Space:
    return shipped("hierarchical").space(channels, 1, motifs, nodes, motif_nodes)


def motifs_size(motifs: int, nodes: int, motif_nodes: int) -> int:
    """Seven operations on every edge of the motifs that some edge of the cell takes."""
    one = 7 ** math.comb(motif_nodes, 2)
    cells = itertools.product(range(motifs + 1), repeat=math.comb(nodes, 2))
    return sum(one ** len(set(edges) - {0}) for edges in cells)


def sequence(width: int = 4, nodes: int = 3) -> Space:
    return shipped("sequence").space(width, nodes)


# Sizes, cells of cells, sequences


def elastic() -> Space:
    """Three shared widths and three depths (Cai et al., ICLR 2020, arXiv:1908.09791)."""
    width = Size("width", (4, 6, 8))
    nodes = [Node("stem", (Edge("image", op("elastic_conv", width=width, kernel=3)),))]
    previous = "stem"
    for k in range(3):
        block = Edge(previous, op("elastic_conv", width=width, kernel=3))
        nodes.append(Node(f"block{k}", (Edge(previous), block)))
        previous = f"block{k}"
    depth = Choice("depth", ("1", "2", "3"), ordered=True)
    nodes.append(Node("stage", tuple(Edge(f"block{k}") for k in range(3)), choice=depth))
    nodes.append(Node("last", (Edge("stage", op("elastic_conv", width=5)),)))
    return Space(Graph(("image",), tuple(nodes), "last"), "elastic", template="w{width} d{depth}")


def motif(name: str, width: int, inputs: tuple[str, ...] = ("a",)) -> Graph:
    def pick(edge: str) -> Content:
        conv = {k: op("preact_conv", width=width, kernel=k, activation="relu", norm="batch_cell") for k in (1, 3)}
        return one_of(f"{name}.{edge}", {"c1": conv[1], "c3": conv[3], "none": op("none", width=width)})

    middle = Node("b", (Edge(inputs[0], pick("ab")),))
    return Graph(inputs, (middle, Node("c", (Edge(inputs[-1], pick("ac")), Edge("b", pick("bc"))))), "c")


def hierarchical(width: int = 4) -> Space:
    """A candidate is a graph (Liu et al., ICLR 2018, arXiv:1711.00436); the last node has graphs of two inputs."""

    def pick(edge: str) -> Content:
        return one_of(edge, {"m0": motif("m0", width), "m1": motif("m1", width), "skip": op("skip")})

    both = one_of("zy", {"m2": motif("m2", width, ("a", "b0")), "first": op("skip")})
    nodes = (
        Node("y", (Edge("x", pick("xy")),)),
        Node("z", (Edge("x", pick("xz")), Edge("y", pick("yz")))),
        Node("w", (Edge("z"), Edge("y")), combine="each", body=both),
    )
    return Space(Graph(("x",), nodes, "w"), "hierarchical")


def hierarchical_size() -> int:
    """Of 27 settings of xy, xz and yz, m0 (27 ways) and m1 (27 ways) matter where somebody takes them."""
    shared = sum(27 ** (("m0" in t) + ("m1" in t)) for t in ((a, b, c) for a in MOTIFS for b in MOTIFS for c in MOTIFS))
    return shared * (27 + 1)


MOTIFS = ("m0", "m1", "skip")


def recurrent(width: int = 4) -> Space:
    """A small recurrent cell (Pham et al., ICML 2018, arXiv:1802.03268): where a node reads, and its activation."""

    def squash(name: str) -> Content:
        return one_of(name, {k: op("activation", activation=k) for k in ("tanh", "sigmoid", "identity")})

    linear = op("linear", width=width)
    nodes = (
        Node("first", (Edge("value", linear), Edge("state", linear)), body=squash("first.act")),
        Node(
            "second",
            (Edge("first", linear), Edge("state", linear)),
            choice=Choice("second.from", ("first", "state")),
            body=squash("second.act"),
        ),
        Node("next", (Edge("first"), Edge("second")), combine="mean"),
    )
    cell = Scan(Graph(("state", "value"), nodes, "next"), width)
    steps = (("cell", cell), ("last", op("last")), ("head", op("linear", width=NEEDED)))
    return Space(chain(*steps, inputs=("sequence",)), "recurrent", template="{first.act} {second.from} {second.act}")


def one_edge() -> Space:
    """As small as a space can be."""
    return Space(chain(("y", one_of("y", {"conv": op("conv", kernel=3), "none": op("none")}))), "one edge")


def subsets() -> Space:
    """Edges on and off, and a template that writes several labels."""
    pick = Choice("in", ("a", "b", "c"), take=None)
    pair = Choice("pair", ("a", "b", "c"), take=2)
    conv = op("conv", width=4, kernel=3, norm="batch")
    nodes = (
        *(Node(name, (Edge("image", conv),)) for name in "abc"),
        Node("y", tuple(Edge(name) for name in "abc"), choice=pick),
        Node("z", tuple(Edge(name, op("avg_pool", kernel=3)) for name in "abc"), choice=pair, combine="mean"),
        Node("head", (Edge("y"), Edge("z")), combine="concat", body=op("classifier", width=NEEDED)),
    )
    graph = Graph(("image",), nodes, "head")
    return Space(graph, "subsets", limits=(Limit(("in", "pair"), at_least=3, at_most=4),), template="[{in}] {pair}")


def nested() -> Space:
    """A graph with three choices beside a skip: 27 architectures under one candidate, 1 under the other."""
    return Space(chain(("y", one_of("y", {"graph": motif("m", 3, ("a",)), "skip": op("skip")}))), "nested")


# A module of the user's own


class Block(nn.Module):
    """A kernel of its own, an activation that all blocks share."""

    def __init__(self, width: int, k: int) -> None:
        super().__init__()
        depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        kernels = {"1x1": nn.Conv2d(width, width, 1), "3x3": nn.Conv2d(width, width, 3, padding=1)}
        self.conv = choose(f"kernel{k}", {**kernels, "depthwise": depthwise})
        self.norm = nn.BatchNorm2d(width)
        self.act = choose("act", {"relu": nn.ReLU(), "sigmoid": nn.Sigmoid()})

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.norm(self.conv(x)))


class Marked(nn.Module):
    """Every kind of mark once: a width, a depth, a choice inside an optional module, one of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        width = choose.size("width", (3, 5))
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.act = choose("act", {"relu": nn.ReLU(), "sigmoid": nn.Sigmoid()})
        self.blocks = choose.repeat("depth", (1, 2), lambda k: Block(width, k))
        pool = choose("pool", {"avg": nn.AvgPool2d(3, 1, 1), "max": nn.MaxPool2d(3, 1, 1)})
        self.extra = choose.optional("extra", nn.Sequential(pool, nn.BatchNorm2d(width)))
        self.skip = choose.inputs("skip", ("early", "late"))
        self.head = nn.Linear(16 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        early = self.act(self.stem(x))
        late = self.extra(self.blocks(early))
        x = nn.functional.avg_pool2d(self.skip([early, late]), 2)
        return self.head(x.flatten(1))


def marked(seed: int = 0) -> Marked:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Marked()


def marked_size() -> int:
    """Two widths, activations and inputs; of two blocks the second matters where it is; a pool where it is on."""
    return 2 * 2 * 2 * (3 + 3 * 3) * (2 + 1)


@dataclass(frozen=True)
class Known:
    """A space, how many architectures it has, and what its networks take and give."""

    name: str
    build: Callable[[], Space]
    size: int
    shape: tuple[int, ...] = (3, 8, 8)
    outputs: int | None = 10
    module: Callable[[], nn.Module] | None = None

    def derived(self, space: Space, architecture: Any, **arguments: Any) -> nn.Module:
        """A network of the space."""
        if self.module is not None:
            arguments.pop("seed", None)
            return own_derived(space, self.module(), architecture, self.shape, **arguments)
        return derived(space, architecture, self.shape, self.outputs, **arguments)

    def supernet(self, space: Space) -> nn.Module:
        """The supernet of the space."""
        if self.module is not None:
            return own_supernet(space, self.module(), self.shape)
        return supernet(space, self.shape, self.outputs)

    def __str__(self) -> str:
        return self.name


KNOWN = (
    Known("one edge", one_edge, 2, outputs=3),
    Known("subsets", subsets, 3 * (math.comb(3, 1) + math.comb(3, 2)), outputs=10),
    Known("nested", nested, 3**3 + 1, outputs=3),
    Known("nasbench201", nasbench201, 5**6),
    Known("darts", darts, darts_size(), (3, 16, 16)),
    Known("darts S4", lambda: darts(2, 3, "S4"), darts_size(2), (3, 8, 8)),
    Known("mlp", mlp, mlp_size(2), (5,), 3),
    Known("nasbench101, 4 vertices", lambda: nasbench101(vertices=4, edges=4), nasbench101_size(4, 4)),
    Known("nasbench101, 5 vertices", nasbench101, nasbench101_size(5, 9)),
    Known("nasbench_macro", nasbench_macro, 3**8),
    Known("mobile", mobile, mobile_size(1, 3)),
    Known("vit", vit, vit_size(2, 2)),
    Known("motifs", motifs, motifs_size(2, 3, 3)),
    Known("mixers", mixers, 15 + 15**2, (5, 3)),
    Known("graph_network", graph_network, graph_network_size(2), (5, 8), 3),
    Known("mixers of tokens", lambda: mixers(vocabulary=7), 15 + 15**2, (5,)),
    Known("sequence", sequence, math.factorial(3) * 4**3, (5, 3)),
    Known("elastic", elastic, 9, outputs=5),
    Known("hierarchical", hierarchical, hierarchical_size(), (4, 8, 8), outputs=4),
    Known("recurrent", recurrent, 3 * 2 * 3, (5, 3)),
    Known("own module", lambda: space_of(marked()), marked_size(), module=marked),
)
"""Every space that must pass the conformance suite: one line each."""
