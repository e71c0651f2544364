"""Networks beside each other as dots: a row for each, a dot at its value, a line at the mean of those to be beaten.

derived     ·····················◆
random 1    ············○
random 2    ·················○
            0.90     0.95     1.00
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from metanas.ui.page.markup import safe, tag
from metanas.ui.page.scales import Linear, Scale, drawable, possible, shown_tick, span, widened
from metanas.ui.text import inert, shorten

WIDTH, ROW = 460, 22
LEFT, RIGHT, TOP, BOTTOM = 104, 62, 26, 40
MOST = 20  # rows; the rivals of more networks share one
WANTED = 5  # ticks that have room for their number


@dataclass(frozen=True)
class Dot:
    """A network and its value; `first`: the one that was found; `rival`: it is among those that one must beat."""

    name: str
    value: float | None
    first: bool = False
    rival: bool = True


def dot_plot(title: str, dots: Sequence[Dot], show: Callable[[float | None], str], named: str = "mean") -> str:
    """A figure, or "" where fewer than two networks have a value.

    Args:
        title: what is measured.
        dots: one for each network.
        show: a value as text.
        named: what the line at the mean of the rivals is called.

    >>> dot_plot("score", [Dot("derived", 0.5, first=True)], str)
    ''
    """
    known = [dot for dot in dots if drawable(dot.value)]
    ends = span(dot.value for dot in known)
    if ends is None or len(known) < 2:
        return ""
    across, rows = Linear(*possible(*widened(*ends, share=0.08), show)), _rows(known)
    height = TOP + ROW * len(rows) + BOTTOM
    base = height - BOTTOM
    drawn = [*_axis(title, across, base, show), *_mean(known, across, base, show, named)]
    for place, (name, row) in enumerate(rows):
        drawn += _row(name, row, TOP + ROW * (place + 0.5), across, show)
    picture = tag("svg", *drawn, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=f"{title} of the networks")
    return tag("figure", tag("figcaption", safe(title)), picture, cls="chart")


def _rows(dots: Sequence[Dot]) -> list[tuple[str, list[Dot]]]:
    if len(dots) <= MOST:
        return [(dot.name, [dot]) for dot in dots]
    others = [dot for dot in dots if not dot.first]
    return [*((dot.name, [dot]) for dot in dots if dot.first), (f"{len(others)} others", others)]


def _x(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _axis(title: str, across: Scale, base: int, show: Callable[[float | None], str]) -> Iterator[str]:
    yield tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=base, y2=base, cls="axis")
    ticks = across.ticks()
    for value in ticks[:: 2 if len(ticks) > WANTED else 1]:
        x = _x(across.share(value))
        yield tag("line", x1=x, x2=x, y1=TOP, y2=base, cls="grid")
        yield tag("text", safe(shown_tick(value, ticks, show)), x=x, y=base + 17, cls="tick middle")
    yield tag("text", safe(shorten(inert(title), 40)), x=_x(0.5), y=base + BOTTOM - 6, cls="name middle")


def _mean(
    dots: Sequence[Dot], across: Scale, base: int, show: Callable[[float | None], str], named: str
) -> Iterator[str]:
    rivals = [dot.value for dot in dots if dot.rival and not dot.first and dot.value is not None]
    if not rivals or not any(dot.first for dot in dots):
        return
    mean = sum(rivals) / len(rivals)
    x = _x(across.share(mean))
    yield tag("line", x1=x, x2=x, y1=TOP - 4, y2=base, cls="level")
    yield tag("text", safe(f"{named} {show(mean)}"), x=x, y=TOP - 10, cls="tick middle")


def _row(name: str, dots: Sequence[Dot], y: float, across: Scale, show: Callable[[float | None], str]) -> Iterator[str]:
    yield tag("text", safe(shorten(inert(name), 15)), x=LEFT - 8, y=y + 4, cls="legend end")
    yield tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, cls="grid")
    for dot in dots:
        if dot.value is None:
            continue
        x, note = _x(across.share(dot.value)), tag("title", safe(f"{dot.name}: {show(dot.value)}"))
        if dot.first:
            corners = f"{x},{y - 7} {x + 7},{y} {x},{y + 7} {x - 7},{y}"
            yield tag("polygon", note, points=corners, cls="diamond")
        else:
            yield tag("circle", note, cx=x, cy=y, r=5, cls="ring")
    if len(dots) == 1:
        yield tag("text", safe(show(dots[0].value)), x=WIDTH - RIGHT + 8, y=y + 4, cls="legend")
