"""What is in a picture: networks with equal cells folded, cells once each, operations where the space puts them."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from metanas.errors import ExportError, SpaceError
from metanas.exporters.pictures import Picture, check_svg, dot, mermaid, picture, picture_bytes, svg
from metanas.exporters.pictures.making import shape_of
from metanas.network import derived
from metanas.space import Architecture, Choice, Edge, Graph, Node, Space, chain, from_genotype, one_of, op

TIMES = "\N{MULTIPLICATION SIGN}"
CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|nor_conv_3x3~2|"


def rows(drawn: Picture, group: str) -> list[str]:
    """The boxes of a group as "label (kind)", lines joined by " | ", with x for the sign of multiplication."""
    (found,) = [g.id for g in drawn.groups if g.title == group]
    labels = [v.label.replace("\n", " | ").replace(TIMES, "x") for v in drawn.nodes]
    return [f"{label} ({v.kind})" for label, v in zip(labels, drawn.nodes, strict=True) if v.group == found]


def arrows(drawn: Picture, group: str) -> list[str]:
    """The arrows of a group as "source -label-> target"."""
    (found,) = [g.id for g in drawn.groups if g.title == group]
    label = {v.id: v.label.splitlines()[0] for v in drawn.nodes if v.group == found}
    return [f"{label[a.source]} -{a.label}-> {label[a.target]}" for a in drawn.edges if a.source in label]


def test_nasbench201(problems: ModuleType) -> None:
    space = problems.nasbench201(16, 5)
    architecture = space.parse(CELL)
    drawn = picture(space, architecture, derived(space, architecture, (3, 32, 32), 10).shapes)
    assert drawn.title == f"nasbench201: {CELL[:47]}…"
    assert [group.title for group in drawn.groups] == ["network", "cell"]
    assert rows(drawn, "network") == [
        "image | 3x32x32 (input)",
        "conv 3x3 | 16x32x32 (conv)",
        "cell x 5 | 16x32x32 (cell)",
        "residual 3x3 /2 | 32x16x16 (conv)",
        "cell x 5 | 32x16x16 (cell)",
        "residual 3x3 /2 | 64x8x8 (conv)",
        "cell x 5 | 64x8x8 (cell)",
        "classifier | 10 (linear)",
    ]
    assert rows(drawn, "cell") == ["0 (input)", "1 (node)", "2 (node)", "3 (output)"]
    assert arrows(drawn, "cell") == [
        "0 -nor_conv_3x3-> 1",
        "0 -none-> 2",
        "1 -skip_connect-> 2",
        "0 -avg_pool_3x3-> 3",
        "1 -nor_conv_1x1-> 3",
        "2 -nor_conv_3x3-> 3",
    ]
    cell = [v for v in drawn.nodes if v.group == "g1"]
    assert [v.rank for v in cell] == [0, 1, 2, 3]
    assert [a.kind for a in drawn.edges if a.label] == ["conv", "none", "skip", "pool", "conv", "conv"]


def test_darts(problems: ModuleType) -> None:
    """Cells of a kind are one at any width, also after a reduction; their inputs are the two cells before."""
    darts = problems.shipped("darts")
    space = darts.space(4, 8)
    drawn = picture(space, Architecture(from_genotype(darts.DARTS_V2)))
    assert [group.title for group in drawn.groups] == ["network", "normal cell", "reduce cell"]
    assert rows(drawn, "network") == [
        "image (input)",
        "conv 3x3 | 12 wide (conv)",
        "normal cell x 2 (cell)",
        "reduce cell (cell)",
        "normal cell x 2 (cell)",
        "reduce cell (cell)",
        "normal cell x 2 (cell)",
        "classifier (linear)",
    ]
    network = {(a.source, a.target) for a in drawn.edges if a.source in ("n0", "n1", "n2", "n3", "n4")}
    assert network == {("n0", "n1"), ("n1", "n2"), ("n2", "n3"), ("n2", "n4"), ("n3", "n4"), ("n4", "n5"), ("n4", "n6")}
    assert rows(drawn, "normal cell") == [
        "c_{k-2} (input)", "c_{k-1} (input)", "2 (node)", "3 (node)", "4 (node)", "5 (node)", "concat (output)",
    ]  # fmt: skip
    assert arrows(drawn, "normal cell")[-6:] == [
        "c_{k-2} -skip_connect-> 5",
        "2 -dil_conv_3x3-> 5",
        *(f"{node} --> concat" for node in (2, 3, 4, 5)),
    ]
    assert {a.kind for a in drawn.edges if a.label == "dil_conv_3x3"} == {"dilated"}


def test_inputs_keep_their_names_where_the_network_does_not_say_more(problems: ModuleType) -> None:
    space = problems.darts(4, 3)
    drawn = picture(space, space.sample(np.random.default_rng(0)))
    assert rows(drawn, "normal cell")[:2] == ["c_{k-2} (input)", "c_{k-1} (input)"], "the reduction cell says it"
    both = Graph(("a", "b"), (Node("y", (Edge("a"), Edge("b", op("conv", kernel=3)))),), "y")
    alone = Graph(("x",), (Node("z", (Edge("x"), Edge("x")), combine="each", body=both),), "z")
    assert rows(picture(Space(alone), {}), "z") == ["a (input)", "b (input)", "conv 3x3 (conv)", "+ (output)"]


def test_nasbench101(problems: ModuleType) -> None:
    """Operations in boxes; projections are not drawn, nor vertices that nothing reads."""
    space = problems.nasbench101(16, 7, 3, 3)
    taken = {"in1": ["input"], "in2": ["input", "1"], "in3": ["2"], "in4": ["1"], "in5": ["3"], "out": ["3", "2"]}
    ops = {f"op{k}": label for k, label in enumerate(("conv3x3", "conv1x1", "maxpool3x3", "conv3x3", "conv1x1"), 1)}
    drawn = picture(space, {**taken, **ops, "direct": []})
    assert rows(drawn, "cell") == [
        "input (input)", "conv3x3 (conv)", "conv1x1 (conv)", "maxpool3x3 (pool)", "concat (output)",
    ]  # fmt: skip
    assert arrows(drawn, "cell") == [
        "input --> conv3x3", "input --> conv1x1", "conv3x3 --> conv1x1", "conv1x1 --> maxpool3x3",
        "conv1x1 --> concat", "maxpool3x3 --> concat",
    ]  # fmt: skip
    direct = picture(space, {**taken, **ops, "direct": ["input"]})
    assert rows(direct, "cell")[-1] == "+ (output)" and "concat (node)" in rows(direct, "cell")
    ends = [arrow.replace(TIMES, "x") for arrow in arrows(direct, "cell") if " + " in f"{arrow} " or "conv 1" in arrow]
    assert ends == ["input --> conv 1x1", "concat --> +", "conv 1x1 --> +"]
    nothing = picture(space, {**{name: [] for name in taken}, **ops, "direct": []})
    assert rows(nothing, "cell") == ["input (input)", "0 (none)"]
    assert rows(nothing, "network") == rows(drawn, "network"), "the network is there, and blind"


def test_conv4(problems: ModuleType) -> None:
    """A block of one operation stands in the network itself; equal boxes fold only where they follow one another."""
    space = problems.shipped("conv4").space(width=8, depth=2, search=True)
    taken = {"block1.main": "conv_5x5", "pool1": "max_pool", "pool2": "avg_pool", "block2.beside": "none"}
    drawn = picture(space, {**taken, "block2.main": "sep_conv_3x3"})
    assert [group.title for group in drawn.groups] == ["network", "block2"]
    assert rows(drawn, "network") == [
        "image (input)", "conv_5x5 (conv)", "max_pool (pool)", "block2 (cell)", "avg_pool (pool)",
        "classifier (linear)",
    ]  # fmt: skip
    assert arrows(drawn, "block2") == ["x -sep_conv_3x3-> sum", "x -none-> sum"]


def test_plain(problems: ModuleType) -> None:
    space = problems.shipped("plain").space("perceptron", width=8, depth=3)
    assert rows(picture(space, {}), "network") == [
        "image (input)", "flatten ()", "linear x 3 | 8 wide (linear)", "linear (linear)",
    ]  # fmt: skip


def test_multilayer_perceptrons(problems: ModuleType) -> None:
    """Chosen widths are written out, blocks beyond the depth are not there, nor is a `none` among others."""
    space = problems.mlp(8, 2)
    block = {"norm1": "none", "hidden1": "16", "activation1": "gelu", "residual1": "residual"}
    drawn = picture(space, {"depth": "1", **block})
    assert rows(drawn, "network")[2:4] == ["block1 (cell)", "batch norm, relu (norm)"]
    assert rows(drawn, "block1") == [
        "x (input)", "linear 16 (linear)", "gelu (norm)", "linear (linear)", "residual (skip)", "+ (output)",
    ]  # fmt: skip
    second = {f"{name[:-1]}2": label for name, label in block.items()}
    same = picture(space, {"depth": "2", **block, **second})
    assert [group.title for group in same.groups] == ["network", "block"], "equal blocks are one cell"
    assert "block x 2 (cell)" in rows(same, "network")
    other = picture(space, {"depth": "2", **block, **second, "residual2": "plain"})
    assert [group.title for group in other.groups] == ["network", "block1", "block2"]
    assert rows(other, "block2")[-1] == "linear (linear)"


def test_cells_of_cells_and_loops(problems: ModuleType) -> None:
    space = problems.hierarchical()
    motif = {"ab": "c1", "ac": "none", "bc": "c3"}
    taken = {f"m0.{edge}": label for edge, label in motif.items()}
    drawn = picture(space, {"xy": "m0", "xz": "skip", "yz": "m0", "zy": "first", **taken})
    assert [group.title for group in drawn.groups] == ["network", "m0"]
    assert arrows(drawn, "network") == ["x -m0-> y", "x -skip-> z", "y -m0-> z", "z --> first", "y --> first"]
    assert arrows(drawn, "m0") == ["a -c1-> b", "a -none-> c", "b -c3-> c"]
    loop = problems.recurrent()
    drawn = picture(loop, loop.parse("tanh state identity"))
    assert rows(drawn, "network") == ["sequence (input)", "cell (cell)", "last ()", "linear (linear)"]
    assert rows(drawn, "cell")[:2] == ["state (input)", "value (input)"]


def test_two_that_look_different_have_different_titles() -> None:
    def cell(kernel: int) -> Graph:
        nodes = (Node("y", (Edge("x", op("conv", kernel=kernel)),)), Node("z", (Edge("y"), Edge("x"))))
        return Graph(("x",), nodes, "z")

    a, b = (one_of(name, {"same": cell(kernel)}) for name, kernel in (("a", 3), ("b", 5)))
    drawn = picture(Space(chain(("a", a), ("b", b))), {"a": "same", "b": "same"})
    assert [group.title for group in drawn.groups] == ["network", "same 1", "same 2"]


def test_what_is_read_from_elsewhere_is_not_folded() -> None:
    """Folded, the picture would not say from where the long way comes."""
    conv = op("conv", width=4, kernel=3)
    nodes = [Node(f"n{k}", (Edge(f"n{k - 1}" if k else "image", conv),)) for k in range(5)]
    straight = Space(Graph(("image",), tuple(nodes), "n4"))
    assert rows(picture(straight, {}), "network") == ["image (input)", "conv 3x3 x 5 | 4 wide (conv)"]
    apart = [*nodes[:2], Node("pool", (Edge("n1", op("max_pool", kernel=3)),)), Node("n2", (Edge("n0", conv),))]
    ends = Node("sum", (Edge("pool"), Edge("n2")))
    drawn = picture(Space(Graph(("image",), (*apart, ends), "sum")), {})
    assert rows(drawn, "network")[1:3] == ["conv 3x3 | 4 wide (conv)"] * 2, "a later one of the same look reads inside"
    nodes.append(Node("sum", (Edge("n4"), Edge("n1"))))
    drawn = picture(Space(Graph(("image",), tuple(nodes), "sum")), {})
    assert rows(drawn, "network") == [
        "image (input)", "conv 3x3 x 2 | 4 wide (conv)", "conv 3x3 x 3 | 4 wide (conv)", "+ (node)",
    ]  # fmt: skip


def test_every_space_has_a_picture(known) -> None:
    """Boxes come after those that lead to them, in ranks that grow; nothing is left without an arrow."""
    space = known.build()
    for seed in range(5):
        drawn = picture(space, space.sample(np.random.default_rng(seed)))
        place = {v.id: k for k, v in enumerate(drawn.nodes)}
        for a in drawn.edges:
            source, target = drawn.nodes[place[a.source]], drawn.nodes[place[a.target]]
            assert source.rank < target.rank and source.group == target.group and place[a.source] < place[a.target]
        ends = {v for a in drawn.edges for v in (a.source, a.target)}
        assert [v.label for v in drawn.nodes if v.id not in ends and v.kind not in ("input", "none")] == []


def test_an_architecture_of_another_space_is_refused(problems: ModuleType) -> None:
    with pytest.raises(SpaceError, match="space 'nasbench201' has no choice 'x'"):
        picture(problems.nasbench201(), Architecture({"x": "y"}))


def test_choices_of_edges() -> None:
    """Only what is taken is drawn, once for an edge that is taken twice over."""
    pick = Choice("in", ("a", "b"), take=1)
    conv = op("conv", width=4, kernel=3)
    nodes = (
        Node("a", (Edge("x", conv),)),
        Node("b", (Edge("x", conv),)),
        Node("y", (Edge("a"), Edge("b")), choice=pick),
    )
    assert rows(picture(Space(Graph(("x",), nodes, "y")), {"in": "b"}), "network") == [
        "x (input)", "conv 3x3 | 4 wide (conv)",
    ]  # fmt: skip


def test_zeros_stand_where_nothing_else_does() -> None:
    pick = one_of("pick", {"none": op("none"), "skip": op("skip")})
    alone = Space(chain(("a", op("conv", width=4)), ("pick", pick), ("head", op("classifier", width=2))))
    assert rows(picture(alone, {"pick": "none"}), "network") == [
        "image (input)", "conv 1x1 | 4 wide (conv)", "none (none)", "classifier | 2 wide (linear)",
    ]  # fmt: skip
    beside = Space(Graph(("x",), (Node("y", (Edge("x", pick), Edge("x", op("conv", width=4)))),), "y"))
    assert rows(picture(beside, {"pick": "none"}), "network") == ["x (input)", "conv 1x1 | 4 wide (conv)"]


def test_shapes_are_found_by_path() -> None:
    shapes = {"a": (1,), "a.in": (2,), "a.from_b.conv": (3,), "ab": (4,)}
    assert [shape_of(path, shapes) for path in ("a", "a.in", "a.from_b", "b")] == [(3,), (2,), (3,), None]


@pytest.mark.parametrize("write", [svg, dot, mermaid])
def test_files(problems: ModuleType, write, tmp_path) -> None:
    space = problems.nasbench201()
    data = picture_bytes(write, space, space.parse(CELL))
    assert data == picture_bytes(write, space, space.parse(CELL)) and data.endswith(b"\n")
    with pytest.raises(ExportError, match=r"^a picture shows how a space connects its operations; give the space"):
        picture_bytes(write, None, space.parse(CELL))
    file = tmp_path / "network.svg"
    file.write_bytes(data)
    if write is svg:
        check_svg(file)
        file.write_bytes(data[:-20])
    with pytest.raises(ExportError, match=r"^svg: network.svg is not well-formed \(.*\); this is a fault of metanas$"):
        check_svg(file)
