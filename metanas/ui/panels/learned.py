"""What a tuning has learned: one line per number, with its way from the first step to now.

decay, mean           ▁▂▃▄▅▆▇█     1.0e-04 → 0.0012
weights below 1/2     ▁▁▁▂▃▅▇█      0.0000 → 0.3100
"""

from __future__ import annotations

import math

from rich.cells import cell_len
from rich.text import Text

from metanas.ui.paper import BAD, DIM, OUTER, Paper
from metanas.ui.plot import Values, sparkline
from metanas.ui.state import RunState
from metanas.ui.units import loss

NATURAL = 24  # numbers shown where the height is free
NUMBER = 8  # cells of a number
LEAST = 8  # cells of a sparkline that are worth their place


def learned(state: RunState, paper: Paper) -> list[Text]:
    """A headline and a line per number, in the order of the recipe; those that find no room are counted.

    >>> from metanas.ui.state import fold
    >>> state = RunState("first")
    >>> for step in (1, 2): state = fold(state, {"kind": "step", "step": step, "learned": {"decay": 0.25 * step}})
    >>> for line in learned(state, Paper(width=50)): print(line.plain.rstrip())
    ── learned ────────────── from step 1 to step 2 ──
    decay  ▁█    0.2500 → 0.5000
    """
    if state.tuning is None or not state.tuning.trace or not state.tuning.trace[-1].learned:
        return []
    first, last = state.tuning.trace[0], state.tuning.trace[-1]
    names = list(last.learned)
    rows = NATURAL if paper.height is None else max(paper.height - 1, 0)
    shown = names if len(names) <= rows else names[: max(rows - 1, 0)]
    wide = min(max(cell_len(paper.safe(name)) for name in shown or names), max(paper.width // 3, 8))
    begin = "the start" if state.tuning.start else f"step {first.step}"
    lines = [paper.rule("learned", f"from {begin} to step {last.step}")]
    for name in shown:
        before = [state.tuning.start[name]] if name in state.tuning.start else []
        values = [*before, *(point.learned.get(name) for point in state.tuning.trace)]
        lines.append(_line(name, wide, values, paper))
    if len(shown) < len(names):
        lines.append(Text(f"{paper.glyph('⋮', ':')} {len(names) - len(shown)} more", style=DIM))
    return paper.rows(lines)


def _line(name: str, wide: int, values: Values, paper: Paper) -> Text:
    line = Text(paper.cell(name, wide) + "  ", style="bold")
    room = min(paper.width - wide - 2 * NUMBER - 8, len(values))
    if room >= min(LEAST, len(values)):
        spark = sparkline(values, room, ascii_only=paper.ascii_only)
        line.append(spark.ljust(room) + "  ", style=f"not bold {OUTER}")
    first = next((value for value in values if value is not None), None)
    arrow = paper.glyph("→", "->")
    line.append(f"{loss(first):>{NUMBER}} {arrow} ", style=f"not bold {DIM}")
    now = values[-1]
    lost = now is None or not math.isfinite(now)
    return line.append(loss(now) if now is not None else "not told", style=BAD if lost else "bold")
