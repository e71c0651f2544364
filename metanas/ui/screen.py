"""All panels on one sheet: as high as they need (`metanas show`), or fitted to the terminal (the live view).

Where the height is limited, each panel first gets the least that it can use, in the order of importance; what is left
is given out in the same order, up to what each panel can use. A panel that gets less than its least is not shown. Extra
panels share in the same way what all others leave over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from metanas.ui import panels
from metanas.ui.paper import DIM, Paper
from metanas.ui.progress import phase
from metanas.ui.state import RunState

SMALLEST = (40, 9)  # width and height below which no panel is legible
WIDEST = 140


@dataclass(frozen=True)
class Place:
    """A panel on the sheet, its rank (0: the most important), and the lines that it gets before others get more.

    `extra`: it gets what is left when all that are not have what they can use. `when`: whether it tells of such a run.
    """

    draw: Callable[[RunState, Paper], list[Text]]
    rank: int
    least: int
    extra: bool = False
    when: Callable[[RunState], bool] = lambda state: True


def _trained(state: RunState) -> bool:
    """Before that, what was evaluated stands where the trained networks will."""
    return bool(state.history or state.networks or state.training)


PLACES = (  # from the top of the sheet to its bottom, of a search
    Place(panels.header, 0, 4),
    Place(panels.curves, 3, 3),
    Place(panels.structure, 1, 6),
    Place(panels.cell, 8, 3, extra=True),
    Place(panels.timeline, 4, 2),
    Place(panels.health, 7, 3, extra=True),
    Place(panels.networks, 2, 3),
    Place(panels.leaderboard, 10, 4, extra=True, when=_trained),
    Place(panels.pareto, 11, 4, extra=True),
    Place(panels.hypergradient, 6, 2),
    Place(panels.resources, 9, 4, extra=True),
    Place(panels.log, 5, 2),
)
TUNING_PLACES = (
    Place(panels.header, 0, 5),
    Place(panels.curves, 4, 4),
    Place(panels.learned, 1, 4),
    Place(panels.hypergradient, 2, 2),
    Place(panels.trials, 5, 2),
    Place(panels.networks, 3, 4),
    Place(panels.resources, 7, 4, extra=True),
    Place(panels.log, 6, 2),
)

FEW_SHOT_PLACES = (
    Place(panels.header, 0, 5),
    Place(panels.episodes, 1, 6),
    Place(panels.curves, 2, 4),
    Place(panels.learned, 3, 3),
    Place(panels.hypergradient, 4, 2),
    Place(panels.resources, 6, 4, extra=True),
    Place(panels.log, 5, 2),
)


@dataclass(frozen=True)
class Sheet:
    """The whole view of a state, as a value that draws itself; `height` None: as high as it needs."""

    state: RunState
    now: float | None = None
    height: int | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        paper = Paper(
            width=min(options.max_width, WIDEST),
            height=self.height,
            now=self.now,
            ascii_only=options.ascii_only,
            colour=bool(console.color_system) and not console.no_color,
        )
        yield from sheet(self.state, paper)


def sheet(state: RunState, paper: Paper) -> list[Text]:
    """The lines of all panels that fit."""
    places = tuple(place for place in places_of(state) if place.when(state))
    if paper.height is None:
        drawn = [place.draw(state, paper) for place in places]
        return [line for lines in drawn for line in lines]
    if paper.width < SMALLEST[0] or paper.height < SMALLEST[1]:
        return _too_small(state, paper)
    return _fitted(state, paper, paper.height, places)


def places_of(state: RunState) -> tuple[Place, ...]:
    """The panels of such a run."""
    return FEW_SHOT_PLACES if state.few_shot else TUNING_PLACES if state.tuning else PLACES


def _fitted(state: RunState, paper: Paper, height: int, places: tuple[Place, ...]) -> list[Text]:
    drawn: list[list[Text]] = [[] for _ in places]
    left = height
    order = sorted(range(len(places)), key=lambda index: places[index].rank)
    for extra in (False, True):
        ranked = [index for index in order if places[index].extra is extra]
        for index in ranked:
            least = places[index].draw(state, paper.sized(height=places[index].least)) if left else []
            if len(least) <= left:
                drawn[index] = least
                left -= len(least)
        for index in ranked:
            if left and drawn[index]:
                more = places[index].draw(state, paper.sized(height=len(drawn[index]) + left))
                left -= len(more) - len(drawn[index])
                drawn[index] = more
    return [line for lines in drawn for line in lines]


def _too_small(state: RunState, paper: Paper) -> list[Text]:
    now = phase(state)
    lines = [
        Text("too small", style="bold"),
        Text(f"{paper.width}x{paper.height}, needs {SMALLEST[0]}x{SMALLEST[1]}", style=DIM),
        Text(f"{paper.safe(state.status)} {int(now.done)}/{int(now.total or 0)}"),
    ]
    return paper.rows(lines)
