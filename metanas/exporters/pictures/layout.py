"""Where the boxes, labels and lines of one group go: layered, from left to right (Sugiyama et al., 1981).

layers      a box stands in the layer of its longest path; the label of an arrow takes a place in a layer of its own
            between two of boxes, and so does a line in every layer that it crosses: nothing can lie on anything
order       barycentres of the neighbours, down and up the layers, the order with the fewest crossings kept
heights     least squares to the neighbours under the order and the gaps, exactly (pool adjacent violators)
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Size = tuple[float, float]
Point = tuple[float, float]

SWEEPS = 24
SHUFFLES, SMALL = 24, 200  # orders to start from beside the given one, where there are no more links
BETWEEN = 12.0  # between two boxes or labels of a layer
BESIDE = 7.0  # between a line and what is beside it
NARROWEST, WIDEST = 26.0, 70.0  # between layers
STEEPNESS = 0.3  # of the gap between layers, as a share of the greatest rise in it
PORTS = 8.0  # between the ends of lines at one side of a box
STRAIGHT = 6.0  # how much more the two ends of a piece of a long line pull at each other than other neighbours


@dataclass(frozen=True)
class Wire:
    """An arrow between positions in the list of boxes, and the size of its label (0, 0 for none)."""

    source: int
    target: int
    label: Size = (0.0, 0.0)


@dataclass(frozen=True)
class Placed:
    """A layout: the middle of every box, of the label of every wire, and the way of every wire.

    A way is a list of points, two for each layer: where the line comes in and where it goes out, level in between. Cut
    into rows (`rows.wrapped`), it also has the points where the line turns, straight above each other.
    """

    size: Size
    boxes: tuple[Point, ...]
    labels: tuple[Point, ...]
    ways: tuple[tuple[Point, ...], ...]


@dataclass(frozen=True)
class Item:
    """What takes a place in a layer: a box, a label, or a line that passes (`wire` and no label)."""

    width: float
    height: float
    wire: int = -1


def laid_out(boxes: Sequence[Size], ranks: Sequence[int], wires: Sequence[Wire]) -> Placed:
    """The layout of a group.

    >>> placed = laid_out([(20, 10), (30, 10)], [0, 1], [Wire(0, 1)])
    >>> placed.size, placed.boxes
    ((76.0, 10.0), ((10.0, 5.0), (61.0, 5.0)))
    """
    items = [Item(*size) for size in boxes]
    layers, chains, label_of = _layers(items, ranks, wires)
    links = [(a, b) for chain in chains for a, b in itertools.pairwise(chain)]
    layers = _ordered(layers, links)
    y = _straight(items, layers, links, _heights(items, layers, links))
    top = min((y[k] - items[k].height / 2 for layer in layers for k in layer), default=0.0)
    y = [height - top for height in y]
    left, widths = _columns(items, layers, links, y)
    column = {k: c for c, layer in enumerate(layers) for k in layer}
    middle = [(left[column[k]] + widths[column[k]] / 2, y[k]) for k in range(len(items))]
    ports = _ports(items, chains, y)
    ways = tuple(
        tuple(_way(chain, items, middle, [(left[column[k]], left[column[k]] + widths[column[k]]) for k in chain], port))
        for chain, port in zip(chains, ports, strict=True)
    )
    bottom = max((y[k] + items[k].height / 2 for k in range(len(items))), default=0.0)
    width = left[-1] + widths[-1] if layers else 0.0
    labels = tuple(middle[k] if k is not None else (0.0, 0.0) for k in label_of)
    return Placed((width, bottom), tuple(middle[: len(boxes)]), labels, ways)


def _layers(
    items: list[Item], ranks: Sequence[int], wires: Sequence[Wire]
) -> tuple[list[list[int]], list[list[int]], list[int | None]]:
    """The items of every layer, the chain of items that every wire is, and the item that is its label.

    Adds labels and passing lines to `items`. Layers of boxes are even, those of labels odd; empty ones are left out.
    """
    where: list[int | None] = [None] * len(wires)
    crowd: dict[int, int] = {}
    for w in sorted(range(len(wires)), key=lambda w: (ranks[wires[w].target] - ranks[wires[w].source], w)):
        wire = wires[w]
        if wire.label[0] > 0:
            first, last = 2 * ranks[wire.source] + 1, 2 * ranks[wire.target] - 1
            here = min(range(first, last + 1, 2), key=lambda k: (crowd.get(k, 0), abs(2 * k - first - last), k))
            where[w] = here
            crowd[here] = crowd.get(here, 0) + 1
    used = sorted({2 * rank for rank in ranks} | {k for k in where if k is not None})
    layers: dict[int, list[int]] = {k: [] for k in used}
    for k, rank in enumerate(ranks):
        layers[2 * rank].append(k)
    chains, labels = [], list[int | None]()
    for w, wire in enumerate(wires):
        chain = [wire.source]
        labels.append(None)
        for k in used:
            if 2 * ranks[wire.source] < k < 2 * ranks[wire.target]:
                items.append(Item(*wire.label, wire=w) if where[w] == k else Item(0.0, 1.0, wire=w))
                layers[k].append(len(items) - 1)
                chain.append(len(items) - 1)
                labels[w] = len(items) - 1 if where[w] == k else labels[w]
        chains.append([*chain, wire.target])
    return [layers[k] for k in used], chains, labels


# Order


def _ordered(layers: list[list[int]], links: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The layers, each in the order in which lines cross least, as far as sweeps find it.

    Sweeps end in a valley; small graphs are swept again from shuffled orders, the same in every process.
    """
    before: dict[int, list[int]] = {}
    after: dict[int, list[int]] = {}
    for a, b in links:
        before.setdefault(b, []).append(a)
        after.setdefault(a, []).append(b)
    dice = random.Random(0)
    best, fewest = _swept(layers, before, after)
    for _ in range(SHUFFLES if len(links) <= SMALL else 0):
        if fewest:
            found, crossings = _swept([dice.sample(layer, len(layer)) for layer in layers], before, after)
            best, fewest = (found, crossings) if crossings < fewest else (best, fewest)
    return best


def _swept(
    layers: list[list[int]], before: dict[int, list[int]], after: dict[int, list[int]]
) -> tuple[list[list[int]], int]:
    """The best order that sweeps from the given one find, and how often lines cross in it."""
    best, fewest = layers, _crossings(layers, after)
    current = [list(layer) for layer in layers]
    for sweep in range(SWEEPS if fewest else 0):
        down = sweep % 2 == 0
        neighbours = before if down else after
        for k in range(1, len(current)) if down else range(len(current) - 2, -1, -1):
            beside = {item: p for p, item in enumerate(current[k - 1 if down else k + 1])}
            current[k] = _by_barycentre(current[k], neighbours, beside)
        crossings = _crossings(current, after)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in current], crossings
    return best, fewest


def _by_barycentre(layer: list[int], neighbours: dict[int, list[int]], beside: dict[int, int]) -> list[int]:
    """The layer in the order of the mean position of each item's neighbours; those without any keep theirs."""

    def mean(place: int) -> float:
        found = [beside[n] for n in neighbours.get(layer[place], ()) if n in beside]
        return sum(found) / len(found) if found else float(place)

    return [layer[place] for place in sorted(range(len(layer)), key=lambda place: (mean(place), place))]


def _crossings(layers: Sequence[Sequence[int]], after: dict[int, list[int]]) -> int:
    """How many pairs of lines cross."""
    total = 0
    for layer, beyond in itertools.pairwise(layers):
        place = {item: p for p, item in enumerate(beyond)}
        ends = [place[b] for a in layer for b in sorted(after.get(a, ()), key=lambda b: place.get(b, 0)) if b in place]
        total += sum(x > y for k, x in enumerate(ends) for y in ends[k + 1 :])
    return total


# Heights


def _heights(items: Sequence[Item], layers: Sequence[Sequence[int]], links: Sequence[tuple[int, int]]) -> list[float]:
    """The height of every item's middle."""
    pulls: dict[int, list[tuple[int, float]]] = {}
    for a, b in links:
        weight = STRAIGHT if items[a].wire >= 0 and items[b].wire >= 0 else 1.0
        pulls.setdefault(a, []).append((b, weight))
        pulls.setdefault(b, []).append((a, weight))
    y = [0.0] * len(items)
    for layer in layers:
        for k, height in zip(layer, _spread(items, layer, [0.0] * len(layer)), strict=True):
            y[k] = height
    for sweep in range(2 * SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            wanted = []
            for k in layer:
                near = pulls.get(k, [(k, 1.0)])
                wanted.append(sum(y[other] * weight for other, weight in near) / sum(weight for _, weight in near))
            for k, height in zip(layer, _spread(items, layer, wanted), strict=True):
                y[k] = height
    return y


def _straight(
    items: Sequence[Item], layers: Sequence[Sequence[int]], links: Sequence[tuple[int, int]], y: list[float]
) -> list[float]:
    """The same heights with every strand level, where what is above and below it leaves room."""
    y = list(y)
    beside: dict[int, tuple[int | None, int | None]] = {}
    for layer in layers:
        beside |= dict(zip(layer, zip([None, *layer[:-1]], [*layer[1:], None], strict=True), strict=True))
    strands = sorted(_strands(items, links), key=lambda strand: (-len(strand), strand))
    near: dict[int, list[int]] = {}
    for a, b in links:
        near.setdefault(a, []).append(b)
        near.setdefault(b, []).append(a)
    for _ in range(SWEEPS // 2):
        for strand in strands:
            low = max((y[o] + _apart(items, o, k) for k in strand if (o := beside[k][0]) is not None), default=None)
            high = min((y[o] - _apart(items, k, o) for k in strand if (o := beside[k][1]) is not None), default=None)
            ends = [y[o] for k in (strand[0], strand[-1]) for o in near.get(k, ()) if o not in strand]
            level = sum(ends) / len(ends) if ends else sum(y[k] for k in strand) / len(strand)
            level = level if low is None else max(level, low)
            level = level if high is None else min(level, high)
            if low is None or level >= low:
                for k in strand:
                    y[k] = level
    return y


def _strands(items: Sequence[Item], links: Sequence[tuple[int, int]]) -> list[list[int]]:
    """What is best drawn level: the pieces of one line with its label, and boxes that only follow one another."""
    after: dict[int, list[int]] = {}
    before: dict[int, list[int]] = {}
    for a, b in links:
        after.setdefault(a, []).append(b)
        before.setdefault(b, []).append(a)
    of = {a: [a] for a in range(len(items))}
    for a, b in links:
        one_line = items[a].wire >= 0 and items[a].wire == items[b].wire
        if one_line or (len(after[a]) == 1 and len(before[b]) == 1):
            of[a] += of[b]
            for k in of[b]:
                of[k] = of[a]
    return list({id(strand): strand for strand in of.values()}.values())


def _spread(items: Sequence[Item], layer: Sequence[int], wanted: Sequence[float]) -> list[float]:
    """Heights nearest to the wanted ones (least squares) that keep the order and the gaps of a layer."""
    shifts = [0.0]
    for a, b in itertools.pairwise(layer):
        shifts.append(shifts[-1] + _apart(items, a, b))
    pools: list[list[float]] = []  # (sum, count) of what must be level once the gaps are taken off
    for height, shift in zip(wanted, shifts, strict=False):
        pools.append([height - shift, 1.0])
        while len(pools) > 1 and pools[-2][0] * pools[-1][1] >= pools[-1][0] * pools[-2][1]:
            total, count = pools.pop()
            pools[-1][0] += total
            pools[-1][1] += count
    level = [total / count for total, count in pools for _ in range(int(count))]
    return [a + b for a, b in zip(level, shifts, strict=False)]


def _apart(items: Sequence[Item], a: int, b: int) -> float:
    """How far apart the middles of neighbours in a layer must be."""
    gap = BETWEEN if items[a].width > 0 and items[b].width > 0 else BESIDE
    return (items[a].height + items[b].height) / 2 + gap


# Columns and lines


def _columns(
    items: Sequence[Item], layers: Sequence[Sequence[int]], links: Sequence[tuple[int, int]], y: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Left edge and width of every layer; the gap between two is wider where lines rise more."""
    column = {k: c for c, layer in enumerate(layers) for k in layer}
    rise = [0.0] * len(layers)
    for a, b in links:
        rise[column[a]] = max(rise[column[a]], abs(y[a] - y[b]))
    widths = [max(items[k].width for k in layer) for layer in layers]
    left = [0.0]
    for c in range(len(layers) - 1):
        left.append(left[c] + widths[c] + min(WIDEST, max(NARROWEST, STEEPNESS * rise[c])))
    return left[: len(layers)], widths


def _ports(items: Sequence[Item], chains: Sequence[Sequence[int]], y: Sequence[float]) -> list[tuple[float, float]]:
    """How far from the middle of its boxes each wire starts and ends."""
    offsets = [[0.0, 0.0] for _ in chains]
    for end, neighbour in ((0, 1), (-1, -2)):
        sides: dict[int, list[int]] = {}
        for w, chain in enumerate(chains):
            sides.setdefault(chain[end], []).append(w)
        for box, wires in sides.items():
            wires.sort(key=lambda w: (y[chains[w][neighbour]], w))
            gap = min(PORTS, (items[box].height - 10) / max(1, len(wires) - 1))
            for place, w in enumerate(wires):
                offsets[w][end] = gap * (place - (len(wires) - 1) / 2)
    return [(start, stop) for start, stop in offsets]


def _way(
    chain: Sequence[int],
    items: Sequence[Item],
    middle: Sequence[Point],
    columns: Sequence[tuple[float, float]],
    port: tuple[float, float],
) -> Iterator[Point]:
    """The points of a wire: level through every layer, so that it meets nothing there."""
    (x, y), half = middle[chain[0]], items[chain[0]].width / 2
    yield (x + half, y + port[0])
    yield (columns[0][1], y + port[0])
    for k, (left, right) in zip(chain[1:-1], columns[1:-1], strict=True):
        yield (left, middle[k][1])
        yield (right, middle[k][1])
    (x, y), half = middle[chain[-1]], items[chain[-1]].width / 2
    yield (columns[-1][0], y + port[1])
    yield (x - half, y + port[1])
