"""The structure that is being learned: mixing weights by choice (rows) and candidate (columns), and what they derive.

            none  skip  …3x3     derived
    1<-0    0.05 ▸0.71  0.24     skip_connect          was none
    2<-0    0.11  0.09 ▸0.80     nor_conv_3x3

Choices with the same candidates share one table. A choice with more candidates than there are columns (k of n inputs,
a fusion of edge and operation) has a row with its heaviest candidates by name. Without weights (controllers that need
only values) the derived architecture alone is shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.text import Text

from metanas.ui.fields import Label
from metanas.ui.panels.timeline import label_text
from metanas.ui.paper import ACCENT, DIM, OUTER, WARN, Paper, shade
from metanas.ui.plot import bar, finite, sparkline
from metanas.ui.points import Choice, EpochPoint
from metanas.ui.state import RunState
from metanas.ui.units import lasting, loss

NARROW, WIDE = 7, 13  # cells of one column of the heat map
DERIVED = 13  # cells that the derived label needs at least to be worth a column
HEAVIEST = 4  # candidates named in a row of a choice that is too wide for a table


def structure(state: RunState, paper: Paper) -> list[Text]:
    """A headline with the entropy and the discretisation gap, the heat map, and the benchmark's string."""
    last = state.last
    if last is None:
        return _evaluated(state, paper)
    title = paper.rule("structure", _note(state, paper))
    foot = _string(last.key, paper)
    rows = None if paper.height is None else paper.height - 1 - len(foot)
    body: list[Text] = []
    for group in _groups(state, last):
        body += _table(group, last, paper)
    if rows is not None and len(body) > rows:
        hidden = len(body) - max(rows - 1, 0)
        body = [*body[: max(rows - 1, 0)], Text(f"{paper.glyph('⋮', ':')} {hidden} more rows", style=DIM)]
    return paper.rows([title, *body, *foot])


def _note(state: RunState, paper: Paper) -> str:
    last = state.history[-1]
    parts = []
    if last.entropy is not None:
        past = [point.entropy for point in state.history]
        spark = sparkline(past, 16, low=0.0, high=1.0, ascii_only=paper.ascii_only) if len(finite(past)) > 1 else ""
        parts.append(f"entropy {spark} {loss(last.entropy)}" if spark else f"entropy {loss(last.entropy)}")
    if last.gap is not None:
        parts.append(f"gap {loss(last.gap)}")
    return "   ".join(parts)


def _groups(state: RunState, last: EpochPoint) -> list[list[Choice]]:
    """The choices by their candidates, in order; what the space does not list is shown with numbered candidates."""
    known = {choice.name: choice for choice in state.choices}
    names = list(dict.fromkeys([*known, *last.weights, *last.architecture]))
    groups: dict[tuple[str, ...], list[Choice]] = {}
    for name in names:
        values = last.weights.get(name, ())
        choice = known.get(name) or Choice(name, tuple(str(n) for n in range(len(values))))
        groups.setdefault(choice.candidates, []).append(choice)
    return list(groups.values())


def _table(group: list[Choice], last: EpochPoint, paper: Paper) -> list[Text]:
    label = min(max(len(paper.safe(choice.name)) for choice in group), 16, paper.width // 4)
    candidates = group[0].candidates
    longest = max((len(paper.safe(name)) for name in candidates), default=0)
    room = paper.width - label - 2
    beside = room - len(candidates) * NARROW >= DERIVED + 3
    column = min(max(longest + 1, NARROW), WIDE, (room - beside * (DERIVED + 3)) // max(len(candidates), 1))
    if column < NARROW or not any(choice.name in last.weights for choice in group):
        return [_row_of_names(choice, label, last, paper) for choice in group]
    head = Text(" " * (label + 1), style=DIM)
    for name in candidates:
        head.append(" " + paper.cell(name, column - 1, right=True))
    lines = [head.append("  derived") if beside else head]
    top = _top(group, last)
    for choice in group:
        line = Text(paper.cell(choice.name, label) + " ", style="bold")
        line.append_text(_cells(choice, last, column, top, paper))
        if beside:
            line.append_text(_derived(choice.name, last, paper))
        lines.append(line)
    return lines


def _top(group: list[Choice], last: EpochPoint) -> float:
    """The weight of the brightest shade: the largest, but at least twice the uniform one (nothing is decided then)."""
    weights = [value for choice in group for value in finite(last.weights.get(choice.name, ()))]
    return max([*weights, 2 / max(len(group[0].candidates), 1)])


def _cells(choice: Choice, last: EpochPoint, column: int, top: float, paper: Paper) -> Text:
    values = last.weights.get(choice.name, ())
    taken = _taken(last.architecture.get(choice.name))
    line = Text(style="not bold")
    for place, candidate in enumerate(choice.candidates):
        value = values[place] if place < len(values) else math.nan
        mark = paper.glyph("▸", ">") if candidate in taken else " "
        number = f"{value:.2f}" if value == value else "-"
        share = value / top
        if paper.colour:
            line.append(" ").append(f"{mark}{number}".rjust(column - 1), style=shade(share))
        else:
            line.append(f"{mark}{number} {bar(share, ascii_only=paper.ascii_only)}".rjust(column))
    return line


def _derived(name: str, last: EpochPoint, paper: Paper) -> Text:
    label = paper.safe(label_text(last.architecture.get(name)))
    if name not in last.changed:
        return Text(f"  {label}", style="not bold")
    was = paper.safe(label_text(last.before.get(name)))
    return Text(f"  {label}", style=f"bold {OUTER}").append(f"  was {was}", style=f"not bold {DIM}")


def _row_of_names(choice: Choice, label: int, last: EpochPoint, paper: Paper) -> Text:
    """The heaviest candidates by name, or the derived label alone where the choice has no weights."""
    line = Text(paper.cell(choice.name, label) + " ", style="bold")
    values = last.weights.get(choice.name, ())
    if not values:
        return line.append_text(_derived(choice.name, last, paper))
    taken = _taken(last.architecture.get(choice.name))
    pairs = [pair for pair in zip(choice.candidates, values, strict=False) if pair[1] == pair[1]]
    for candidate, value in sorted(pairs, key=lambda pair: (pair[0] not in taken, -pair[1]))[:HEAVIEST]:
        mark = paper.glyph("▸", ">") if candidate in taken else " "
        style = WARN if choice.name in last.changed and candidate in taken else ""
        line.append(f" {mark}{paper.safe(candidate)} {value:.2f}", style=f"not bold {style}")
    return line


def _taken(label: Label | None) -> tuple[str, ...]:
    return () if label is None else (label,) if isinstance(label, str) else label


def _evaluated(state: RunState, paper: Paper) -> list[Text]:
    """The best architecture of a controller that needs only values."""
    if not state.best or not state.best[0].architecture:
        return []
    best = state.best[0]
    lines = [paper.rule("structure", f"value {loss(best.value)}{lasting(best.epochs)}")]
    return paper.rows([*lines, *cell(best.architecture, paper), *_string(best.key, paper)])


def _string(key: str | None, paper: Paper) -> list[Text]:
    """The benchmark's string of an architecture: whole where the height is free, otherwise one line."""
    if not key:
        return []
    shown = paper.safe(key)
    starts = range(0, len(shown), paper.width) if paper.height is None else (0,)
    end = len(shown) if paper.height is not None else paper.width
    return [Text(shown[start : start + end], style=f"bold {ACCENT}") for start in starts]


def cell(architecture: Mapping[str, Label], paper: Paper) -> list[Text]:
    """An architecture as text, one line per choice.

    >>> [line.plain for line in cell({"1<-0": "none", "in": ("0", "2")}, Paper())]
    ['1<-0  none', 'in    0 + 2']
    """
    width = max((len(paper.safe(name)) for name in architecture), default=0)
    lines = []
    for name, label in architecture.items():
        line = Text(paper.cell(name, min(width, 24)), style="bold")
        lines.append(line.append(f"  {paper.safe(label_text(label))}", style="not bold"))
    return lines
