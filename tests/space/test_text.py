"""Spaces as text, and spaces from networkx graphs."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch

from metanas.network import derived
from metanas.space import Edge, Graph, Node, Space, draw_architecture, draw_space, from_networkx, one_of, op

NASBENCH201 = """\
nasbench201: 15,625 architectures, 6 choices

choices
  1<-0   1 of 5   none skip_connect nor_conv_1x1 nor_conv_3x3 avg_pool_3x3
  2<-0   1 of 5   none skip_connect nor_conv_1x1 nor_conv_3x3 avg_pool_3x3
  2<-1   1 of 5   none skip_connect nor_conv_1x1 nor_conv_3x3 avg_pool_3x3
  3<-0   1 of 5   none skip_connect nor_conv_1x1 nor_conv_3x3 avg_pool_3x3
  3<-1   1 of 5   none skip_connect nor_conv_1x1 nor_conv_3x3 avg_pool_3x3
  3<-2   1 of 5   none skip_connect nor_conv_1x1 nor_conv_3x3 avg_pool_3x3

graph
  stem = image --[conv(width=4, kernel=3)]
  stage0_cell0 = stem --[cell]
      1 = 0 --[1<-0: none | skip_connect | nor_conv_1x1 | nor_conv_3x3 | avg_pool_3x3]
      2 = 0 --[2<-0: none | skip_connect | nor_conv_1x1 | nor_conv_3x3 | avg_pool_3x3] \
+ 1 --[2<-1: none | skip_connect | nor_conv_1x1 | nor_conv_3x3 | avg_pool_3x3]
      3 = 0 --[3<-0: none | skip_connect | nor_conv_1x1 | nor_conv_3x3 | avg_pool_3x3] \
+ 1 --[3<-1: none | skip_connect | nor_conv_1x1 | nor_conv_3x3 | avg_pool_3x3] \
+ 2 --[3<-2: none | skip_connect | nor_conv_1x1 | nor_conv_3x3 | avg_pool_3x3]
  reduce1 = stage0_cell0 --[residual(width=8, kernel=3, stride=2)]
  stage1_cell0 = reduce1 --[cell]
      the same cell as in stage0_cell0
  reduce2 = stage1_cell0 --[residual(width=16, kernel=3, stride=2)]
  stage2_cell0 = reduce2 --[cell]
      the same cell as in stage0_cell0
  head = stage2_cell0 --[classifier]"""

RECURRENT = """\
recurrent: 18 architectures, 3 choices

choices
  first.act     1 of 3   tanh sigmoid identity
  second.from   1 of 2   first state
  second.act    1 of 3   tanh sigmoid identity

graph
  cell = sequence --[scan]
      first = value --[linear(width=4)] + state --[linear(width=4)] --[first.act: tanh | sigmoid | identity]
      second = first --[linear(width=4)] + state --[linear(width=4)] --[second.act: tanh | sigmoid | identity]\
  (1 of 2: second.from)
      next = mean of first + second
  last = cell --[last]
  head = last --[linear]"""

SUBSETS_CHOICES = """\
  in     any of 3 a b c
  pair   2 of 3   a b c
  limit: 3 to 4 of in, pair"""


@pytest.mark.parametrize(("name", "text"), [("nasbench201", NASBENCH201), ("recurrent", RECURRENT)])
def test_a_space_as_text(problems, name, text):
    assert draw_space(getattr(problems, name)()) == text


def test_what_is_never_derived_stands_in_brackets(problems):
    text = draw_space(problems.darts(layers=6))
    assert f"{problems.darts_size():.3e} architectures" in text
    assert "  normal.2<-0   1 of 8   (none) max_pool_3x3" in text


def test_a_cell_is_drawn_once(problems):
    """At any width; a cell that follows a reduction is another one."""
    same = [line.strip() for line in draw_space(problems.darts(layers=6)).splitlines() if "the same cell" in line]
    assert same == [f"the same cell as in cell{k}" for k in (0, 2, 3)]


def test_subsets_and_limits(problems):
    assert SUBSETS_CHOICES in draw_space(problems.subsets())


def test_all_drawings_are_plain_text(known):
    assert draw_space(known.build()).isascii()


def test_an_architecture_as_text(problems):
    space = problems.subsets()
    architecture = space.parse("[b] a+c")
    assert draw_architecture(space, architecture) == "in    b\npair  a + c"
    assert (str(architecture), architecture["in"], architecture["pair"]) == ("[b] a+c", ("b",), ("a", "c"))


# From networkx


def test_candidates_on_edges():
    graph = nx.DiGraph()
    ops = {"conv": op("conv", width=4, kernel=3), "wide": op("conv", width=4, kernel=5)}
    graph.add_edge("x", "a", candidates=ops)
    graph.add_edge("x", "b", candidates=ops, choice="a<-x")
    graph.add_edge("a", "y", op="skip")
    graph.add_edge("b", "y")
    graph.nodes["y"]["combine"] = "concat"
    space = from_networkx(graph, "net")
    edges = {name: Edge("x", one_of("a<-x", ops)) for name in "ab"}
    nodes = (
        Node("a", (edges["a"],)),
        Node("b", (edges["b"],)),
        Node("y", (Edge("a", op("skip")), Edge("b")), combine="concat"),
    )
    assert space == Space(Graph(("x",), nodes, "y"), "net")
    assert space.size == 2  # one shared choice


def test_candidates_on_nodes():
    graph = nx.DiGraph([("x", "a"), ("x", "b"), ("a", "b")])
    graph.nodes["a"].update(candidates=[op("conv", kernel=3), op("conv", kernel=5), "skip"], never=["skip"])
    graph.nodes["b"].update(op=op("conv", kernel=3), combine="mean")
    space = from_networkx(graph)
    assert space.choices[0].candidates == ("conv(kernel=3)", "conv(kernel=5)", "skip")
    assert (space.size, space.choices[0].name) == (2, "a")
    network = derived(space, {"a": ("conv(kernel=5)",)}, (3, 8, 8), 3)
    assert network(torch.ones(2, 3, 8, 8)).shape == (2, 3, 8, 8)


@pytest.mark.parametrize("seed", range(10))
def test_random_graphs(seed):
    """Every acyclic graph with one end is a space, and its networks run."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 9))
    graph = nx.DiGraph()
    for target in range(1, n):
        for source in sorted({target - 1, *map(int, rng.integers(target, size=2))}):
            ops = {"conv": op("conv", width=3, kernel=3, norm="batch"), "skip": op("skip"), "none": op("none")}
            graph.add_edge(source, target, candidates=ops)
    space = from_networkx(graph)
    assert space.size == 3 ** graph.number_of_edges()
    assert space.graph.inputs == ("0",) and space.graph.output == str(n - 1)
    y = derived(space, space.sample(rng), (3, 4, 4), 3)(torch.ones(2, 3, 4, 4))
    assert torch.isfinite(y).all()


def test_a_split_and_numbers_as_names():
    graph = nx.DiGraph([(0, 1), (0, 2), (1, 3), (2, 3)])
    graph.nodes[3].update(combine="split", width=5)
    for v in (1, 2):
        graph.nodes[v]["op"] = op("conv", width=3 if v == 1 else 2)
    assert derived(from_networkx(graph), {}, (3, 4, 4), 5)(torch.ones(1, 3, 4, 4)).shape == (1, 5, 4, 4)
