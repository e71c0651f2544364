"""Bad spaces and bad architectures: one line that says what came, what is allowed, and where."""

from __future__ import annotations

import json

import networkx as nx
import numpy as np
import pytest
import torch

from metanas.errors import ShapeError, SpaceError
from metanas.network import OPS, Network, derived, supernet
from metanas.space import (
    NEEDED,
    Architecture,
    Choice,
    Edge,
    Graph,
    Limit,
    Node,
    Scan,
    Size,
    Space,
    chain,
    compile_graph,
    from_networkx,
    one_of,
    op,
    space_from_json,
    space_to_json,
)

CONV = op("conv", width=4, kernel=3)


def node(name, *sources, **more):
    return Node(name, tuple(Edge(s, CONV) for s in sources), **more)


def refusal(make, kind=SpaceError):
    with pytest.raises(kind) as caught:
        make()
    message = str(caught.value)
    assert "\n" not in message and message
    return message


GRAPHS = {
    "cycle": (lambda: Graph(("x",), (node("a", "x", "b"), node("b", "a")), "b"), ["cycle", "a<-b", "b<-a"]),
    "own source": (lambda: Graph(("x",), (node("a", "a"),), "a"), ["cycle", "a<-a"]),
    "disconnected": (lambda: Graph(("x",), (node("a", "x"), node("b", "x")), "a"), ["b", "output 'a'"]),
    "empty": (lambda: Graph(("x",), (), "x"), ["empty", "at least one node"]),
    "twice": (lambda: Graph(("x",), (node("a", "x"), node("a", "x")), "a"), ["used twice", "a"]),
    "as the input": (lambda: Graph(("x",), (node("x", "x"),), "x"), ["used twice", "x"]),
    "unknown source": (
        lambda: Graph(("image",), (node("a", "imgae"),), "a"),
        ["edge a<-imgae", 'did you mean "image"?'],
    ),
    "unknown output": (lambda: Graph(("x",), (node("stem", "x"),), "steam"), ['did you mean "stem"?']),
}


@pytest.mark.parametrize(("make", "words"), GRAPHS.values(), ids=GRAPHS)
def test_graphs_from_python(make, words):
    message = refusal(make)
    assert all(word in message for word in words), message


SPOILED = {
    "cycle": (lambda g: g["nodes"][0]["edges"].append({"is": "Edge", "source": "b"}), ["cycle", "a<-b"]),
    "disconnected": (lambda g: g.update(output="a"), ["b", "output 'a'"]),
    "empty": (lambda g: g.update(nodes=[]), ["empty"]),
    "twice": (lambda g: g["nodes"][1].update(name="a"), ["used twice", "a"]),
    "class": (lambda g: g["nodes"][0].update({"is": "Nod"}), ["'Nod'", 'did you mean "Node"?']),
    "field": (lambda g: g["nodes"][0].update(edgs=[]), ["Node", "edgs", 'did you mean "edges"?']),
    "missing": (lambda g: g.pop("output"), ["Graph", "output"]),
    "type": (lambda g: g["nodes"][0].update(edges=["x"]), ["cannot be read"]),
    "no nodes": (lambda g: g.update(nodes=5), ["cannot be read"]),
}


@pytest.mark.parametrize(("spoil", "words"), SPOILED.values(), ids=SPOILED)
def test_graphs_from_json(spoil, words):
    data = json.loads(json.dumps(space_to_json(Space(Graph(("x",), (node("a", "x"), node("b", "a")), "b")))))
    assert space_from_json(data).size == 1
    spoil(data["graph"])
    message = refusal(lambda: space_from_json(data))
    assert all(word in message for word in words), message


def test_json_of_another_version():
    data = space_to_json(Space(chain(("y", CONV))))
    assert "schema 2" in refusal(lambda: space_from_json(data | {"schema": 2}))
    assert "graph" in refusal(lambda: space_from_json([1]))


def networkx_graph(*edges, kind=nx.DiGraph):
    graph = kind()
    graph.add_edges_from(edges)
    return graph


NETWORKX = {
    "cycle": (networkx_graph(("x", "a"), ("a", "b"), ("b", "a")), ["cycle", "a<-b"]),
    "cycle with an end": (networkx_graph(("x", "a"), ("a", "b"), ("b", "a"), ("b", "y")), ["cycle", "a<-b"]),
    "empty": (nx.DiGraph(), ["empty"]),
    "undirected": (networkx_graph(("x", "y"), kind=nx.Graph), ["DiGraph", "got Graph"]),
    "parallel": (networkx_graph(("x", "y"), kind=nx.MultiDiGraph), ["got MultiDiGraph"]),
    "two ends": (networkx_graph(("x", "a"), ("x", "b")), ["one output", "a, b"]),
    "twice": (networkx_graph((1, "y"), ("1", "y")), ["same name"]),
}


@pytest.mark.parametrize(("graph", "words"), NETWORKX.values(), ids=NETWORKX)
def test_graphs_from_networkx(graph, words):
    message = refusal(lambda: from_networkx(graph))
    assert all(word in message for word in words), message


def test_a_node_alone_in_networkx():
    graph = networkx_graph(("x", "y"))
    graph.add_node("lonely")
    assert "disconnected nodes: lonely" in refusal(lambda: from_networkx(graph))
    graph.remove_node("lonely")
    graph.nodes["y"].update(op="conv", candidates=["conv"])
    assert "y: has both" in refusal(lambda: from_networkx(graph))


PICK = one_of("pick", {"conv": CONV, "pool": op("avg_pool", kernel=3)})
WORDS = {
    "no candidates": (lambda: Choice("c", ()), ["'c' has no candidates"]),
    "twice": (lambda: Choice("c", ("a", "a")), ["twice", "a"]),
    "never": (lambda: Choice("c", ("none", "skip"), never=("nome",)), ['did you mean "none"?']),
    "takes too many": (lambda: Choice("c", ("a", "b", "z"), take=3, never=("z",)), ["takes 3 of 2", "1 to 2"]),
    "shrinking size": (lambda: Size("w", (4, 2)), ["'w'", "grow", "(4, 2)"]),
    "size of nothing": (lambda: Size("w", (0, 2)), ["positive"]),
    "kernel": (lambda: op("conv", kernel=0), ["kernel must be >= 1, got 0"]),
    "combine": (lambda: Node("y", (Edge("x"),), combine="summ"), ["'summ'", 'did you mean "sum"?']),
    "no edges": (lambda: Node("y", ()), ["'y' has no edges"]),
    "edges and candidates": (lambda: Node("y", (Edge("x"),), choice=Choice("c", ("a", "b"))), ["1 edges", "2 cand"]),
    "width without split": (lambda: Node("y", (Edge("x"),), width=3), ["split"]),
    "dot": (lambda: Node("a.b", (Edge("x"),)), ["'a.b'", "no '.'"]),
    "slash": (lambda: one_of("c", {"3/5": CONV}), ["'3/5'", "no '/'"]),
    "scan": (lambda: Scan(Graph(("x",), (node("y", "x"),), "y"), 4), ["(state, value)"]),
    "limit": (lambda: Space(chain(("y", PICK)), limits=(Limit(("pik",)),)), ['did you mean "pick"?']),
    "template": (lambda: Space(chain(("y", PICK)), template="{pik}"), ['did you mean "pick"?']),
    "two meanings": (
        lambda: compile_graph(chain(("y", PICK), ("z", one_of("pick", {"conv": CONV})))),
        ["'pick' means two things", "conv, pool"],
    ),
    "two values of one name": (
        lambda: compile_graph(
            Graph(("x",), (node("y", "x", "x", body=Graph(("v",), (node("in", "v"), node("o", "in")), "o")),), "y")
        ),
        ["y.in", "rename"],
    ),
    "each without a graph": (
        lambda: compile_graph(Graph(("x",), (node("y", "x", "x", combine="each", body=CONV),), "y")),
        ["'y'", "each", "graph"],
    ),
    "inputs": (
        lambda: compile_graph(chain(("y", Graph(("a", "b"), (node("c", "a", "b"),), "c")))),
        ["y: 1 values for the inputs a, b"],
    ),
}


@pytest.mark.parametrize(("make", "words"), WORDS.values(), ids=WORDS)
def test_words_that_do_not_fit(make, words):
    message = refusal(make)
    assert all(word in message for word in words), message


ARCHITECTURES = {
    "unknown choice": ({"1<-9": "none"}, ["no choice '1<-9'", 'did you mean "1<-0"?']),
    "unknown label": ({"1<-0": "nor_conv_33"}, ["'1<-0'", 'did you mean "nor_conv_3x3"?']),
    "two labels": ({"1<-0": ["none", "skip_connect"]}, ["takes 1"]),
    "missing": ({"1<-0": "none"}, ["'2<-0' is missing"]),
    "number": ({"1<-0": 3}, ["'1<-0'", "label", "3"]),
    "no object": (["none"], ["expected an object", "list"]),
}


@pytest.mark.parametrize(("taken", "words"), ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_architectures(problems, taken, words):
    message = refusal(lambda: problems.nasbench201().architecture(taken))
    assert all(word in message for word in words), message


def test_strings(problems):
    space = problems.nasbench201()
    assert "not of the form" in refusal(lambda: space.parse("|none~0|"))
    wrong = "|none~0|+|none~0|skip~1|+|none~0|none~1|none~2|"
    assert "'2<-1'" in refusal(lambda: space.parse(wrong))
    assert "not JSON" in refusal(lambda: space.parse("{"))


def test_what_is_never_derived_is_refused(problems):
    space = problems.darts()
    taken = dict(next(space.neighbours(space.sample(np.random.default_rng(0)))))
    edge = next(name for name in taken if "<-" in name)
    assert "'none' is never derived" in refusal(lambda: space.architecture(taken | {edge: "none"}))


def test_limits_are_said(problems):
    space = problems.nasbench101(vertices=4, edges=3)
    everything = {"in1": ["input"], "in2": ["input", "1"], "out": ["1", "2"], "direct": [], "op1": "conv1x1"}
    message = refusal(lambda: space.architecture(everything | {"op2": "conv1x1"}))
    assert "takes 5" in message and "allowed: 0 to 3" in message


def test_a_limit_of_a_misspelt_candidate_does_not_pass_for_one_that_holds(problems):
    space = problems.nasbench201()
    names = tuple(c.name for c in space.choices)
    message = refusal(lambda: Space(space.graph, limits=(Limit(names, labels=("skip_conect",), at_most=2),)))
    assert "limit of 'skip_conect'" in message and 'did you mean "skip_connect"?' in message
    assert Space(space.graph, limits=(Limit(names, labels=("skip_connect",), at_most=2),)).size < space.size


def test_the_shipped_space_has_at_least_one_cell(problems):
    with pytest.raises(ValueError, match="cells must be >= 1, got 0"):
        problems.nasbench201(cells=0)


def test_an_architecture_is_frozen():
    with pytest.raises(AttributeError, match="frozen"):
        Architecture({"a": "b"}).key = "c"


def test_a_limit_that_nothing_keeps(monkeypatch):
    monkeypatch.setattr("metanas.space.counting.MOST_TRIES", 10)
    space = Space(chain(("y", PICK)), limits=(Limit(("pick",), at_least=2),))
    assert space.size == 0
    assert "within the limits" in refusal(lambda: space.sample(np.random.default_rng(0)))


def test_a_space_of_one_has_no_neighbour():
    space = Space(chain(("y", one_of("pick", {"conv": CONV}))))
    only = space.sample(np.random.default_rng(0))
    assert list(space.neighbours(only)) == []
    assert "no neighbour" in refusal(lambda: space.mutate(only, np.random.default_rng(0)))


# Networks: found before training, the place named


def test_an_unknown_operation():
    space = Space(chain(("stem", CONV), ("y", one_of("pick", {"a": op("seperable", kernel=3), "b": CONV}))))
    for ops in (OPS, {**OPS, "mine": OPS["conv"]}):
        message = refusal(lambda ops=ops: supernet(space, (3, 8, 8), 10, ops=ops))
        assert 'did you mean "separable"?' in message and "y.a" in message


SHAPES = {
    "sum of sizes": (
        Graph(
            ("x",), (node("y", "x"), Node("z", (Edge("x", CONV), Edge("y", op("avg_pool", kernel=3, stride=2))))), "z"
        ),
        (3, 8, 8),
        ["z.from_x", "(4, 8, 8)", "z.from_y", "(4, 4, 4)", "sum"],
    ),
    "concat of sizes": (
        Graph(("x",), (Node("z", (Edge("x"), Edge("x", op("avg_pool", kernel=3, stride=2))), combine="concat"),), "z"),
        (3, 8, 8),
        ["z: concat", "(3, 4, 4)"],
    ),
    "too small": (
        chain(("y", op("max_pool", kernel=2, stride=2)), inputs=("x",)),
        (3, 1, 1),
        ["y: max_pool", "(3, 1, 1)"],
    ),
    "groups": (chain(("y", op("conv", width=4, groups=3)), inputs=("x",)), (3, 8, 8), ["y: conv", "(3, 8, 8)"]),
    "rank": (chain(("y", Scan(Graph(("s", "v"), (node("n", "s", "v"),), "n"), 4)), inputs=("x",)), (8,), ["y: scan"]),
    "mixture": (
        chain(("y", one_of("c", {"wide": op("conv", width=8), "narrow": op("conv", width=4)})), inputs=("x",)),
        (3, 8, 8),
        ["y: sum", "y.wide (8, 8, 8)", "y.narrow (4, 8, 8)"],
    ),
}


@pytest.mark.parametrize(("graph", "shape", "words"), SHAPES.values(), ids=SHAPES)
def test_shapes_that_do_not_fit(graph, shape, words):
    message = refusal(lambda: supernet(Space(graph), shape, 10), ShapeError)
    assert all(word in message for word in words), message


def test_words_of_operations():
    for wrong, right in ((op("conv", norm="bach"), "batch"), (op("conv", activation="rleu"), "relu")):
        message = refusal(lambda wrong=wrong: supernet(Space(chain(("y", wrong))), (3, 8, 8), 10))
        assert f'did you mean "{right}"?' in message and message.startswith("y: ")
    grouped = op("elastic_conv", width=Size("w", (2, 4)), groups=2)
    assert "groups must be 1" in refusal(lambda: supernet(Space(chain(("y", grouped))), (4, 8, 8), 10))


@pytest.mark.parametrize(("wrong", "right"), [("kernal", "kernel"), ("widht", "width"), ("activaton", "activation")])
def test_a_misspelt_field_does_not_pass_for_an_option(wrong, right):
    assert f"'conv': {wrong!r}; did you mean \"{right}\"?" in refusal(lambda: op("conv", **{wrong: 3}))
    assert op("conv", repeat=2).option("repeat", 1) == 2


def test_open_widths():
    space = Space(chain(("y", op("conv", width=NEEDED)), ("z", CONV)))
    assert "y" in refusal(lambda: supernet(space, (3, 8, 8), 10)) and space.size == 1
    assert "still open" in refusal(lambda: Network(space.program, [(3, 8, 8)]))
    assert "2 shapes" in refusal(lambda: Network(space.program, [(3, 8, 8), (3, 8, 8)]), ShapeError)


def test_a_mix_for_a_choice_that_is_not_there(problems):
    network = supernet(problems.one_edge(), (3, 8, 8), 3)
    assert 'did you mean "y"?' in refusal(lambda: network(torch.zeros(1, 3, 8, 8), mix={"yy": 0}))


# Fault 24: networks without a path


def test_a_cell_of_nothing_runs(problems):
    space = problems.nasbench201()
    for phase in ("scratch", "search"):
        network = derived(space, dict.fromkeys((c.name for c in space.choices), "none"), (3, 8, 8), 10, phase=phase)
        y = network(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
        assert torch.isfinite(y).all() and torch.equal(y[0], y[1])
        y.sum().backward()


def test_a_nasbench101_cell_without_a_path_runs(problems):
    space = problems.nasbench101(vertices=4)
    blind = space.architecture({"in1": [], "in2": [], "out": [], "direct": [], "op1": "conv3x3", "op2": "conv1x1"})
    lost = space.architecture({**blind, "out": ["1", "2"], "in2": ["1"]})
    whole = space.architecture({**lost, "in1": ["input"]})
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for architecture, constant in ((blind, True), (lost, True), (whole, False)):
        y = derived(space, architecture, (3, 8, 8), 10)(x)
        assert y.shape == (4, 10) and torch.isfinite(y).all()
        assert torch.equal(y[0], y[1]) == constant


def test_an_emptied_node_is_as_wide_and_large_as_it_was(problems):
    """What reads it keeps the shape of its weights."""
    ways = Choice("in", ("a", "b"), take=None)
    strided = op("conv", width=6, kernel=3, stride=2)
    nodes = (
        Node("y", (Edge("image", strided), Edge("image", strided)), choice=ways),
        Node("w", (Edge("y"), Edge("y")), combine="concat"),
        Node("z", (Edge("w", op("conv", width=4)),)),
    )
    space = Space(Graph(("image",), nodes, "z"))
    whole = supernet(space, (3, 8, 8), 10)
    part = derived(space, {"in": []}, (3, 8, 8), 10, phase="search")
    assert part.shapes["z"] == whole.shapes["z"] == (4, 4, 4)
    part.load_state_dict({k: v for k, v in whole.state_dict().items() if k in part.state_dict()})
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(part(x), whole(x, mix={"in": ()}), rtol=0, atol=0)


def test_the_way_to_an_emptied_node_may_have_a_stride(problems):
    half = op("conv", width=6, kernel=3, stride=2)
    nodes = (
        Node("y", (Edge("image"),), choice=Choice("in", ("image",), take=None)),
        Node("z", (Edge("y", half), Edge("y", half)), choice=Choice("which", ("a", "b"))),
    )
    space = Space(Graph(("image",), nodes, "z"))
    blind = derived(space, {"in": [], "which": "a"}, (3, 8, 8), 6)
    assert blind.shapes["z"] == supernet(space, (3, 8, 8), 6).shapes["z"] == (6, 4, 4)
    assert not blind(torch.ones(1, 3, 8, 8)).any()
