"""The tabs of a run: one line each, which names a panel and says of which runs it tells.

A panel with a natural height shows its newest lines on a sheet; in a tab it has the height that its content needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.text import Text

from metanas.ui import panels
from metanas.ui.paper import ACCENT, DIM, Paper
from metanas.ui.screen import sheet
from metanas.ui.state import UNDER_WAY, RunState

Draw = Callable[[RunState, Paper], list[Text]]


@dataclass(frozen=True)
class Tab:
    """A tab; `draw` gets paper of the height that can be seen, and may give more lines."""

    title: str
    draw: Draw
    applies: Callable[[RunState], bool]


def _whole(draw: Draw) -> Draw:
    """The panel in whatever height it wants."""
    return lambda state, paper: draw(state, paper.sized(height=None))


def _long(draw: Draw, lines: Callable[[RunState], int]) -> Draw:
    """The panel with all its lines, of which it would show the newest."""
    return lambda state, paper: draw(state, paper.sized(height=lines(state) + 1))


def _always(state: RunState) -> bool:
    return True


def _derives(state: RunState) -> bool:
    """A search, or a transfer of what one found."""
    return state.tuning is None and state.few_shot is None


def _searches(state: RunState) -> bool:
    return state.searches


def _tunes(state: RunState) -> bool:
    return state.tuning is not None


def _few_shot(state: RunState) -> bool:
    return state.few_shot is not None


def _tries(state: RunState) -> bool:
    return state.tuning is not None and bool(state.tuning.trials or state.tuning.best)


TABS = (
    Tab("overview", _whole(sheet), _always),
    Tab("episodes", panels.episodes, _few_shot),
    Tab("curves", panels.curves, _always),
    Tab("structure", _whole(panels.structure), _searches),
    Tab("cell", _whole(panels.cell), _derives),
    Tab("timeline", _long(panels.timeline, lambda state: len(state.history)), _searches),
    Tab("health", _whole(panels.health), _searches),
    Tab("learned", _whole(panels.learned), _tunes),
    Tab("trials", _whole(panels.trials), _tries),
    Tab("networks", _whole(panels.networks), lambda state: state.few_shot is None),
    Tab("leaderboard", _whole(panels.leaderboard), _derives),
    Tab("pareto", _whole(panels.pareto), _derives),
    Tab("hypergradient", _whole(panels.hypergradient), _always),
    Tab("resources", _whole(panels.resources), _always),
    Tab("log", _long(panels.log, lambda state: len(state.log)), _always),
)
NUMBERED = 9  # tabs that have a key of their own


def tabs_of(state: RunState) -> tuple[Tab, ...]:
    """Those that tell of such a run.

    >>> [tab.title for tab in tabs_of(RunState("first"))][:6]
    ['overview', 'curves', 'structure', 'cell', 'timeline', 'health']
    """
    return tuple(tab for tab in TABS if tab.applies(state))


def drawn(tab: Tab, state: RunState, paper: Paper) -> list[Text]:
    """The lines of a tab, or one that says that there is nothing yet.

    >>> drawn(TABS[2], RunState("first"), Paper())[0].plain
    'curves: nothing to show yet'
    """
    yet = " yet" if state.status in UNDER_WAY else ""
    return tab.draw(state, paper) or [Text(f"{tab.title}: nothing to show{yet}", style=DIM)]


def tab_bar(tabs: tuple[Tab, ...], chosen: int, paper: Paper) -> tuple[Text, list[tuple[int, int, int]]]:
    """The titles with their numbers, and (first column, last, tab) of each that is seen.

    Where there is no room for all, those around the chosen one are seen, between arrows.

    >>> tab_bar(tabs_of(RunState("first"))[:3], 1, Paper(width=40))[0].plain
    ' 1 overview [2 curves] 3 structure '
    """
    names = [f"{place + 1} {tab.title}" if place < NUMBERED else tab.title for place, tab in enumerate(tabs)]
    first, last = _seen([len(name) + 2 for name in names], chosen, paper.width)
    line, places = Text(paper.glyph("◂", "<") if first else ""), []
    for place in range(first, last):
        begin = line.cell_len
        if place == chosen:
            line.append(f"[{names[place]}]", style=f"bold {ACCENT}")
        else:
            line.append(f" {names[place]} ", style=DIM)
        places.append((begin, line.cell_len - 1, place))
    if last < len(names):
        line.append(paper.glyph("▸", ">"))
    return line, places


def _seen(widths: list[int], chosen: int, room: int) -> tuple[int, int]:
    """As many as fit, from the first where that shows the chosen one."""
    count = len(widths)

    def fits(first: int, last: int) -> bool:
        return sum(widths[first:last]) + (first > 0) + (last < count) <= room

    first = next((first for first in range(chosen) if fits(first, chosen + 1)), chosen)
    last = next((last for last in range(count, chosen + 1, -1) if fits(first, last)), chosen + 1)
    return first, last
