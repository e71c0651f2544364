"""A layout that is wider than a page, cut between layers into rows below each other.

    a -> b -> c -.
    .------------'
    '-> d -> e -> f

Every row goes from left to right. A line that is cut turns at the end of its row, goes back between the rows, and turns
into the next: the lowest of several turns first, so that none crosses another. Cuts are where few lines are, and where
that leaves the rows about equally long.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from metanas.exporters.pictures.layout import Placed, Point, Size

MOST = 4  # lines that may be cut at once: more cannot be followed
BUSY = 0.2  # what a line more at a cut weighs, beside the squared share of a row that is left empty
AROUND, LANE = 16.0, 8.0  # above and below the lines between two rows, and between two of them
SLACK = 1.0  # of places in sums of floats; between layers there is far more
REACH = 10.0  # how far a line goes on beyond its row before it turns
TURN = 36.0  # how far the handles of a turn are from it, at most: it swings out by three quarters of that
ASIDE = REACH + 0.75 * TURN  # room for turns at one side


@dataclass(frozen=True)
class Span:
    """What lies between two heights, or left and right."""

    low: float
    high: float

    def holds(self, place: float) -> bool:
        return self.low - SLACK <= place <= self.high + SLACK


@dataclass(frozen=True)
class Row:
    """The layers of a row: where they were, and how far all in them moves."""

    across: Span
    down: Span
    dx: float
    dy: float

    def moved(self, point: Point) -> Point:
        return (point[0] + self.dx, point[1] + self.dy)

    @property
    def ends(self) -> tuple[float, float]:
        """Where lines turn, left and right."""
        return (self.across.low + self.dx - REACH, self.across.high + self.dx + REACH)


def wrapped(placed: Placed, boxes: Sequence[Size], labels: Sequence[Size], width: float) -> Placed:
    """The layout in rows of at most this width, where it can be cut so.

    Args:
        boxes: the sizes that it was made for.
        labels: those of the labels of its wires, (0, 0) for none.
        width: with the turns of the lines.

    >>> from metanas.exporters.pictures.layout import Wire, laid_out
    >>> boxes = [(40, 20)] * 4
    >>> chain = laid_out(boxes, [0, 1, 2, 3], [Wire(k, k + 1) for k in range(3)])
    >>> chain.size, wrapped(chain, boxes, [(0, 0)] * 3, 200).size
    ((238.0, 20.0), (180.0, 72.0))
    """
    if placed.size[0] <= width:
        return placed
    columns = _columns(_sized(placed, boxes, labels))
    cuts = _cuts(columns, _crossing(columns, placed), width - 2 * ASIDE)
    if not cuts:
        return placed
    bounds = list(itertools.pairwise([0, *cuts, len(columns)]))
    spans = [Span(columns[first].low, columns[last - 1].high) for first, last in bounds]
    rows = _rows(spans, placed, _sized(placed, boxes, labels))
    ways = _ways(rows, placed)
    wide = max(row.across.high + row.dx for row in rows) + ASIDE
    high = rows[-1].down.high + rows[-1].dy
    middles, tags = (tuple(_row(rows, at[0]).moved(at) for at in those) for those in (placed.boxes, placed.labels))
    return Placed((wide, high), middles, tags, ways)


def _sized(placed: Placed, boxes: Sequence[Size], labels: Sequence[Size]) -> list[tuple[Point, Size]]:
    """The middle and the size of every box and every label that is there."""
    pairs = [*zip(placed.boxes, boxes, strict=True), *zip(placed.labels, labels, strict=True)]
    return [(middle, size) for middle, size in pairs if size[0] > 0]


def _columns(sized: Sequence[tuple[Point, Size]]) -> list[Span]:
    """From where to where each layer goes: the widest of its boxes or labels fills it."""
    found: list[Span] = []
    for low, high in sorted((x - wide / 2, x + wide / 2) for (x, _), (wide, _) in sized):
        if found and low <= found[-1].high:
            found[-1] = Span(found[-1].low, max(found[-1].high, high))
        else:
            found.append(Span(low, high))
    return found


def _crossing(columns: Sequence[Span], placed: Placed) -> list[int]:
    """How many lines there are before each layer."""
    return [sum(way[0][0] < column.low - SLACK < way[-1][0] for way in placed.ways) for column in columns]


def _cuts(columns: Sequence[Span], crossing: Sequence[int], width: float) -> list[int]:
    """The layers that begin a row, but for the first; [] where no rows are as narrow as that."""
    best: list[tuple[float, list[int]]] = [(0.0, [])]  # of the layers before each
    for last in range(1, len(columns) + 1):
        found = (math.inf, list[int]())
        for first in range(last - 1, -1, -1):
            long = columns[last - 1].high - columns[first].low
            if long > width and last - first > 1:  # a single layer cannot be cut
                break
            if first and crossing[first] > MOST:
                continue
            cost = best[first][0] + (1 - long / width) ** 2 + (1 + BUSY * crossing[first] if first else 0.0)
            found = min(found, (cost, [*best[first][1], *([first] if first else [])]))
        best.append(found)
    return best[-1][1]


def _rows(spans: Sequence[Span], placed: Placed, sized: Sequence[tuple[Point, Size]]) -> list[Row]:
    """Below each other, with room between for the lines that go back."""
    rows: list[Row] = []
    top = 0.0
    for span in spans:
        ends = [y + sign * high / 2 for (x, y), (_, high) in sized for sign in (-1, 1) if span.holds(x)]
        ends += [y for way in placed.ways for x, y in way if span.holds(x)]
        down = Span(min(ends), max(ends))
        rows.append(Row(span, down, ASIDE - span.low, top - down.low))
        cut = sum(way[0][0] < span.high + SLACK < way[-1][0] for way in placed.ways)
        top += down.high - down.low + 2 * AROUND + LANE * (cut - 1)
    return rows


def _row(rows: Sequence[Row], x: float) -> Row:
    return next((row for row in rows if x <= row.across.high + SLACK), rows[-1])


def _ways(rows: Sequence[Row], placed: Placed) -> tuple[tuple[Point, ...], ...]:
    """The ways of all lines, with their turns."""
    lanes: dict[tuple[int, int], float] = {}  # (row that ends, wire) -> the height at which it goes back
    for k, row in enumerate(rows[:-1]):
        ends = []
        for w, way in enumerate(placed.ways):
            inside = [y for x, y in way if x <= row.across.high + SLACK]
            if inside and way[-1][0] > row.across.high + SLACK:
                ends.append((-inside[-1], w))
        for place, (_, w) in enumerate(sorted(ends)):
            lanes[k, w] = row.down.high + row.dy + AROUND + LANE * place
    ways = []
    for w, way in enumerate(placed.ways):
        points = [_row(rows, way[0][0]).moved(way[0])]
        for before, after in itertools.pairwise(way):
            above, below = _row(rows, before[0]), _row(rows, after[0])
            here = below.moved(after)
            if above is not below:
                lane, right, left = lanes[rows.index(above), w], above.ends[1], below.ends[0]
                points += [(right, points[-1][1]), (right, lane), (left, lane), (left, here[1])]
            points.append(here)
        ways.append(tuple(points))
    return tuple(ways)
