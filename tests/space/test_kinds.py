"""Which candidates skip and which are nothing is told by what they do, not by what they are called."""

from __future__ import annotations

import pytest

from metanas.space import Choice, Edge, Graph, Node, Scan, Space, chain, labels_of, one_of, op, space_to_json


def test_labels_are_words_and_operations_are_what_they_are() -> None:
    contents = {
        "skip": op("conv"),
        "wire": op("skip"),
        "halved": op("skip", stride=2),
        "off": op("none"),
        "as is": None,
    }
    space = Space(chain(("y", one_of("y", contents))))
    assert space.skips == {"y": ("wire", "halved")} and space.nothings == {"y": ("off",)}
    assert labels_of(space.graph, "avg_pool") == {}


def test_choices_are_found_wherever_they_stand() -> None:
    pick = {"a": op("skip"), "b": op("conv")}
    inside = Graph(("x",), (Node("y", (Edge("x", one_of("deep", pick)),)),), "y")
    both = Node("z", (Edge("x", one_of("edge", pick)), Edge("s")), choice=Choice("which", ("x", "s")))
    body = Graph(("state", "x"), (Node("w", (Edge("state"), Edge("x")), body=one_of("scanned", pick)),), "w")
    steps = ("y", one_of("outer", {"cell": inside, "skip": op("avg_pool")})), ("s", Scan(body, width=2))
    graph = Graph(("x",), (*chain(*steps, inputs=("x",)).nodes, both), "z")
    assert set(labels_of(graph, "skip")) == {"edge", "deep", "scanned"}


@pytest.mark.parametrize(
    ("content", "skips"),
    [
        (chain(("a", op("skip"))), True),
        (chain(("a", None), ("b", op("skip")), ("c", None)), True),
        (chain(("a", op("skip")), ("b", op("conv"))), False),
        (chain(("a", None)), False),
        (Graph(("image",), (Node("a", (Edge("image", op("skip")), Edge("image", op("conv")))),), "a"), False),
    ],
)
def test_a_graph_skips_where_its_one_way_does(content: Graph, skips: bool) -> None:
    """As of an edge and its operation in one label: `edge1/skip`."""
    graph = chain(("y", one_of("y", {"way": content, "conv": op("conv")})))
    assert labels_of(graph, "skip") == ({"y": ("way",)} if skips else {})


def test_a_run_says_it_in_its_space() -> None:
    space = Space(chain(("y", one_of("y", {"wire": op("skip"), "conv": op("conv")}))))
    assert [choice["skips"] for choice in space_to_json(space)["choices"]] == [["wire"]]
