"""Curves as SVG: axes with round ticks, a legend with the newest values, a linear and a logarithmic drawing.

    figure(Chart("loss", (Curve("outer", ((1, 2.3), (2, None), (3, 1.1))),)))

What is missing or not finite leaves a gap. Colours are classes that the page's style gives a value, in light and in
dark; curves differ in their dashes as well. Both drawings are in the page: without scripts the first of them is shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from metanas.ui.page.markup import safe, tag
from metanas.ui.page.scales import HUGE, Linear, Log, Scale, drawable, possible, shown_tick, span, tick_text, widened
from metanas.ui.text import inert, shorten
from metanas.ui.units import loss

WIDTH, HEIGHT = 460, 236
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 30, 40  # around the plot
LETTER = 6.4  # width of a letter of the legend, on average
STRIPS = 120  # places that answer to the pointer
POINTS = 800  # of one curve that are drawn
LOOKS = ("first", "second", "third", "fourth")

Point = tuple[float, float | None]


@dataclass(frozen=True)
class Curve:
    """`look`: one of LOOKS. `joined` False: single points. `spread`: half the height of the bar at each point."""

    name: str
    points: tuple[Point, ...]
    look: str = "first"
    joined: bool = True
    spread: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Chart:
    """What a figure shows. All its words may come from a run.

    across: what the x axis counts.
    show:   a value as text.
    log:    the logarithmic drawing comes first.
    within: a range that is shown at least; there is no logarithmic drawing then.
    level:  a line across, with its name.
    star:   a point that is marked, with its name.
    """

    title: str
    curves: tuple[Curve, ...]
    across: str = "epoch"
    show: Callable[[float | None], str] = loss
    log: bool = False
    within: tuple[float, float] | None = None
    level: tuple[str, float] | None = None
    star: tuple[float, float, str] | None = None


def figure(chart: Chart) -> str:
    """A figure with its caption; "" where no curve has a point that can be drawn.

    >>> figure(Chart("loss", (Curve("outer", ((1, None), (2, math.nan))),)))
    ''
    """
    xs, ys = span(x for one in chart.curves for x, y in one.points if drawable(y)), _values(chart)
    if xs is None or not ys:
        return ""
    across = Linear(*xs)
    scales: dict[str, Scale] = {"by-linear": Linear(*_range(chart, ys))}
    powers = _powers(chart, ys)
    if powers is not None:
        scales["by-log"] = Log(*powers)
    log = chart.log and "by-log" in scales
    groups = [tag("g", *_drawing(chart, across, scale), cls=name) for name, scale in scales.items()]
    button = tag("button", "log", type="button", data_scale="", aria_pressed="true" if log else "false", hidden="")
    caption = tag("figcaption", safe(chart.title), button if len(scales) > 1 else "")
    picture = tag(
        "svg",
        *_legend(chart),
        *_x_axis(chart, across),
        *groups,
        *_strips(chart, across),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{chart.title} by {chart.across}",
    )
    return tag("figure", caption, picture, cls="chart log" if log else "chart")


def figures(*charts: Chart) -> str:
    """Those charts that have something to show, in a grid."""
    drawn = [shown for shown in map(figure, charts) if shown]
    return tag("div", *drawn, cls="figures") if drawn else ""


def _values(chart: Chart) -> list[float]:
    return [y for one in chart.curves for _, y in one.points if y is not None and drawable(y)]


def _range(chart: Chart, ys: list[float]) -> tuple[float, float]:
    low, high = min(ys), max(ys)
    for one in chart.curves:  # bars are seen whole
        for (_, y), half in zip(one.points, one.spread, strict=False):
            if y is not None and half is not None and drawable(y) and drawable(half):
                low, high = min(low, y - half), max(high, y + half)
    if chart.level is not None and 2 * low - high < chart.level[1] < 2 * high - low:  # it does not flatten the curve
        low, high = min(low, chart.level[1]), max(high, chart.level[1])
    low, high = possible(*widened(low, high), chart.show)
    return (min(low, chart.within[0]), max(high, chart.within[1])) if chart.within else (low, high)


def _powers(chart: Chart, ys: list[float]) -> tuple[float, float] | None:
    """The range of a logarithmic drawing; None where it would be of no use."""
    positive = [value for value in ys if value > 1 / HUGE]
    if chart.within is not None or not positive or min(ys) < 0 or max(positive) <= 1.5 * min(positive):
        return None
    low, high = math.log10(min(positive)), math.log10(max(positive))
    if chart.level is not None and chart.level[1] > 0:
        level = math.log10(chart.level[1])
        low, high = (min(low, level), max(high, level)) if low - 1 < level < high + 1 else (low, high)
    low, high = widened(low, high)
    return 10**low, 10**high


def _x(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _y(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)


def _drawing(chart: Chart, across: Scale, scale: Scale) -> Iterator[str]:
    """The y axis, and the curves over it."""
    ticks = scale.ticks()
    for value in ticks:
        y = _y(scale.share(value))
        yield tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, cls="grid")
        yield tag("text", safe(shown_tick(value, ticks, chart.show)), x=LEFT - 6, y=y + 4, cls="tick end")
    if chart.level is not None and scale.low <= chart.level[1] <= scale.high:
        y = _y(scale.share(chart.level[1]))
        yield tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, cls="level")
        yield tag("text", safe(chart.level[0]), x=WIDTH - RIGHT - 2, y=y - 4, cls="tick end")
    for one in chart.curves:
        yield from _curve(one, across, scale)
    if chart.star is not None and drawable(scale.share(chart.star[1])):
        x, y = _x(across.share(chart.star[0])), _y(scale.share(chart.star[1]))
        yield tag("text", "★", x=x, y=y + 5, cls="star")


def _curve(one: Curve, across: Scale, scale: Scale) -> Iterator[str]:
    for (x, y), half in zip(one.points, one.spread, strict=False):
        ends = [] if y is None or half is None else [scale.share(y - half), scale.share(y + half)]
        if ends and all(map(drawable, ends)):
            place = _x(across.share(x))
            yield tag("line", x1=place, x2=place, y1=_y(ends[0]), y2=_y(ends[1]), cls=f"bar {one.look}")
    lines, single = [], []
    for part in _parts(one, across, scale):
        if one.joined and len(part) > 1:
            lines.append("M" + "L".join(f"{x} {y}" for x, y in part))
        else:
            single += part
    if lines:
        yield tag("path", d="".join(lines), cls=f"curve {one.look}")
    for x, y in single:
        yield tag("circle", cx=x, cy=y, r=3, cls=f"dot {one.look}")


def _parts(one: Curve, across: Scale, scale: Scale) -> list[list[tuple[float, float]]]:
    """The places of the points, in parts between the gaps."""
    parts: list[list[tuple[float, float]]] = [[]]
    for x, y in _thinned(one.points, POINTS):
        share = scale.share(y) if y is not None and drawable(y) and drawable(x) else math.nan
        if math.isnan(share):
            parts.append([])
        else:
            parts[-1].append((_x(across.share(x)), _y(share)))
    return [part for part in parts if part]


def _thinned(points: Sequence[Point], most: int) -> list[Point]:
    """Evenly chosen points, the last among them."""
    every = -(-len(points) // most)
    return list(points[::-1][:: max(every, 1)])[::-1]


def _x_axis(chart: Chart, across: Scale) -> Iterator[str]:
    base = HEIGHT - BOTTOM
    yield tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=base, y2=base, cls="axis")
    ticks = [value for value in across.ticks() if value == round(value)]
    for value in ticks:
        x = _x(across.share(value))
        yield tag("line", x1=x, x2=x, y1=base, y2=base + 4, cls="axis")
        yield tag("text", safe(tick_text(value, ticks)), x=x, y=base + 17, cls="tick middle")
    middle = (TOP + base) / 2
    yield tag("text", safe(chart.across), x=_x(0.5), y=HEIGHT - 6, cls="name middle")
    turned = f"rotate(-90 11 {middle})"
    yield tag("text", safe(_short(chart.title, 30)), x=11, y=middle, cls="name middle", transform=turned)


def _legend(chart: Chart) -> Iterator[str]:
    """A sample of each line, its name and its newest value."""
    x = float(LEFT)
    for one in chart.curves:
        known = [y for _, y in one.points if y is not None]
        if not known:
            continue
        text = f"{_short(one.name, 26)} {chart.show(known[-1])}"
        if one.joined:
            yield tag("line", x1=x, x2=x + 20, y1=12, y2=12, cls=f"curve {one.look}")
        else:
            yield tag("circle", cx=x + 10, cy=12, r=3, cls=f"dot {one.look}")
        yield tag("text", safe(text), x=x + 25, y=16, cls="legend")
        x += 25 + LETTER * len(inert(text)) + 16
    if chart.star is not None:
        yield tag("text", safe(f"★ {chart.star[2]}"), x=x, y=16, cls="legend")


def _strips(chart: Chart, across: Scale) -> Iterator[str]:
    """Over each place a strip that says the values there when the pointer rests on it."""
    named: dict[float, list[str]] = {}
    for one in chart.curves:
        for x, y in one.points:
            if y is not None and drawable(x):
                named.setdefault(x, []).append(f"{_short(one.name, 40)} {chart.show(y)}")
    places = [x for x, _ in _thinned([(x, None) for x in sorted(named)], STRIPS)]
    shown = [_x(across.share(x)) for x in places]
    for place, x in enumerate(places):
        left = (shown[place - 1] + shown[place]) / 2 if place else LEFT
        right = (shown[place] + shown[place + 1]) / 2 if place + 1 < len(places) else WIDTH - RIGHT
        note = tag("title", safe(f"{chart.across} {x:.10g}: {', '.join(named[x])}"))
        yield tag(
            "rect",
            note,
            x=round(left, 1),
            y=TOP,
            width=round(max(right - left, 0.0), 1),
            height=HEIGHT - BOTTOM - TOP,
            cls="strip",
        )


def _short(text: str, width: int) -> str:
    return shorten(inert(text), width)
