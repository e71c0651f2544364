"""The last lines of the run's log."""

from __future__ import annotations

from rich.text import Text

from metanas.ui.paper import BAD, DIM, WARN, Paper
from metanas.ui.state import RunState
from metanas.ui.units import duration

NATURAL = 6
STYLES = {"warning": WARN, "error": f"bold {BAD}"}


def log(state: RunState, paper: Paper) -> list[Text]:
    """A headline, then the newest lines in the order they were said, each with its time (of work) and level."""
    if not state.log:
        return []
    warnings = sum(line.level != "info" for line in state.log)
    note = f"{warnings} warning{'' if warnings == 1 else 's'}" if warnings else ""
    rows = NATURAL if paper.height is None else max(paper.height - 1, 0)
    lines = [paper.rule("log", note)]
    for said in state.log[len(state.log) - min(rows, len(state.log)) :]:
        style = STYLES.get(said.level, "")
        line = Text(f"{duration(said.elapsed):>7}  ", style=DIM)
        lines.append(line.append(f"{paper.cell(said.level, 7)}  {paper.safe(said.message)}", style=f"not dim {style}"))
    return paper.rows(lines)
