"""What a better score costs: the trained networks by parameters and test score, and which no other beats in both.

     95.8%┤                         ●a      a ● random 2   95.8%   30.8k
          │                            ○b   b ○ derived    94.4%   32.3k  a is better
     92.2%┤●c                               c ● random 1   92.2%   21.5k
           21.5k parameters         32.3k

A network is on the front (Pareto) where no other one has as high a score with fewer parameters, or a higher score with
as few. Of a search for several objectives, the panel shows those: what it evaluated, by the first two of them, and the
front with all of them and its hypervolume.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from rich.text import Text

from metanas.ui.fronts import hypervolume
from metanas.ui.panels.curves import AXIS
from metanas.ui.paper import DIM, GOOD, Paper
from metanas.ui.points import Trained
from metanas.ui.state import RunState
from metanas.ui.units import count, loss, score

LETTERS = "abcdefghijklmnopqrstuvwxyz"
ROWS, WIDEST = 7, 48  # of the plot, and its cells
BESIDE = 92  # from this width on, the list stands beside the plot
NARROW = 30  # below this width there is no plot
NAME, NUMBER = 12, 8


def pareto(state: RunState, paper: Paper) -> list[Text]:
    """A headline with how many are on the front, the plot where there is room for it, and a line per network.

    >>> from metanas.ui.state import fold
    >>> state = RunState("first")
    >>> for name, share, parameters in (("derived", 0.9, 100), ("random 1", 0.8, 200)):
    ...     event = {"kind": "network", "network": name, "test_score": share, "parameters": parameters}
    ...     state = fold(state, event)
    >>> for line in pareto(state, Paper(width=60, height=3)): print(line.plain.rstrip())
    ── accuracy against parameters ────── 1 of 2 on the front ──
    a ● derived          90.0%       100
    b ○ random 1         80.0%       200  a is better
    """
    if state.front:
        return _objectives(state, paper)
    nets = [net for net in state.networks if _drawable(net)][: len(LETTERS)]
    if len(nets) < 2 or state.tuning:
        return []
    nets.sort(key=lambda net: -(net.test_score or 0.0))
    rivals = [next((place for place, rival in enumerate(nets) if beats(rival, net)), None) for net in nets]
    note = f"{rivals.count(None)} of {len(nets)} on the front"
    title = paper.rule(f"{paper.safe(state.metric)} against parameters", note)
    listed = [_line(place, net, rivals[place], state, paper) for place, net in enumerate(nets)]
    spots = [
        Spot(net.test_score or 0.0, net.parameters or 0.0, *_mark(place, rivals, paper), LETTERS[place])
        for place, net in enumerate(nets)
    ]
    axes = Axes(partial(score, metric=state.metric), count, "parameters")
    return _arranged(title, spots, listed, axes, paper)


def _arranged(title: Text, spots: Sequence[Spot], listed: list[Text], axes: Axes, paper: Paper) -> list[Text]:
    """The plot above the list, or beside it where that is wide enough."""
    beside = paper.width >= BESIDE
    wide = min(paper.width // 2 if beside else paper.width, WIDEST)
    room = ROWS if paper.height is None else min(paper.height - 3 - (0 if beside else len(listed)), ROWS)
    if room < 4 or paper.width < NARROW:
        return paper.rows([title, *listed])
    plot = _plot(spots, axes, wide, room, paper)
    if not beside:
        return paper.rows([title, *plot, *listed])
    lines = []
    for number in range(max(len(plot), len(listed))):
        line = plot[number] if number < len(plot) else Text(no_wrap=True)
        line.pad_right(wide + 3 - line.cell_len)
        lines.append(line.append_text(listed[number]) if number < len(listed) else line)
    return paper.rows([title, *lines])


@dataclass(frozen=True)
class Spot:
    """A point of the plot: how high, how far to the right, and how it is drawn."""

    up: float
    across: float
    glyph: str
    style: str
    letter: str


@dataclass(frozen=True)
class Axes:
    """How the numbers of both axes are written, and what is drawn to the right."""

    up: Callable[[float | None], str]
    across: Callable[[float | None], str]
    name: str


def _objectives(state: RunState, paper: Paper) -> list[Text]:
    """The front of a search for several objectives, and what else it evaluated as dots."""
    names = list(state.front[-1].values)
    across = names[1] if len(names) > 1 else names[0]
    shown = {name: told_as(name, state) for name in names}
    front = sorted(state.front, key=lambda point: -point.values[names[0]])[: len(LETTERS)]
    spots = [
        Spot(p.values[names[0]], p.values[across], paper.glyph("●", "*"), f"bold {GOOD}", LETTERS[place])
        for place, p in enumerate(front)
    ]
    spots += [
        Spot(p.values[names[0]], p.values[across], paper.glyph("·", "."), "not bold", " ")
        for p in state.values
        if p.values.keys() == set(names) and p not in state.front
    ]
    listed = []
    for place, point in enumerate(front):
        line = Text(f"{LETTERS[place]} ", style="bold").append(f"{paper.glyph('●', '*')} ", style=f"bold {GOOD}")
        line.append(f"step {point.step:<{NUMBER}}", style="not bold")
        told = "".join(f"  {shown[name](point.values[name]):>{NUMBER}}" for name in names)
        listed.append(line.append(told, style="not bold").append(f"  {paper.safe(point.key or '')}", style=DIM))
    covered = hypervolume(state.front, state.extent)
    if covered is not None:
        listed.append(Text(f"hypervolume {covered:.4f} of what was evaluated", style=DIM))
    words = [paper.safe(name.removeprefix("-")) for name in names]
    count_of = f"{len(state.front)} of {state.values[-1].step} on the front"
    title = paper.rule(" against ".join(words[:2]) + "".join(f", {word}" for word in words[2:]), count_of)
    return _arranged(title, spots, listed, Axes(shown[names[0]], shown[across], words[min(1, len(words) - 1)]), paper)


def told_as(name: str, state: RunState) -> Callable[[float | None], str]:
    """How the values of an objective are written."""
    plain = name.removeprefix("-")
    if plain == "score":
        return partial(score, metric=state.metric)
    return count if plain in ("parameters", "multiply_adds") else loss


def beats(rival: Trained, net: Trained) -> bool:
    """Whether a network is at least as good in both, and better in one.

    >>> a, b = (Trained("", None, {}, share, None, parameters, None) for share, parameters in ((0.9, 10), (0.8, 10)))
    >>> beats(a, b), beats(b, a), beats(a, a)
    (True, False, False)
    """
    if rival.test_score is None or net.test_score is None or rival.parameters is None or net.parameters is None:
        return False
    better = rival.test_score - net.test_score, net.parameters - rival.parameters
    return min(better) >= 0 and max(better) > 0


def _drawable(net: Trained) -> bool:
    return all(value is not None and math.isfinite(value) for value in (net.test_score, net.parameters))


def _mark(place: int, rivals: Sequence[int | None], paper: Paper) -> tuple[str, str]:
    """The glyph of a network and its style."""
    return (paper.glyph("●", "*"), f"bold {GOOD}") if rivals[place] is None else (paper.glyph("○", "o"), "not bold")


def _line(place: int, net: Trained, rival: int | None, state: RunState, paper: Paper) -> Text:
    glyph, style = _mark(0, [rival], paper)
    line = Text(f"{LETTERS[place]} ", style="bold").append(f"{glyph} ", style=style)
    line.append(paper.cell(net.network, NAME), style="bold" if net.network == state.planned[0] else "not bold")
    line.append(
        f"  {score(net.test_score, state.metric):>{NUMBER}}  {count(net.parameters):>{NUMBER}}", style="not bold"
    )
    told = "" if rival is None else f"  {LETTERS[rival]} is better"
    return line.append(told, style=f"not bold {DIM}")


def _plot(spots: Sequence[Spot], axes: Axes, wide: int, rows: int, paper: Paper) -> list[Text]:
    """The spots as glyphs with their letters; where two fall on one place, the one that comes first is seen."""
    heights, widths = [spot.up for spot in spots], [spot.across for spot in spots]
    field: list[list[tuple[str, str]]] = [[(" ", "")] * (wide - AXIS) for _ in range(rows)]
    for spot in reversed(spots):
        row = rows - 1 - round(_share(spot.up, heights) * (rows - 1))
        column = round(_share(spot.across, widths) * (wide - AXIS - 2))
        field[row][column : column + 2] = [(spot.glyph, spot.style), (spot.letter, DIM)]
    ticks = {0: axes.up(max(heights)), rows - 1: axes.up(min(heights))}
    lines = []
    for number, letters in enumerate(field):
        told = ticks.get(number, "")
        axis = paper.glyph(*("┤", "|") if told else ("│", "|"))
        line = Text(told.rjust(AXIS - 1)[: AXIS - 1] + axis, style=DIM, no_wrap=True)
        for letter, style in letters:
            line.append(letter, style=f"not dim {style}" if style != DIM else "")
        lines.append(line)
    least, most = f"{axes.across(min(widths))} {axes.name}", axes.across(max(widths))
    foot = Text(" " * AXIS + least, style=DIM)
    foot.pad_right(max(wide - foot.cell_len - len(most), 1))
    return [*lines, foot.append(most)]


def _share(value: float, values: Sequence[float]) -> float:
    low, high = min(values), max(values)
    share = (value - low) / (high - low) if high > low else 0.5
    return share if math.isfinite(share) else 0.5  # numbers beyond what a difference can hold
