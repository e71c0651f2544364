"""What a better score costs: the trained networks by parameters and test score, and which no other beats in both.

     95.8%┤                         ●a      a ● random 2   95.8%   30.8k
          │                            ○b   b ○ derived    94.4%   32.3k  a is better
     92.2%┤●c                               c ● random 1   92.2%   21.5k
           21.5k parameters         32.3k

A network is on the front (Pareto) where no other one has as high a score with fewer parameters, or a higher score with
as few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.text import Text

from metanas.ui.panels.curves import AXIS
from metanas.ui.paper import DIM, GOOD, Paper
from metanas.ui.points import Trained
from metanas.ui.state import RunState
from metanas.ui.units import count, score

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
    nets = [net for net in state.networks if _drawable(net)][: len(LETTERS)]
    if len(nets) < 2 or state.tuning:
        return []
    nets.sort(key=lambda net: -(net.test_score or 0.0))
    rivals = [next((place for place, rival in enumerate(nets) if beats(rival, net)), None) for net in nets]
    note = f"{rivals.count(None)} of {len(nets)} on the front"
    title = paper.rule(f"{paper.safe(state.metric)} against parameters", note)
    listed = [_line(place, net, rivals[place], state, paper) for place, net in enumerate(nets)]
    beside = paper.width >= BESIDE
    wide = min(paper.width // 2 if beside else paper.width, WIDEST)
    room = ROWS if paper.height is None else min(paper.height - 3 - (0 if beside else len(listed)), ROWS)
    if room < 4 or paper.width < NARROW:
        return paper.rows([title, *listed])
    plot = _plot(nets, rivals, wide, room, state, paper)
    if not beside:
        return paper.rows([title, *plot, *listed])
    lines = []
    for number in range(max(len(plot), len(listed))):
        line = plot[number] if number < len(plot) else Text(no_wrap=True)
        line.pad_right(wide + 3 - line.cell_len)
        lines.append(line.append_text(listed[number]) if number < len(listed) else line)
    return paper.rows([title, *lines])


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


def _plot(
    nets: Sequence[Trained], rivals: Sequence[int | None], wide: int, rows: int, state: RunState, paper: Paper
) -> list[Text]:
    """The networks as glyphs with their letters; where two fall on one place, the better one is seen."""
    scores = [net.test_score or 0.0 for net in nets]
    sizes = [net.parameters or 0.0 for net in nets]
    field: list[list[tuple[str, str]]] = [[(" ", "")] * (wide - AXIS) for _ in range(rows)]
    for place in reversed(range(len(nets))):
        row = rows - 1 - round(_share(scores[place], scores) * (rows - 1))
        column = round(_share(sizes[place], sizes) * (wide - AXIS - 2))
        glyph, style = _mark(place, rivals, paper)
        field[row][column : column + 2] = [(glyph, style), (LETTERS[place], DIM)]
    ticks = {0: score(max(scores), state.metric), rows - 1: score(min(scores), state.metric)}
    lines = []
    for number, letters in enumerate(field):
        told = ticks.get(number, "")
        axis = paper.glyph(*("┤", "|") if told else ("│", "|"))
        line = Text(told.rjust(AXIS - 1)[: AXIS - 1] + axis, style=DIM, no_wrap=True)
        for letter, style in letters:
            line.append(letter, style=f"not dim {style}" if style != DIM else "")
        lines.append(line)
    least, most = f"{count(min(sizes))} parameters", count(max(sizes))
    foot = Text(" " * AXIS + least, style=DIM)
    foot.pad_right(max(wide - foot.cell_len - len(most), 1))
    return [*lines, foot.append(most)]


def _share(value: float, values: Sequence[float]) -> float:
    low, high = min(values), max(values)
    share = (value - low) / (high - low) if high > low else 0.5
    return share if math.isfinite(share) else 0.5  # numbers beyond what a difference can hold
