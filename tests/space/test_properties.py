"""Property tests: whatever an architecture, a space or a template holds comes back from text as it was."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metanas.errors import SpaceError
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
    one_of,
    op,
    space_from_json,
    space_to_json,
)

steady = settings(derandomize=True, deadline=None, max_examples=60)
text = st.text(min_size=1, max_size=6)
word = st.text("abcdefgh", min_size=1, max_size=4)
labels = st.one_of(text, st.lists(text, max_size=3).map(tuple))


@steady
@given(st.dictionaries(text, labels, max_size=5))
def test_architectures(taken):
    a = Architecture(taken)
    assert Architecture.from_json(json.dumps(a.to_json(), allow_nan=False)) == a
    assert Architecture(dict(reversed(list(taken.items())))) == a
    again = pickle.loads(pickle.dumps(a))
    assert again == a and hash(again) == hash(a) and str(again) == str(a)


contents = st.one_of(
    st.none(),
    st.builds(
        op,
        word,
        width=st.one_of(st.none(), st.integers(1, 9), st.just(NEEDED), st.just(Size("width", (2, 4)))),
        kernel=st.integers(1, 7),
        norm=st.sampled_from(("", "batch")),
        slope=st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), text),
    ),
)


@st.composite
def graphs(draw, deep=1):
    """Any graph: a chain with further edges, sub-graphs, scans, choices of each kind."""
    nodes = []
    for k in range(draw(st.integers(1, 3))):
        sources = [
            "x" if k == 0 else f"n{k - 1}",
            *draw(st.lists(st.sampled_from(["x", *(f"n{j}" for j in range(k))]), max_size=2)),
        ]
        inner = st.one_of(contents, graphs(deep=deep - 1)) if deep else contents
        if deep:
            candidates = st.dictionaries(word, inner, min_size=1, max_size=2)
            inner = st.one_of(inner, st.builds(one_of, text.map(lambda t, k=k: f"{deep}{k}{t}"), candidates))
        edges = tuple(Edge(source, draw(inner)) for source in sources)
        choice = None
        if draw(st.booleans()):
            names = tuple(f"c{i}" for i in range(len(edges)))
            choice = Choice(f"in {deep} {k} {draw(text)}", names, draw(st.sampled_from((None, 1, len(names)))))
        nodes.append(Node(f"n{k}", edges, draw(st.sampled_from(("sum", "mean", "concat"))), choice, draw(contents)))
    return Graph(("x",), tuple(nodes), nodes[-1].name)


@steady
@given(graphs(), text, st.dictionaries(text, st.one_of(st.integers(), text)))
def test_spaces(graph, name, numbers):
    try:
        space = Space(graph, name, settings=numbers)
    except SpaceError as error:  # the same choice drawn twice, or a candidate called like an edge: said in one line
        assert "means two things" in str(error) or "rename" in str(error)
        return
    limit = () if not space.choices else (Limit((space.choices[0].name,), at_most=2),)
    space = Space(graph, name, limit, settings=numbers)
    again = space_from_json(json.loads(json.dumps(space_to_json(space), allow_nan=False)))
    assert again == space and again.program == space.program and hash(again) == hash(space)


@steady
@given(st.builds(Scan, st.just(Graph(("s", "v"), (Node("n", (Edge("s"), Edge("v"))),), "n")), st.integers(1, 9)))
def test_scans(scan):
    space = Space(chain(("y", scan)))
    assert space_from_json(space_to_json(space)) == space


@steady
@given(st.lists(st.sets(word, min_size=1, max_size=3).map(sorted), min_size=1, max_size=4), st.data())
def test_templates(rows, data):
    """One of n, k of n and subsets, between any separators that no label holds."""
    nodes, pieces = [], []
    for k, candidates in enumerate(rows):
        previous = Edge(f"n{k - 1}" if k else "x")
        take = data.draw(st.sampled_from((1, None, len(candidates))))
        choice = Choice(f"c{k}", tuple(candidates), take)
        nodes.append(Node(f"n{k}", (previous,) * len(candidates), choice=choice))
        pieces.append(f"{{c{k}}}" + data.draw(st.text(",;|~[]*.?\\$^()", min_size=1, max_size=2)))
    space = Space(Graph(("x",), tuple(nodes), nodes[-1].name), template="".join(pieces))
    taken = {}
    for choice in space.choices:
        most = len(choice.candidates) if choice.take is None else choice.take
        least = 0 if choice.take is None else choice.take
        picked = st.lists(st.sampled_from(choice.candidates), min_size=least, max_size=most, unique=True)
        taken[choice.name] = tuple(data.draw(picked))
    architecture = space.architecture(taken)
    assert space.parse(str(architecture)) == architecture


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), text, st.sampled_from(("Graph", "Node", "Op", "Edge"))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(("is", "graph", "nodes", "edges", "name", "output", "inputs", "kind")), inner),
    ),
    max_leaves=8,
)


@settings(steady, max_examples=200)
@given(anything, anything)
def test_any_json_is_a_space_or_one_line(graph, limits):
    data = {"schema": 1, "graph": graph, "limits": limits if isinstance(limits, list) else []}
    try:
        space_from_json(data)
    except SpaceError as error:
        assert "\n" not in str(error)
    with pytest.raises(SpaceError):
        space_from_json({"graph": graph})


def test_a_dense_graph_of_thousands_of_edges_is_a_space():
    """Each node reads all before it: what is done for each pair of edges would take hours."""
    ops = {"none": op("none"), "conv": op("conv", width=4)}
    nodes = [Node("0", (Edge("image"),))]
    nodes += [Node(str(i), tuple(Edge(str(j), one_of(f"{i}<-{j}", ops)) for j in range(i))) for i in range(1, 90)]
    space = Space(Graph(("image",), (*reversed(nodes[1:]), nodes[0]), "89"))
    edges = 89 * 90 // 2
    assert len(space.choices) == edges and space.size == 2**edges and not space.program.conditions
    assert [n.name for n in space.graph.order] == [str(k) for k in range(90)]  # given in another order
    assert len(space.sample(np.random.default_rng(0))) == edges
