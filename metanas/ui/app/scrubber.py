"""The line that shows where in the log of a run the view stands: live at the right end, or at any past event.

event 1204/3101  1m 07s ━━━━━━━━━━━━━━━━━━━━━●──────────────────────────── replay
event 3101/3101  2m 51s ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━● live
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text

from metanas.ui.paper import ACCENT, DIM, OUTER, Paper
from metanas.ui.state import RunState
from metanas.ui.units import duration, percent

FEWEST = 4  # cells of a bar that are worth their place


@dataclass(frozen=True)
class Scrubber:
    """Where the view stands: `place` of `total` events, None for live; `loaded` is the share that was read."""

    place: int | None
    total: int
    loaded: float = 1.0

    def moved(self, by: int) -> Scrubber:
        """By this many events; beyond the last one it is live again.

        >>> Scrubber(None, 9).moved(-1).place, Scrubber(8, 9).moved(5).place, Scrubber(2, 9).moved(-5).place
        (8, None, 0)
        """
        return self.to((self.total if self.place is None else self.place) + by)

    def to(self, place: int) -> Scrubber:
        """At this place; live where it is the last one."""
        return Scrubber(None if place >= self.total else max(place, 0), self.total, self.loaded)

    def pressed(self, column: int, width: int, state: RunState) -> Scrubber:
        """Where a press on this column of the line leads to; as it was where that is left of the bar."""
        left, cells = self._bar(width, state)
        if column < left or cells < FEWEST:
            return self
        return self.to(round((column - left) * self.total / (cells - 1)))

    def line(self, state: RunState, paper: Paper) -> Text:
        """The line, exactly as wide as the paper.

        >>> Scrubber(5, 10).line(RunState("first", elapsed=67.0), Paper(width=48)).plain
        'event  5/10   1m 07s  ━━━━━━━━●───────  replay  '
        """
        cells = self._bar(paper.width, state)[1]
        past = self.place is not None
        line = Text(self._head(state), style="bold" if past else DIM)
        if cells >= FEWEST:
            share = 1.0 if self.place is None else self.place / max(self.total, 1)
            knob = round(share * (cells - 1))
            style = f"not bold not dim {OUTER if past else ACCENT}"
            line.append(paper.glyph("━", "=") * knob, style=style)
            line.append(paper.glyph("●", "O"), style=style)
            line.append(paper.glyph("─", "-") * (cells - 1 - knob), style=f"not bold {DIM}")
        line.append(self._tail(), style=f"not dim bold {OUTER if past else ACCENT}")
        return paper.rows([line])[0]

    def _bar(self, width: int, state: RunState) -> tuple[int, int]:
        """The column where the bar begins, and its cells."""
        left = len(self._head(state))
        return left, width - left - len(self._tail())

    def _head(self, state: RunState) -> str:
        total = str(self.total)
        place = total if self.place is None else str(self.place)
        return f"event {place.rjust(len(total))}/{total}  {duration(state.elapsed):>7}  "

    def _tail(self) -> str:
        if self.loaded < 1.0:
            return f"  reading {percent(self.loaded):>6}"
        return "  replay  " if self.place is not None else "  live    "
