"""The front of a search for several objectives: a scatter by the first two of them, and a table with all.

    score      ◆c
      │   ◆b    ·
      │ ◆a  ·  ·        ◆ on the front, with the line of what it dominates    · what else was evaluated
      └──────────── parameters

An objective with a minus before its name is to be small. Of three objectives and more the picture is a projection: what
is on the front may seem to be beaten there, and no line is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from metanas.ui.fronts import hypervolume
from metanas.ui.page.markup import safe, section, table, tag
from metanas.ui.page.scales import Linear, Scale, drawable, possible, shown_tick, span, widened
from metanas.ui.panels.pareto import LETTERS, told_as
from metanas.ui.panels.timeline import label_text
from metanas.ui.points import ValuePoint
from metanas.ui.state import RunState
from metanas.ui.text import inert, shorten

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 66, 22, 30, 40  # around the plot
ROWS = 200  # of the table
WANTED = 5  # ticks of the lower axis that have room for their number


@dataclass(frozen=True)
class Axis:
    """An objective as it is drawn: its name in the run, its range, and how its values are written."""

    name: str
    scale: Scale
    show: Callable[[float | None], str]

    @property
    def title(self) -> str:
        return shorten(inert(self.name.removeprefix("-")), 30)


def front(state: RunState) -> str:
    """The section; "" for a search with one objective."""
    if not state.front or len(names := list(state.front[-1].values)) < 2:
        return ""
    points = sorted(state.front, key=lambda point: -point.values[names[0]])
    note = f"{len(points)} of {state.values[-1].step} on the front"
    covered = hypervolume(points, state.extent)
    note += "" if covered is None else f", hypervolume {covered:.4f} of what was evaluated"
    return section("front", _figure(names, points, state), _table(names, points, state), note=note)


def _figure(names: Sequence[str], points: Sequence[ValuePoint], state: RunState) -> str:
    others = [p for p in state.values if p.values.keys() == {*names} and p not in state.front]
    axes = [_axis(name, [p.values[name] for p in (*others, *points)], state) for name in names[:2]]
    if axes[0] is None or axes[1] is None:
        return ""
    up, across = axes[0], axes[1]
    drawn = [*_frame(across, up), *_legend(), *(_other(p, across, up) for p in others if _fits(p, across, up))]
    shown = [point for point in points if _fits(point, across, up)]
    if len(names) == 2:
        drawn.append(tag("path", d=_stairs(shown, across, up), cls="curve second"))
    for place, point in enumerate(shown):
        drawn += _found(point, LETTERS[place] if place < len(LETTERS) else "", across, up)
    words = f"{up.title} against {across.title}"
    picture = tag("svg", *drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=f"{words}, and the front")
    return tag("div", tag("figure", tag("figcaption", safe(words)), picture, cls="chart"), cls="figures")


def _axis(name: str, values: Sequence[float], state: RunState) -> Axis | None:
    show, ends = told_as(name, state), span(values)
    return None if ends is None else Axis(name, Linear(*possible(*widened(*ends, share=0.06), show)), show)


def _fits(point: ValuePoint, *axes: Axis) -> bool:
    return all(drawable(point.values[axis.name]) for axis in axes)


def _place(point: ValuePoint, across: Axis, up: Axis) -> tuple[float, float]:
    x, y = (axis.scale.share(point.values[axis.name]) for axis in (across, up))
    return round(LEFT + x * (WIDTH - LEFT - RIGHT), 1), round(HEIGHT - BOTTOM - y * (HEIGHT - BOTTOM - TOP), 1)


def _frame(across: Axis, up: Axis) -> Iterator[str]:
    """Both axes with their ticks and names."""
    base = HEIGHT - BOTTOM
    yield tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=base, y2=base, cls="axis")
    ticks = up.scale.ticks()
    for value in ticks:
        y = round(base - up.scale.share(value) * (base - TOP), 1)
        yield tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, cls="grid")
        yield tag("text", safe(shown_tick(value, ticks, up.show)), x=LEFT - 6, y=y + 4, cls="tick end")
    ticks = across.scale.ticks()
    for value in ticks[:: 2 if len(ticks) > WANTED else 1]:
        x = round(LEFT + across.scale.share(value) * (WIDTH - LEFT - RIGHT), 1)
        yield tag("line", x1=x, x2=x, y1=TOP, y2=base, cls="grid")
        yield tag("text", safe(shown_tick(value, ticks, across.show)), x=x, y=base + 17, cls="tick middle")
    middle = (TOP + base) / 2
    yield tag("text", safe(across.title), x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 6, cls="name middle")
    yield tag("text", safe(up.title), x=11, y=middle, cls="name middle", transform=f"rotate(-90 11 {middle})")


def _legend() -> Iterator[str]:
    yield _diamond(LEFT + 10, 12)
    yield tag("text", "on the front", x=LEFT + 22, y=16, cls="legend")
    yield tag("circle", cx=LEFT + 120, cy=12, r=3, cls="dot first")
    yield tag("text", "evaluated", x=LEFT + 130, y=16, cls="legend")


def _other(point: ValuePoint, across: Axis, up: Axis) -> str:
    x, y = _place(point, across, up)
    return tag("circle", _note(point, across, up), cx=x, cy=y, r=3, cls="dot first")


def _found(point: ValuePoint, letter: str, across: Axis, up: Axis) -> Iterator[str]:
    """A point of the front, with its letter on the side of what would be better, where no line is."""
    x, y = _place(point, across, up)
    left, below = (axis.name.startswith("-") for axis in (across, up))
    yield _diamond(x, y, _note(point, across, up))
    if letter:
        at = {"x": round(x - 7 if left else x + 7, 1), "y": round(y + 15 if below else y - 6, 1)}
        yield tag("text", letter, **at, cls="legend end" if left else "legend")


def _diamond(x: float, y: float, note: str = "") -> str:
    corners = f"{x},{y - 6:.1f} {x + 6:.1f},{y} {x},{y + 6:.1f} {x - 6:.1f},{y}"
    return tag("polygon", note, points=corners, cls="diamond")


def _note(point: ValuePoint, across: Axis, up: Axis) -> str:
    told = ", ".join(f"{axis.title} {axis.show(point.values[axis.name])}" for axis in (up, across))
    return tag("title", safe(f"step {point.step}: {told}"))


def _stairs(points: Sequence[ValuePoint], across: Axis, up: Axis) -> str:
    """The edge of what the front dominates: at its own level until the next point is reached or begins."""
    places = sorted(_place(point, across, up) for point in points)
    path = [f"M{places[0][0]} {places[0][1]}"] if places else []
    for (x, y), (next_x, next_y) in pairwise(places):
        corner = (next_x, y) if across.name.startswith("-") else (x, next_y)
        path.append(f"L{corner[0]} {corner[1]}L{next_x} {next_y}")
    return "".join(path)


def _table(names: Sequence[str], points: Sequence[ValuePoint], state: RunState) -> str:
    shown = [told_as(name, state) for name in names]
    rows = []
    for place, point in enumerate(points[:ROWS]):
        told = [safe(show(point.values[name])) for name, show in zip(names, shown, strict=True)]
        letter = LETTERS[place] if place < len(LETTERS) else ""
        key = point.key or ", ".join(f"{name}: {label_text(label)}" for name, label in point.architecture.items())
        rows.append([tag("b", letter), *told, safe(point.step), tag("code", safe(key))])
    heads = ["", *(safe(shorten(inert(name.removeprefix("-")), 30)) for name in names), "at", "architecture"]
    return table(heads, rows, range(1, len(heads) - 1))
