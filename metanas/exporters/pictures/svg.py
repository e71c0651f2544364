"""A picture as SVG, for a paper or a page: no script, no style sheet, no font and no reference to anything outside.

Text is in whatever sans-serif font there is; widths are those of Helvetica and Arial, with room to spare.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from metanas.exporters.pictures.layout import Placed, Point, Wire, laid_out
from metanas.exporters.pictures.palette import FAINT, TEXT, colour_of
from metanas.exporters.pictures.picture import Arrow, Group, Picture, Vertex

FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"
BIG, SMALL, HEADING = 12.0, 10.5, 13.0  # sizes of text: in boxes, on arrows, over groups
LINE = 1.3  # height of a line of text
PADDING, PILL = (10.0, 6.0), (7.0, 3.5)  # around text: in boxes, on arrows
MARGIN, HEAD = 16.0, 7.0  # around the picture; length of an arrow's head
NARROWEST = 30.0  # a box
PAGE = 960.0  # cells stand side by side as far as this goes, or as the network does
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
    rows: list[str] = []
    x, y, high, width = MARGIN, MARGIN, 0.0, 0.0
    panels = [_panel(picture, group) for group in picture.groups]
    limit = max([PAGE, *(panel.width for panel in panels)])
    for k, panel in enumerate(panels):
        if k and (k == 1 or x + panel.width > MARGIN + limit):  # the network has a row of its own
            x, y, high = MARGIN, y + high + APART[1], 0.0
        rows += [f'<g transform="translate({_n(x)} {_n(y)})">', *panel.rows, "</g>"]
        x, high, width = x + panel.width + APART[0], max(high, panel.height), max(width, x - MARGIN + panel.width)
    y += high
    size = f"{_n(width + 2 * MARGIN)} {_n(y + MARGIN)}"
    wide, tall = size.split()
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{wide}" height="{tall}" role="img"'
        f' font-family="{FONT}" fill="{TEXT}">',
        f"<title>{_escaped(picture.title)}</title>",
        f"<desc>{_escaped(picture.description)}</desc>",
        f'<rect width="{wide}" height="{tall}" fill="#ffffff"/>',
        *rows,
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
class Panel:
    """A group as it is drawn, from its own top left corner."""

    rows: tuple[str, ...]
    width: float
    height: float


def _panel(picture: Picture, group: Group) -> Panel:
    nodes = [vertex for vertex in picture.nodes if vertex.group == group.id]
    known = {vertex.id: k for k, vertex in enumerate(nodes)}
    edges = [arrow for arrow in picture.edges if arrow.source in known and arrow.target in known]
    placed = _placed(nodes, known, edges)
    title, top = HEADING * 0.8, HEADING * LINE + 10
    heading = _text(group.title, 0, title, HEADING, anchor="start", weight="bold")
    drawn = [f'<g transform="translate(0 {_n(top)})">', *_drawn(nodes, edges, placed), "</g>"]
    width = max(placed.size[0], width_of(group.title, HEADING, bold=True))
    return Panel((heading, *drawn), width, top + placed.size[1])


def _placed(nodes: Sequence[Vertex], known: dict[str, int], edges: Sequence[Arrow]) -> Placed:
    boxes = []
    for vertex in nodes:
        rows = [_plain(row) for row in vertex.label.split("\n")]
        wide = max(width_of(row, BIG if k == 0 else SMALL) for k, row in enumerate(rows))
        high = BIG * LINE + SMALL * LINE * (len(rows) - 1)
        boxes.append((max(NARROWEST, wide + 2 * PADDING[0]), high + 2 * PADDING[1]))
    wires = [
        Wire(
            known[arrow.source],
            known[arrow.target],
            (width_of(arrow.label, SMALL) + 2 * PILL[0], SMALL * LINE + 2 * PILL[1]) if arrow.label else (0.0, 0.0),
        )
        for arrow in edges
    ]
    return laid_out(boxes, [vertex.rank for vertex in nodes], wires)


def _drawn(nodes: Sequence[Vertex], edges: Sequence[Arrow], placed: Placed) -> Iterator[str]:
    for arrow, way in zip(edges, placed.ways, strict=True):
        yield from _line(arrow, way)
    for arrow, at in zip(edges, placed.labels, strict=True):
        if arrow.label:
            yield from _pill(arrow, at)
    for vertex, at in zip(nodes, placed.boxes, strict=True):
        yield from _box(vertex, at)


def _line(arrow: Arrow, way: Sequence[Point]) -> Iterator[str]:
    """A smooth line along the points, level at every layer, with a head."""
    (x, y), colour = way[-1], colour_of(arrow.kind).line
    points = [*way[:-1], (x - HEAD + 1, y)]
    path = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
    for k, ((ax, ay), (bx, by)) in enumerate(itertools.pairwise(points)):
        if k % 2 == 0 or ay == by:
            path.append(f"L{_n(bx)} {_n(by)}")
        else:
            half = (bx - ax) / 2
            path.append(f"C{_n(ax + half)} {_n(ay)} {_n(bx - half)} {_n(by)} {_n(bx)} {_n(by)}")
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
