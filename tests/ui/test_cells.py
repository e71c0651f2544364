"""The cells of a space document, what an architecture makes of them, and how they are drawn."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metanas.recipe.spaces import load_space
from metanas.space import space_to_json
from metanas.ui import panels
from metanas.ui.cells import MOST, ROWS, Edge, cells_of, edges
from metanas.ui.paper import Paper
from metanas.ui.points import Cell, Link, Vertex
from metanas.ui.state import RunState, described, fold

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from("nodes edges content contents choice candidates body name source kind inputs".split()),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def node(name: str, *sources: tuple[str, str], **more: Any) -> dict[str, Any]:
    """A node whose edges have choices ("1<-0"), or fixed operations (":conv")."""
    listed = [
        {"source": source, "content": {"kind": about[1:]} if about.startswith(":") else {"choice": about}}
        for source, about in sources
    ]
    return {"name": name, "edges": listed, **more}


def graph(*nodes: dict[str, Any]) -> dict[str, Any]:
    return {"graph": {"inputs": ["0"], "nodes": list(nodes)}}


def text(state: RunState, **paper: Any) -> str:
    return "\n" + "".join(line.plain.rstrip() + "\n" for line in panels.cell(state, Paper(**paper)))


def test_the_cells_of_the_spaces_that_come_with_it() -> None:
    (cell,) = cells_of(space_to_json(load_space("nasbench201")))
    assert (cell.name, [vertex.name for vertex in cell.vertices]) == ("stage0_cell0", ["1", "2", "3"])
    assert cell.vertices[1].links == (Link("0", "2<-0"), Link("1", "2<-1"))
    normal, reduce = cells_of(space_to_json(load_space("darts", layers=8)))
    assert (normal.name, reduce.name) == ("normal", "reduce")
    assert [vertex.name for vertex in reduce.vertices] == ["2", "3", "4", "5"]
    assert normal.vertices[1] == Vertex(
        "3", tuple(Link(n, f"normal.3<-{n}") for n in "012"), inputs="normal.3", labels=("0", "1", "2")
    )
    assert cells_of(space_to_json(load_space("plain"))) == ()


def test_nodes_between_choices_are_kept_and_those_around_them_are_not() -> None:
    nodes = [
        node("stem", ("image", ":conv")),
        node("a", ("stem", "first")),
        node("fixed", ("a", ":pool")),
        node("b", ("fixed", "second")),
        node("head", ("b", ":linear")),
    ]
    for order in (nodes, nodes[::-1]):
        (cell,) = cells_of(graph(*order))
        assert [vertex.name for vertex in cell.vertices] == ["a", "fixed", "b"]
    state = RunState("first", cells=(cell,))
    state = fold(state, {"kind": "epoch", "epoch": 1, "architecture": {"first": "conv", "second": "skip"}})
    assert (
        text(state, width=60)
        == r"""
── cell ───────────────────────────────────────── epoch 1 ──
stem
└─────▶a               conv
       └──▶fixed       pool
           └──────▶b   skip
"""
    )


def test_what_a_node_does_is_said_at_its_last_edge() -> None:
    """A vertex of NAS-Bench-101: any subset of its inputs, then an operation of its own."""
    chosen = {"choice": {"name": "in", "candidates": ["0", "1"]}, "body": {"choice": "op"}}
    two = node("2", **chosen)
    two["edges"] = [{"source": "0"}, {"source": "1"}]
    state = RunState("first", cells=cells_of(graph(node("1", ("0", "1<-0")), two)))
    labels = {"1<-0": "conv", "in": ["0", "1"], "op": "pool"}
    for epoch, op in ((1, "pool"), (2, "conv")):
        state = fold(state, {"kind": "epoch", "epoch": epoch, "architecture": {**labels, "op": op}})
    assert (
        text(state, width=60, ascii_only=True)
        == r"""
-- cell ------------------------- epoch 2: 1 edge changed --
0
+-->1       conv
+---|-->2
    +-->+   then conv  * was pool
"""
    )
    assert edges(state.cells[0], {"1<-0": "conv", "in": ["1"], "op": "pool"}) == (
        Edge("0", "1", "conv", "1<-0"),
        Edge("1", "2", "", None, "pool"),
    )


def test_a_cell_that_is_too_wide_is_a_list() -> None:
    nodes = [node(str(n), *((str(m), f"{n}<-{m}") for m in range(max(n - 2, 0), n))) for n in range(1, 12)]
    state = RunState("first", cells=cells_of(graph(*nodes)))
    labels = {f"{n}<-{m}": "conv" for n in range(12) for m in range(12)}
    state = fold(state, {"kind": "epoch", "epoch": 1, "architecture": labels})
    lines = text(state, width=60).splitlines()
    assert lines[2:5] == ["1 <- 0 conv", "2 <- 0 conv, 1 conv", "3 <- 1 conv, 2 conv"]
    assert text(state, width=60, height=4).splitlines()[-1] == "⋮ 9 more rows"
    assert "─▶11" in text(state, width=90)


@pytest.mark.parametrize("damaged", [None, [], {"graph": []}, {"graph": {"nodes": 3}}, {"graph": {"nodes": [None, 5]}}])
def test_damaged_documents_have_no_cells(damaged: object) -> None:
    assert cells_of(damaged) == ()


def test_circles_depth_and_size_are_bounded() -> None:
    assert cells_of(graph(node("a", ("b", "x")), node("b", ("a", "y")))) == ()
    deep: Any = {"choice": "x"}
    for _ in range(20_000):
        deep = {"nodes": [{"name": "n", "edges": [{"source": "0", "content": deep}]}]}
    assert [cell.name for cell in cells_of({"graph": deep})] == ["n"]
    wide = [node(str(n), *((str(m), f"{n}<-{m}") for m in range(n))) for n in range(1, 200)]
    (cell,) = cells_of(graph(*wide))
    assert len(cell.vertices) == MOST
    assert len(edges(cell, {f"{n}<-{m}": "a" for n in range(200) for m in range(n)})) == ROWS


@given(JSON, st.dictionaries(st.text(max_size=4), st.text(max_size=4) | st.lists(st.text(max_size=4)), max_size=4))
def test_whatever_a_document_holds_it_can_be_drawn(document: Any, labels: dict[str, Any]) -> None:
    state = described(RunState("first"), None, {"graph": document})
    names = [name for cell in state.cells for v in cell.vertices for name in (v.body, *(k.choice for k in v.links))]
    taken = {**labels, **{name: "conv" for name in names if name}}
    for epoch, architecture in ((1, labels), (2, taken)):
        state = fold(state, {"kind": "epoch", "epoch": epoch, "architecture": architecture})
    for width in (1, 20, 80):
        assert all(line.cell_len <= width for line in panels.cell(state, Paper(width=width, ascii_only=True)))


def test_a_cell_without_an_architecture_is_not_drawn() -> None:
    cell = Cell("", (Vertex("1", (Link("0", "1<-0"),)),))
    assert panels.cell(RunState("first", cells=(cell,)), Paper()) == []
    assert panels.cell(fold(RunState("first", cells=(cell,)), {"kind": "epoch", "epoch": 1}), Paper()) == []
