"""Which architecture was derived when: a band for each choice over the epochs, and a table of the changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from metanas.ui.page.markup import safe, section, table, tag
from metanas.ui.page.scales import Linear, tick_text
from metanas.ui.panels.timeline import label_text
from metanas.ui.points import Choice, EpochPoint
from metanas.ui.state import RunState
from metanas.ui.text import inert, shorten

WIDTH, BAND, LETTER = 920, 24, 6.6
RIGHT, BOTTOM = 10, 38
MOST = 40  # bands
HUES = 8
CHANGES = 50  # rows of the table
NAMED = 3  # changed choices that are named; of more, only their number is said


def timeline(state: RunState) -> str:
    """The section; "" where nothing was derived."""
    points = [point for point in state.history if point.architecture]
    changes = [point for point in points if point.changed or not point.before]
    if not changes:
        return ""
    number = len(changes) - 1
    note = f"{number} change{'' if number == 1 else 's'}"
    note += f", the last at epoch {changes[-1].epoch}" if number else ""
    return section("derived architectures", _bands(points, state.choices), _table(changes, points[-1].epoch), note=note)


def _table(changes: Sequence[EpochPoint], last: int) -> str:
    ends = [point.epoch for point in changes[1:]] + [last + 1]
    rows = [
        (safe(point.epoch), safe(end - point.epoch), safe(_changed(point)), tag("code", safe(point.key or "")))
        for point, end in list(zip(changes, ends, strict=True))[::-1][:CHANGES]
    ]
    more = _more(len(changes) - CHANGES, "earlier changes are not listed")
    heads = ("epoch", "kept", "changed", "architecture")
    if not any(point.key for point in changes):
        return table(heads[:3], (row[:3] for row in rows), (0, 1)) + more
    return table(heads, rows, (0, 1)) + more


def _more(number: int, words: str) -> str:
    """What was left out; "" where nothing was."""
    return tag("p", safe(f"{number} {words}"), cls="quiet") if number > 0 else ""


def _changed(point: EpochPoint) -> str:
    if not point.before:
        return "first"
    if len(point.changed) > NAMED:
        return f"{len(point.changed)} of {len(point.architecture)} choices"
    return ", ".join(f"{name} → {label_text(point.architecture[name])}" for name in point.changed)


def _bands(points: Sequence[EpochPoint], choices: Sequence[Choice]) -> str:
    if len(points) < 2:
        return ""
    taken = dict.fromkeys(name for point in points for name in point.architecture)
    every = [name for name in dict.fromkeys([*(choice.name for choice in choices), *taken]) if name in taken]
    names = every[:MOST]
    hues = _hues(names, points, {choice.name: choice.candidates for choice in choices})
    left = min(max(len(inert(name)) for name in names), 18) * LETTER + 14
    across = Linear(points[0].epoch, points[-1].epoch + 1)
    height = BAND * len(names) + BOTTOM
    drawn: list[str] = []
    for place, name in enumerate(names):
        y = place * BAND
        drawn.append(tag("text", safe(shorten(inert(name), 18)), x=left - 8, y=y + 16, cls="legend end"))
        drawn += _band(name, points, y, across, left, hues)
    drawn += _axis(across, left, BAND * len(names))
    picture = tag("svg", *drawn, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label="derived label by epoch")
    more = _more(len(every) - MOST, "more choices are not drawn")
    return tag("figure", tag("div", picture, cls="scrolls"), more, cls="wide")


def _hues(
    names: Sequence[str], points: Sequence[EpochPoint], candidates: Mapping[str, tuple[str, ...]]
) -> dict[tuple[str, str], int | None]:
    """The colour of each label of each choice: the same for choices with the same candidates, none for nothing."""
    hues: dict[tuple[str, str], int | None] = {}
    seen: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        known = seen.setdefault(candidates.get(name, ()), [])
        for label in dict.fromkeys(label_text(point.architecture.get(name)) for point in points):
            if label == label_text(None):
                hues[name, label] = None
                continue
            if label not in known:
                known.append(label)
            hues[name, label] = known.index(label) % HUES
    return hues


def _band(
    name: str,
    points: Sequence[EpochPoint],
    y: int,
    across: Linear,
    left: float,
    hues: Mapping[tuple[str, str], int | None],
) -> Iterator[str]:
    """A piece for each stretch of epochs with one label; the label where there is room for it."""

    def at(epoch: int) -> float:
        return round(left + across.share(epoch) * (WIDTH - RIGHT - left), 1)

    stretches = [
        (label, list(group)) for label, group in groupby(points, lambda p: label_text(p.architecture.get(name)))
    ]
    ends = [group[0].epoch for _, group in stretches[1:]] + [points[-1].epoch + 1]
    for (label, group), end in zip(stretches, ends, strict=True):
        first, x, wide = group[0].epoch, at(group[0].epoch), at(end) - at(group[0].epoch)
        note = tag("title", safe(f"{name}: {label}, epochs {first} to {end - 1}"))
        size = {"x": x, "y": y + 2, "width": round(max(wide - 1, 0.5), 1), "height": BAND - 4}
        yield tag("rect", note, rx=2, cls=f"hue{hues[name, label]}".lower(), **size)
        shown = inert(label)
        if len(shown) * LETTER + 8 < wide:
            yield tag("text", safe(shown), x=x + 5, y=y + 16, cls="legend")


def _axis(across: Linear, left: float, base: int) -> Iterator[str]:
    yield tag("line", x1=left, x2=WIDTH - RIGHT, y1=base, y2=base, cls="axis")
    inside = Linear(across.low, across.high - 1)
    ticks = [value for value in inside.ticks() if value == round(value)]
    for value in ticks:
        x = round(left + across.share(value) * (WIDTH - RIGHT - left), 1)
        yield tag("line", x1=x, x2=x, y1=base, y2=base + 4, cls="axis")
        yield tag("text", safe(tick_text(value, ticks)), x=x, y=base + 17, cls="tick middle")
    yield tag("text", "epoch", x=(left + WIDTH - RIGHT) / 2, y=base + BOTTOM - 6, cls="name middle")
