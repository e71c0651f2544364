"""Pictures as files: well-formed, nothing on top of anything else, and labels that stay labels."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Iterator
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pydot
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metanas.exporters.pictures import Arrow, Group, Picture, Vertex, dot, mermaid, picture, svg
from metanas.exporters.pictures.layout import Placed, Size, Wire, laid_out
from metanas.exporters.pictures.picture import visible
from metanas.exporters.pictures.rows import ASIDE, wrapped
from metanas.exporters.pictures.svg import FORMAT, PAGE, width_of
from metanas.space import NEEDED, Space, chain, op

TIMES, MINUS = "\N{MULTIPLICATION SIGN}", "\N{MINUS SIGN}"
SVG = "{http://www.w3.org/2000/svg}"
DRAWN = {"svg", "title", "desc", "rect", "g", "text", "tspan", "path", "polygon"}
HOSTILE = (
    'a"b', "</text><script>alert(1)</script>", "x\\", "\\N\\l", "a]b", "a;b#c", "`*md*`", "1. list", "- dash", "end",
    '"] --> z["', "%% c", "<br/>", "&lt;", "{x}", "|p|", '"""', "@{ shape: x }", "subgraph", "click n0 href", "$$x$$",
)  # fmt: skip
"""Labels that would be markup in one of the three languages, were they not escaped."""


def hostile() -> Picture:
    nodes = [Vertex(f"n{k}", label, "node", k, "g0") for k, label in enumerate(HOSTILE)]
    edges = [Arrow(a.id, b.id, a.label, "conv") for a, b in itertools.pairwise(nodes)]
    return Picture(HOSTILE[1], (Group("g0", HOSTILE[0]), Group("g1", HOSTILE[1])), tuple(nodes), tuple(edges))


def sampled(known) -> Picture:
    space = known.build()
    return picture(space, space.sample(np.random.default_rng(0)))


# SVG


def texts(root: ElementTree.Element) -> list[str]:
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


def placed_rects(element: ElementTree.Element, x: float = 0, y: float = 0) -> Iterator[tuple[float, ...]]:
    """(left, top, right, bottom) of every rectangle of an SVG file."""
    if "transform" in element.attrib:
        dx, dy = map(float, element.attrib["transform"].removeprefix("translate(").removesuffix(")").split())
        x, y = x + dx, y + dy
    if element.tag == f"{SVG}rect":
        left, top = x + float(element.get("x", 0)), y + float(element.get("y", 0))
        yield (left, top, left + float(element.attrib["width"]), top + float(element.attrib["height"]))
    for child in element:
        yield from placed_rects(child, x, y)


SLACK = 1e-9  # of sums of floats


def apart(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[2] <= b[0] + SLACK or b[2] <= a[0] + SLACK or a[3] <= b[1] + SLACK or b[3] <= a[1] + SLACK


def test_svg_of_every_space(known) -> None:
    """Well-formed, self-contained, all labels there, no two boxes or labels over one another, all inside the view."""
    drawn = sampled(known)
    root = ElementTree.fromstring(svg(drawn))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= DRAWN
    assert not [name for element in root.iter() for name in element.attrib if name in ("style", "class", "id", "href")]
    assert (root.attrib["role"], root.findtext(f"{SVG}title")) == ("img", drawn.title)
    assert root.findtext(f"{SVG}desc") == drawn.description
    wanted = [row for v in drawn.nodes for row in v.label.split("\n")] + [a.label for a in drawn.edges if a.label]
    plain = [row.replace("c_{k-2}", f"ck{MINUS}2").replace("c_{k-1}", f"ck{MINUS}1") for row in wanted]
    assert sorted(texts(root)) == sorted([*plain, *(group.title for group in drawn.groups)])
    view, *rects = placed_rects(root)
    assert len(rects) == len(drawn.nodes) + sum(bool(a.label) for a in drawn.edges)
    assert all(apart(a, b) for a, b in itertools.combinations(rects, 2))
    assert all(a[0] >= 0 and a[1] >= 0 and a[2] <= view[2] and a[3] <= view[3] for a in rects)


def test_text_fits_its_box(known) -> None:
    """By the widths of Helvetica: every box is the one around its own text, and wider."""
    root = ElementTree.fromstring(svg(sampled(known)))
    for parent in root.iter(f"{SVG}g"):
        boxes = [e for e in parent if e.tag in (f"{SVG}rect", f"{SVG}text")]
        box = None
        for element in boxes:
            if element.tag == f"{SVG}rect":
                box = element
            elif box is not None:
                text = "".join(element.itertext())
                assert width_of(text, float(element.attrib["font-size"])) < float(box.attrib["width"]) - 8


def test_labels_are_text_in_svg() -> None:
    drawn = hostile()
    root = ElementTree.fromstring(svg(drawn))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= DRAWN - {"tspan"}
    assert sorted(texts(root)) == sorted([*HOSTILE, *HOSTILE[:-1], *HOSTILE[:2]])


def test_characters_that_no_xml_may_hold() -> None:
    drawn = Picture("t\0", (Group("g0", "\ud800"),), (Vertex("n0", "\x1b[31m\uffff", "node", 0, "g0"),), ())
    root = ElementTree.fromstring(svg(drawn).encode())
    assert (root.findtext(f"{SVG}title"), texts(root)) == ("t\N{REPLACEMENT CHARACTER}", [
        "\N{REPLACEMENT CHARACTER}", "\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}",
    ])  # fmt: skip


def test_a_subscript_is_lower_and_what_follows_is_not() -> None:
    drawn = Picture("", (Group("g0", ""),), (Vertex("n0", "a_{k-1}b", "input", 0, "g0"),), ())
    assert f'preserve">a<tspan dy="3" font-size="9">k{MINUS}1</tspan><tspan dy="-3">b</tspan></text>' in svg(drawn)


@given(st.text())
def test_any_text_is_visible_and_short(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable() and len(shown) <= 48
    label = Picture(shown, (Group("g0", shown),), (Vertex("n0", shown, "node", 0, "g0"),), ())
    assert ElementTree.fromstring(svg(label).encode()).findtext(f"{SVG}title") == (shown or None or "")


# DOT


@pytest.mark.filterwarnings("ignore:.*deprecated - use:DeprecationWarning")  # pydot's, of pyparsing's names
def test_dot_of_every_space_is_read_by_pydot(known) -> None:
    drawn = sampled(known)
    (graph,) = pydot.graph_from_dot_data(dot(drawn))
    clusters = {cluster.get_name(): cluster for cluster in graph.get_subgraphs()}
    assert list(clusters) == [f'"cluster_{group.id}"' for group in reversed(drawn.groups)]
    nodes = {node.get_name(): node for cluster in clusters.values() for node in cluster.get_nodes()}
    assert set(nodes) == {v.id for v in drawn.nodes}
    assert {v.id: nodes[v.id].get_label() for v in drawn.nodes} == {
        v.id: f'"{v.label}"'.replace("\n", "\\n") for v in drawn.nodes
    }
    edges = [(e.get_source(), e.get_destination(), (e.get_label() or '""').strip('"')) for e in graph.get_edges()]
    assert edges == [(a.source, a.target, a.label) for a in drawn.edges]


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz")
def test_graphviz_shows_the_same_labels(problems: ModuleType) -> None:
    """Whatever they hold: Graphviz's own SVG has them as text."""
    space = problems.nasbench201()
    for drawn in (hostile(), picture(space, space.sample(np.random.default_rng(0)))):
        done = subprocess.run(["dot", "-Tsvg"], input=dot(drawn), capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        wanted = [row for v in drawn.nodes for row in v.label.split("\n")] + [a.label for a in drawn.edges if a.label]
        titles = [g.title for g in drawn.groups if any(v.group == g.id for v in drawn.nodes)]
        found = [text.replace("\xa0", " ") for text in texts(ElementTree.fromstring(done.stdout))]
        assert sorted(found) == sorted([*wanted, *titles])


# Mermaid

MERMAID = """\
flowchart LR
  subgraph g1["m cell"]
    direction LR
    n4("a"):::input
    n5("b"):::node
    n6("c"):::output
    n4 -->|"c1"| n5
    n4 -.->|"none"| n6
    n5 -->|"c3"| n6
  end
  subgraph g0["network"]
    direction LR
    n0("image"):::input
    n1("conv 3x3<br/>4 wide"):::conv
    n2("m cell x 2"):::cell
    n3("classifier"):::linear
    n0 --> n1
    n1 --> n2
    n2 --> n3
  end
  style g0 fill:#ffffff,stroke:#9a9a9a,color:#1a1a1a
  style g1 fill:#ffffff,stroke:#9a9a9a,color:#1a1a1a
  classDef input fill:#e8e8e8,stroke:#555555,color:#1a1a1a
  classDef output fill:#e8e8e8,stroke:#555555,color:#1a1a1a
  classDef node fill:#ffffff,stroke:#555555,color:#1a1a1a
  classDef cell fill:#ffffff,stroke:#1a1a1a,color:#1a1a1a
  classDef conv fill:#ddf0fb,stroke:#2b87bd,color:#1a1a1a
  classDef linear fill:#f7dfcc,stroke:#d55e00,color:#1a1a1a
  linkStyle 0,2 stroke:#2b87bd
  linkStyle 1 stroke:#9a9a9a
"""


def test_mermaid(problems: ModuleType) -> None:
    cell = problems.motif("m", 4, ("a",))
    head = op("classifier", width=NEEDED)
    space = Space(chain(("stem", op("conv", width=4, kernel=3)), ("k1", cell), ("k2", cell), ("head", head)))
    taken = {"m.ab": "c1", "m.ac": "none", "m.bc": "c3"}
    text = mermaid(picture(space, taken))
    assert text.replace(TIMES, "x") + "\n" == MERMAID


def test_labels_are_entities_in_mermaid() -> None:
    """Nothing of a label is left that could end it or be read as markup."""
    text = mermaid(hostile())
    rows = [row.strip() for row in text.splitlines()]
    boxes = [row.split('("')[1].split('")')[0] for row in rows if row.endswith(":::node")]
    assert len(boxes) == len(HOSTILE) and not [box for box in boxes if set(box) & set('"<>`\\$&')]
    assert boxes[0] == "a#quot;b" and boxes[5] == "a#59;b#35;c"
    assert sum(row.startswith("subgraph ") for row in rows) == 2 and rows.count("end") == 2


# Layout


def random_layout(seed: int) -> tuple[list[Size], list[Wire], Placed]:
    """A random acyclic graph of up to 12 boxes, some arrows with labels."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 13))
    boxes = [(float(rng.integers(20, 90)), float(rng.integers(20, 50))) for _ in range(count)]
    wires, ranks = [], [0] * count
    for target in range(1, count):
        for source in sorted(set(map(int, rng.integers(target, size=3)))):
            label = (float(rng.integers(20, 80)), 18.0) if rng.random() < 0.6 else (0.0, 0.0)
            wires.append(Wire(source, target, label))
            ranks[target] = max(ranks[target], ranks[source] + 1)
    return boxes, wires, laid_out(boxes, ranks, wires)


def rect(middle: tuple[float, float], size: Size) -> tuple[float, ...]:
    (x, y), (wide, high) = middle, size
    return (x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)


@pytest.mark.parametrize("seed", range(40))
def test_nothing_lies_on_anything(seed: int) -> None:
    """Boxes and labels are apart, and a line meets none but its own: level beside them, curved only between layers."""
    boxes, wires, placed = random_layout(seed)
    own = [rect(at, size) for at, size in zip(placed.boxes, boxes, strict=True)]
    labels = [rect(at, wire.label) for at, wire in zip(placed.labels, wires, strict=True) if wire.label[0]]
    assert all(apart(a, b) for a, b in itertools.combinations([*own, *labels], 2))
    label_of = iter(labels)
    for wire, way, at in zip(wires, placed.ways, placed.labels, strict=True):
        mine = [own[wire.source], own[wire.target], *([next(label_of)] if wire.label[0] else [])]
        others = [r for r in [*own, *labels] if r not in mine]
        for a, b in itertools.pairwise(way):
            assert a[0] <= b[0], "from left to right"
            piece = (a[0], min(a[1], b[1]), b[0], max(a[1], b[1]))
            if a[1] == b[1]:
                assert all(r[2] < piece[0] or piece[2] < r[0] or r[3] < a[1] or a[1] < r[1] for r in others)
            else:
                assert all(r[2] <= piece[0] + SLACK or piece[2] <= r[0] + SLACK for r in [*others, *mine[2:]])
        if wire.label[0]:
            x, y = at
            assert any(a[0] < x < b[0] and a[1] == b[1] == y for a, b in itertools.pairwise(way)), "through it"
    assert all(0 <= r[0] and -1e-9 <= r[1] and r[2] <= placed.size[0] + 1e-9 for r in [*own, *labels])


def test_lines_do_not_cross_where_they_need_not() -> None:
    """Two ways that are written crosswise are put side by side."""
    placed = laid_out([(20, 20)] * 6, [0, 0, 1, 1, 2, 2], [Wire(0, 3), Wire(1, 2), Wire(3, 4), Wire(2, 5)])
    heights = [y for _, y in placed.boxes]
    assert heights[0] == heights[3] == heights[4] and heights[1] == heights[2] == heights[5] != heights[0]


def test_a_chain_is_level_and_equally_spaced() -> None:
    placed = laid_out([(20, 20), (60, 40), (20, 20)], [0, 1, 2], [Wire(0, 1), Wire(1, 2)])
    assert placed.boxes == ((10.0, 20.0), (76.0, 20.0), (142.0, 20.0)) and placed.size == (152.0, 40.0)


# Rows


def random_chain(seed: int, count: int = 24) -> tuple[list[Size], list[Wire], Placed]:
    """A long chain, some arrows with labels, with a few ways around some of its boxes."""
    rng = np.random.default_rng(seed)
    boxes = [(float(rng.integers(30, 90)), float(rng.integers(20, 50))) for _ in range(count)]
    ends = [(k, k + 1) for k in range(count - 1)]
    ends += [(int(k), int(k + rng.integers(2, 9))) for k in rng.integers(count - 9, size=3)]
    labels = [(float(rng.integers(20, 80)), 18.0) if rng.random() < 0.4 else (0.0, 0.0) for _ in ends]
    wires = [Wire(a, b, label) for (a, b), label in zip(ends, labels, strict=True)]
    return boxes, wires, laid_out(boxes, list(range(count)), wires)


@pytest.mark.parametrize("seed", range(20))
def test_rows_are_narrow_and_nothing_lies_on_anything(seed: int) -> None:
    """A line is level but between layers, where it meets nothing, and where it turns, beside the rows."""
    boxes, wires, whole = random_chain(seed)
    placed = wrapped(whole, boxes, [wire.label for wire in wires], 500.0)
    assert whole.size[0] > 1000 and placed.size[0] <= 500.0
    own = [rect(at, size) for at, size in zip(placed.boxes, boxes, strict=True)]
    labels = [rect(at, wire.label) for at, wire in zip(placed.labels, wires, strict=True) if wire.label[0]]
    every = [*own, *labels]
    assert all(apart(a, b) for a, b in itertools.combinations(every, 2))
    assert all(ASIDE - SLACK <= r[0] and r[2] <= 500 - ASIDE + SLACK and -SLACK <= r[1] for r in every)
    assert all(r[3] <= placed.size[1] + SLACK for r in every)
    label_of = iter(labels)
    for wire, way in zip(wires, placed.ways, strict=True):
        mine = [own[wire.source], own[wire.target], *([next(label_of)] if wire.label[0] else [])]
        others = [r for r in every if r not in mine]
        assert all(abs(way[end][0] - r[side]) < 1e-6 for end, r, side in ((0, mine[0], 2), (-1, mine[1], 0)))
        for a, b in itertools.pairwise(way):
            low, high = sorted((a[0], b[0]))
            near = others if a[1] == b[1] else every
            up, down = sorted((a[1], b[1]))
            assert all(r[2] <= low + 1e-6 or high <= r[0] + 1e-6 or r[3] < up or down < r[1] for r in near)


def test_turns_do_not_cross() -> None:
    """Of lines that are cut at one place, the lowest turns first, goes back highest, and comes in lowest."""
    nodes = [(40.0, 30.0)] * 12
    wires = [*(Wire(k, k + 1) for k in range(11)), Wire(4, 8), Wire(3, 9)]
    placed = wrapped(laid_out(nodes, list(range(12)), wires), nodes, [(0.0, 0.0)] * len(wires), 500.0)
    turns = [[(a, b) for a, b in itertools.pairwise(way) if a[0] == b[0] and a != b] for way in placed.ways]
    turns = [found for found in turns if found]
    assert len(turns) == 3 and all(len(pair) == 2 for pair in turns)
    for (right, left), (other_right, other_left) in itertools.combinations(turns, 2):
        assert (right[0][1] < other_right[0][1]) == (right[1][1] > other_right[1][1]), "nested at the right"
        assert (left[0][1] < other_left[0][1]) == (left[1][1] > other_left[1][1]), "nested at the left"


def test_what_cannot_be_cut_stays_in_one_row() -> None:
    boxes = [(40.0, 20.0)] * 2
    placed = laid_out(boxes, [0, 1], [Wire(0, 1, (60.0, 18.0))] * 5)
    assert wrapped(placed, boxes, [(60.0, 18.0)] * 5, 150.0) is placed, "five lines are too many to be cut"
    assert wrapped(placed, boxes, [(60.0, 18.0)] * 5, 1000.0) is placed


def test_a_long_network_fits_a_page(problems: ModuleType) -> None:
    """conv4 with eight blocks was 1604 wide and 195 high; what fits a page is drawn as before."""
    conv4 = problems.shipped("conv4")
    for depth, one_row in ((4, True), (8, False), (16, False)):
        space = conv4.space(width=8, depth=depth, search=True)
        text = svg(picture(space, space.sample(np.random.default_rng(1))))
        _, _, wide, tall = map(float, ElementTree.fromstring(text).attrib["viewBox"].split())
        assert wide <= PAGE and (one_row or wide <= FORMAT * tall), depth


def test_no_boxes_at_all() -> None:
    assert laid_out([], [], []) == Placed((0.0, 0.0), (), (), ())
