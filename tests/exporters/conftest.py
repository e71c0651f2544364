"""Spaces that between them hold every operation, every way to combine, shared cells, and a recurrent cell."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from metanas.exporters import Source
from metanas.network import Network, derived
from metanas.space import NEEDED, Architecture, Choice, Content, Edge, Graph, Node, Scan, Space, one_of, op

CLASSES = ("cat", 'dog "big"', "it's", "鳥\u202e", '"""\nimport os')
SHAPES = {
    "everything": (3, 16, 16),
    "recurrent": (5, 4),
    "tokens": (3, 8, 8),
    "darts": (3, 16, 16),
    "nasbench201": (3, 8, 8),
}


def node(name: str, *edges: str | tuple[str, Content], **facts: object) -> Node:
    listed = tuple(Edge(e) if isinstance(e, str) else Edge(*e) for e in edges)
    return Node(name, listed, **facts)  # type: ignore[arg-type]


def everything() -> Space:
    """Every operation but `last`, and sums, means, concatenations and splits with zeros in them."""
    batch = {"norm": "batch"}
    return Space(
        Graph(
            ("image",),
            (
                node("stem", ("image", op("conv", width=8, kernel=3))),
                node("a", ("stem", op("conv", width=8, kernel=3, activation="silu", groups=2, **batch))),
                node("b", ("stem", op("conv", width=8, kernel=3, activation="silu", dilation=2, **batch))),
                node("m", "a", "b", ("stem", op("none")), combine="mean"),
                node(
                    "cat",
                    ("m", op("preact_conv", width=5, kernel=3, activation="tanh")),
                    ("b", op("narrow", width=3)),
                    ("a", op("none", width=2)),
                    combine="concat",
                ),
                node(
                    "forward",
                    ("cat", op("conv", width=NEEDED, activation="relu", **batch)),
                    ("a", op("separable", width=NEEDED, kernel=5, repeat=3, activation="gelu")),
                    combine="split",
                    width=9,
                ),
                node(
                    "down",
                    ("forward", op("residual", width=12, kernel=3, stride=2, activation="softplus", norm="batch_cell")),
                    ("forward", op("factorized_reduce", width=12, **batch)),
                    ("forward", op("skip", width=12, stride=2)),
                    ("forward", op("none", width=12, stride=2)),
                ),
                node("elastic", ("down", op("elastic_conv", width=6, kernel=3))),
                node("elastic2", ("elastic", op("elastic_conv", width=6, kernel=3, stride=2, dilation=2))),
                node("depthwise", ("elastic2", op("elastic_depthwise", kernel=3, activation="identity"))),
                node("squeezed", ("depthwise", op("squeeze_excite", squeezed=2))),
                node("act", ("squeezed", op("activation", activation="sigmoid"))),
                node("pool", ("act", op("max_pool", kernel=3, **batch)), ("act", op("avg_pool", kernel=3))),
                node("head", ("pool", op("classifier", width=7, activation="relu", **batch))),
                node("fc", ("head", op("linear", width=6, activation="tanh"))),
                node("class", ("fc", op("linear", width=NEEDED))),
            ),
            "class",
        ),
        "everything",
    )


def recurrent() -> Space:
    body = Graph(
        ("h", "x"),
        (
            node("gated", ("h", op("highway", width=6, activation="relu"))),
            node("hh", ("gated", op("linear", width=6))),
            node("xh", ("x", op("linear", width=6))),
            node("new", "hh", "xh", body=op("activation", activation="tanh")),
        ),
        "new",
    )
    return Space(
        Graph(
            ("sequence",),
            (
                node("rnn", ("sequence", Scan(body, 6))),
                node("last", ("rnn", op("last"))),
                node("out", ("last", op("linear", width=NEEDED))),
            ),
            "out",
        ),
        "recurrent",
    )


def tokens() -> Space:
    """Patches that read each other."""
    return Space(
        Graph(
            ("image",),
            (
                node("patches", ("image", op("patches", width=6, kernel=4))),
                node("norm", ("patches", op("token_norm"))),
                node("attention", ("norm", op("attention", width=8, head=4))),
                node("told", ("attention", op("elastic_linear", width=6)), "patches"),
                node("near", ("told", op("token_conv", kernel=3)), ("told", op("token_mix"))),
                node("placed", ("near", op("position"))),
                node("mean", ("placed", op("token_mean"))),
                node("out", ("mean", op("elastic_linear", width=NEEDED))),
            ),
            "out",
        ),
        "tokens",
    )


def darts_cell(width: int, reduction: bool, reduced_before: bool) -> Graph:
    kind = "reduce" if reduction else "normal"
    norm = {"norm": "batch_cell"}

    def edge(i: int, j: int) -> Content:
        stride = 2 if reduction and j < 2 else 1
        relu = {"activation": "relu", "stride": stride, "kernel": 3, **norm}
        contents = {
            "none": op("none", stride=stride),
            "max": op("max_pool", kernel=3, stride=stride, **norm),
            "avg": op("avg_pool", kernel=3, stride=stride, **norm),
            "skip": op("skip", stride=stride, **norm),
            "sep": op("separable", repeat=2, **relu),
            "dil": op("separable", dilation=2, **relu),
        }
        return one_of(f"{kind}.{i}<-{j}", contents)

    first = "factorized_reduce" if reduced_before else "preact_conv"
    nodes = [
        node("0", ("s0", op(first, width=width, activation="relu", **norm))),
        node("1", ("s1", op("preact_conv", width=width, activation="relu", **norm))),
    ]
    for i in range(2, 5):
        choice = Choice(f"{kind}.{i}.inputs", tuple(map(str, range(i))), take=2)
        nodes.append(node(str(i), *[(str(j), edge(i, j)) for j in range(i)], choice=choice))
    nodes.append(node("out", "2", "3", "4", combine="concat"))
    return Graph(("s0", "s1"), tuple(nodes), "out")


def darts() -> Space:
    """Cells with two inputs, concatenations, reductions: some cells are one class at two widths, some are not."""
    nodes = [node("stem", ("image", op("conv", width=8, kernel=3, norm="batch")))]
    before, last, width = "stem", "stem", 4
    reductions = (False, False, True, False, False)
    for k, reduction in enumerate(reductions):
        width *= 2 if reduction else 1
        cell = darts_cell(width, reduction, k > 0 and reductions[k - 1])
        nodes.append(node(f"cell{k}", before, last, combine="each", body=cell))
        before, last = last, f"cell{k}"
    nodes.append(node("head", (last, op("classifier", width=NEEDED))))
    return Space(Graph(("image",), tuple(nodes), "head"), "darts")


def nasbench201() -> Space:
    path = Path(__file__).parents[2] / "search_spaces" / "nasbench201.py"
    spec = importlib.util.spec_from_file_location("nasbench201", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    space: Space = module.space(channels=4, cells=2)
    return space


Made = tuple[Network, Source]


@pytest.fixture(scope="session")
def make() -> Callable[..., Made]:
    """make(space, key or seed, phase): a network whose norms have seen data, and its source."""
    spaces = {f.__name__: f() for f in (everything, recurrent, tokens, darts, nasbench201)}

    def made(name: str = "nasbench201", which: str | int = 0, phase: str = "scratch") -> Made:
        space = spaces[name]
        architecture: Architecture
        architecture = space.sample(np.random.default_rng(which)) if isinstance(which, int) else space.parse(which)
        network = derived(space, architecture, SHAPES[name], len(CLASSES), phase=phase)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for _ in range(3):
                network.train()(torch.randn(8, *SHAPES[name], generator=generator))
        images = len(SHAPES[name]) == 3
        numbers = {"mean": (120.5, 110.0, 100.25), "std": (60.0, 61.0, 62.0)} if images else {}
        return network.eval(), Source(architecture, space.name, CLASSES, **numbers, structure=space)

    return made
