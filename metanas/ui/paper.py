"""What a panel draws on: how wide and high it is, which glyphs it carries, and the few styles of all panels.

Panels are pure functions `(state, paper) -> lines`, where a line is a `rich.text.Text` that fits the width. The colours
are those of Okabe and Ito (2008), and cividis (Nuñez, Anderton and Renslow, PLoS ONE 2018) for shades: both stay
apart for colour-blind readers and in print. Nothing is told by colour alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from metanas.ui.text import inert, shorten

INNER, OUTER = "#56b4e9", "#e69f00"  # sky blue, orange
GOOD, BAD, WARN, ACCENT = "#009e73", "#d55e00", "#e69f00", "#56b4e9"
TITLE, DIM, LINE = "bold", "dim", "dim"
CIVIDIS = ("#00204d", "#00336f", "#39486b", "#575c6d", "#707173", "#8a8779", "#a69d75", "#c4b56c", "#e4cf5b", "#ffea46")


@dataclass(frozen=True)
class Paper:
    """`height` None: as high as is needed. `now`: unix seconds, for the age of the last event; None hides it.

    `log`: the losses of the curves on a logarithmic scale.
    """

    width: int = 80
    height: int | None = None
    now: float | None = None
    ascii_only: bool = False
    colour: bool = True
    log: bool = False

    def sized(self, *, width: int | None = None, height: int | None) -> Paper:
        """The same paper in another size."""
        return replace(self, width=self.width if width is None else width, height=height)

    def glyph(self, fine: str, plain: str) -> str:
        """`plain` (ASCII) where the stream cannot carry `fine`."""
        return plain if self.ascii_only else fine

    def safe(self, text: object) -> str:
        """Text from a run, inert, in letters that this paper carries."""
        return inert(text, ascii_only=self.ascii_only)

    def cell(self, text: object, width: int, *, right: bool = False) -> str:
        """Inert text in exactly `width` terminal cells, cut in its middle where it is longer."""
        shown = shorten(self.safe(text), width, self.glyph("…", "~"))
        if right and cell_len(shown) < width:
            shown = " " * (width - cell_len(shown)) + shown
        return set_cell_size(shown, width)

    def rows(self, lines: list[Text]) -> list[Text]:
        """The lines, cut to the width and the height."""
        for line in lines:
            line.no_wrap = True
            if line.cell_len > self.width:
                line.truncate(self.width - 1)
                line.append(self.glyph("…", "~"))
        return lines if self.height is None else lines[: max(self.height, 0)]

    def rule(self, title: str, note: str = "") -> Text:
        """The headline of a panel: a bold title, a line, and a note at its right end."""
        dash = self.glyph("─", "-")
        line = Text(f"{dash * 2} ", style=LINE, no_wrap=True).append(title, style=f"not dim {TITLE}").append(" ")
        room = self.width - line.cell_len
        shown = self.safe(note)
        if not shown or cell_len(shown) + 6 > room:
            return line.append(dash * max(room, 0))
        line.append(dash * (room - cell_len(shown) - 4)).append(" ")
        return line.append(shown, style="not dim").append(f" {dash * 2}")


def shade(share: float) -> str:
    """The style of a cell whose value is this share of the largest: a shade of cividis under white or black letters.

    >>> shade(0.0), shade(1.0), shade(float("inf"))
    ('#ffffff on #00204d', '#000000 on #ffea46', '#000000 on #ffea46')
    """
    level = min(int(min(max(share, 0.0), 1.0) * len(CIVIDIS)), len(CIVIDIS) - 1) if share == share else 0
    return f"{'#ffffff' if level < 5 else '#000000'} on {CIVIDIS[level]}"
