"""A picture as SVG, for a paper or a page: no script, no style sheet, no font and no reference to anything outside.

Text is in whatever sans-serif font there is; widths are those of Helvetica and Arial, with room to spare.
"""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from metanas.exporters.pictures.layout import Placed, Point, Size, Wire, laid_out
from metanas.exporters.pictures.palette import FAINT, TEXT, colour_of
from metanas.exporters.pictures.picture import Arrow, Group, Picture, Vertex
from metanas.exporters.pictures.rows import TURN, wrapped

FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"
BIG, SMALL, HEADING = 12.0, 10.5, 13.0  # sizes of text: in boxes, on arrows, over groups
LINE = 1.3  # height of a line of text
PADDING, PILL = (10.0, 6.0), (7.0, 3.5)  # around text: in boxes, on arrows
MARGIN, HEAD = 16.0, 7.0  # around the picture; length of an arrow's head
NARROWEST = 30.0  # a box
PAGE = 960.0  # cells stand side by side as far as this goes, or as the network does
ROWS = (PAGE, 800.0, 680.0, 580.0, 500.0)  # widths for a group that is wider: the first that gives FORMAT or less
FORMAT = 1.5  # width to height of a page
APART = (48.0, 28.0)  # between groups

WIDTHS = {
    **dict.fromkeys("ijl'|", 222), **dict.fromkeys("ftI!,./:;[] \\", 278), **dict.fromkeys("r()-`", 333),
    **dict.fromkeys("cksvxyzJ", 500), **dict.fromkeys("FTZ", 611), **dict.fromkeys("ABEKPSVXY&", 667),
    **dict.fromkeys("CDHNRUw", 722), **dict.fromkeys("GOQ", 778), **dict.fromkeys("mM", 833),
    **dict.fromkeys("W", 944), **dict.fromkeys("@", 1015), **dict.fromkeys("+<=>~\N{MULTIPLICATION SIGN}", 584),
    **dict.fromkeys("*\"^{}", 389), **dict.fromkeys("%", 889), **dict.fromkeys("\N{HORIZONTAL ELLIPSIS}", 1000),
}  # fmt: skip
"""Widths of characters in thousandths of the size (Adobe's metrics of Helvetica); 556 for others."""
OTHER, WIDE = 556, 1000

SUBSCRIPT = re.compile(r"_\{([^{}]*)\}")
ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML may hold."""


def svg(picture: Picture) -> str:
    """The picture as the text of an SVG file.

    >>> text = svg(Picture("one <box>", (Group("g0", "network"),), (Vertex("n0", "conv", "conv", 0, "g0"),), ()))
    >>> text.splitlines()[1], text.count("<rect")
    ('<title>one &lt;box&gt;</title>', 2)
    """
    parts = [_part(picture, group) for group in picture.groups]
    page = _page(parts, math.inf)
    for width in ROWS if any(part.placed.size[0] + 2 * MARGIN > PAGE for part in parts) else ():
        page = _page(parts, width)
        if page.width <= FORMAT * page.height:
            break
    size = f"{_n(page.width)} {_n(page.height)}"
    wide, tall = size.split()
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{wide}" height="{tall}" role="img"'
        f' font-family="{FONT}" fill="{TEXT}">',
        f"<title>{_escaped(picture.title)}</title>",
        f"<desc>{_escaped(picture.description)}</desc>",
        f'<rect width="{wide}" height="{tall}" fill="#ffffff"/>',
        *page.rows,
        "</svg>",
        "",
    ])  # fmt: skip


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """The width of a line of text in Helvetica.

    >>> width_of("il", 10), width_of("conv", 10)
    (4.44, 21.12)
    """
    units = sum(WIDTHS.get(c, WIDE if unicodedata.east_asian_width(c) in "WF" else OTHER) for c in text)
    return round(units * size / 1000 * (1.08 if bold else 1.0), 2)


@dataclass(frozen=True)
class Part:
    """A group: its boxes and arrows with their sizes, and where they are as long as nothing is cut."""

    group: Group
    nodes: Sequence[Vertex]
    edges: Sequence[Arrow]
    boxes: Sequence[Size]
    labels: Sequence[Size]
    placed: Placed


@dataclass(frozen=True)
class Panel:
    """A group, or all of them, as it is drawn, from its own top left corner."""

    rows: tuple[str, ...]
    width: float
    height: float


def _page(parts: Sequence[Part], width: float) -> Panel:
    """All groups, in rows of this width as far as they can be cut, and cells beside each other as far as that goes."""
    rows: list[str] = []
    x, y, high, wide = MARGIN, MARGIN, 0.0, 0.0
    panels = [_panel(part, width - 2 * MARGIN) for part in parts]
    limit = max([min(width, PAGE), *(panel.width for panel in panels)])
    for k, panel in enumerate(panels):
        if k and (k == 1 or x + panel.width > MARGIN + limit):  # the network has a row of its own
            x, y, high = MARGIN, y + high + APART[1], 0.0
        rows += [f'<g transform="translate({_n(x)} {_n(y)})">', *panel.rows, "</g>"]
        x, high, wide = x + panel.width + APART[0], max(high, panel.height), max(wide, x - MARGIN + panel.width)
    return Panel(tuple(rows), wide + 2 * MARGIN, y + high + MARGIN)


def _panel(part: Part, width: float) -> Panel:
    placed = wrapped(part.placed, part.boxes, part.labels, width)
    title, top = HEADING * 0.8, HEADING * LINE + 10
    heading = _text(part.group.title, 0, title, HEADING, anchor="start", weight="bold")
    drawn = [f'<g transform="translate(0 {_n(top)})">', *_drawn(part.nodes, part.edges, placed), "</g>"]
    wide = max(placed.size[0], width_of(part.group.title, HEADING, bold=True))
    return Panel((heading, *drawn), wide, top + placed.size[1])


def _part(picture: Picture, group: Group) -> Part:
    nodes = [vertex for vertex in picture.nodes if vertex.group == group.id]
    known = {vertex.id: k for k, vertex in enumerate(nodes)}
    edges = [arrow for arrow in picture.edges if arrow.source in known and arrow.target in known]
    boxes = []
    for vertex in nodes:
        rows = [_plain(row) for row in vertex.label.split("\n")]
        wide = max(width_of(row, BIG if k == 0 else SMALL) for k, row in enumerate(rows))
        high = BIG * LINE + SMALL * LINE * (len(rows) - 1)
        boxes.append((max(NARROWEST, wide + 2 * PADDING[0]), high + 2 * PADDING[1]))
    labels = [
        (width_of(arrow.label, SMALL) + 2 * PILL[0], SMALL * LINE + 2 * PILL[1]) if arrow.label else (0.0, 0.0)
        for arrow in edges
    ]
    wires = [Wire(known[a.source], known[a.target], label) for a, label in zip(edges, labels, strict=True)]
    return Part(group, nodes, edges, boxes, labels, laid_out(boxes, [vertex.rank for vertex in nodes], wires))


def _drawn(nodes: Sequence[Vertex], edges: Sequence[Arrow], placed: Placed) -> Iterator[str]:
    for arrow, way in zip(edges, placed.ways, strict=True):
        yield from _line(arrow, way)
    for arrow, at in zip(edges, placed.labels, strict=True):
        if arrow.label:
            yield from _pill(arrow, at)
    for vertex, at in zip(nodes, placed.boxes, strict=True):
        yield from _box(vertex, at)


def _line(arrow: Arrow, way: Sequence[Point]) -> Iterator[str]:
    """A smooth line along the points, level at every layer, with a head; where it turns back, it swings out."""
    (x, y), colour = way[-1], colour_of(arrow.kind).line
    points = [*way[:-1], (x - HEAD + 1, y)]
    path = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
    ahead = 1.0
    for (ax, ay), (bx, by) in itertools.pairwise(points):
        if ay == by:
            ahead = math.copysign(1.0, bx - ax)
            path.append(f"L{_n(bx)} {_n(by)}")
            continue
        turn = ahead * min(TURN, abs(by - ay) / 2)
        out, into = (ax + turn, bx + turn) if ax == bx else ((ax + bx) / 2, (ax + bx) / 2)
        path.append(f"C{_n(out)} {_n(ay)} {_n(into)} {_n(by)} {_n(bx)} {_n(by)}")
    dotted = ' stroke-dasharray="2 4"' if arrow.kind == "none" else ""
    yield f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="1.4"{dotted}/>'
    corners = ((x, y), (x - HEAD, y - HEAD / 2), (x - HEAD, y + HEAD / 2))
    yield f'<polygon points="{" ".join(f"{_n(a)},{_n(b)}" for a, b in corners)}" fill="{colour}"/>'


def _pill(arrow: Arrow, at: Point) -> Iterator[str]:
    wide, high = width_of(arrow.label, SMALL) + 2 * PILL[0], SMALL * LINE + 2 * PILL[1]
    yield _rect(at, wide, high, high / 2, arrow.kind, dotted=arrow.kind == "none")
    colour = FAINT if arrow.kind == "none" else TEXT
    yield _text(arrow.label, at[0], at[1] + SMALL * 0.35, SMALL, colour=colour)


def _box(vertex: Vertex, at: Point) -> Iterator[str]:
    rows = vertex.label.split("\n")
    sizes = [BIG, *[SMALL] * (len(rows) - 1)]
    wide = max(width_of(_plain(row), size) for row, size in zip(rows, sizes, strict=True)) + 2 * PADDING[0]
    high = sum(sizes) * LINE
    yield _rect(at, max(NARROWEST, wide), high + 2 * PADDING[1], 6.0, vertex.kind)
    y = at[1] - high / 2
    for row, size in zip(rows, sizes, strict=True):
        yield _text(row, at[0], y + size * LINE / 2 + size * 0.35, size)
        y += size * LINE


def _rect(at: Point, wide: float, high: float, round_: float, kind: str, *, dotted: bool = False) -> str:
    colour, dash = colour_of(kind), ' stroke-dasharray="2 3"' if dotted else ""
    return (
        f'<rect x="{_n(at[0] - wide / 2)}" y="{_n(at[1] - high / 2)}" width="{_n(wide)}" height="{_n(high)}" '
        f'rx="{_n(round_)}" fill="{colour.fill}" stroke="{colour.line}" stroke-width="1.2"{dash}/>'
    )


def _text(
    text: str, x: float, y: float, size: float, *, anchor: str = "middle", weight: str = "", colour: str = ""
) -> str:
    facts = f' font-weight="{weight}"' if weight else ""
    facts += f' fill="{colour}"' if colour else ""
    place = f'x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" text-anchor="{anchor}"'
    return f'<text {place}{facts} xml:space="preserve">{"".join(_spans(text, size))}</text>'


def _spans(text: str, size: float) -> Iterator[str]:
    """The text, with what stands in `_{...}` lower and smaller."""
    for k, part in enumerate(SUBSCRIPT.split(text)):
        if k % 2:
            low = f'<tspan dy="{_n(size * 0.25)}" font-size="{_n(size * 0.75)}">'
            yield f"{low}{_escaped(part.replace('-', chr(0x2212)))}</tspan>"
        elif part:
            up = f'<tspan dy="{_n(-size * 0.25)}">' if k else ""
            yield f"{up}{_escaped(part)}{'</tspan>' if k else ''}"


def _plain(text: str) -> str:
    return SUBSCRIPT.sub(r"\1", text)


def _escaped(text: str) -> str:
    return escape(ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", text))


def _n(number: float) -> str:
    """A number as short as a hundredth allows.

    >>> _n(12.0), _n(0.333333), _n(-0.001)
    ('12', '0.33', '0')
    """
    text = f"{number:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
