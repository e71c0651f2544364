"""When the derived architecture changed: one line per change, the newest first."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text

from metanas.ui.paper import DIM, WARN, Paper
from metanas.ui.points import EpochPoint
from metanas.ui.state import RunState

NATURAL = 8  # changes shown where the height is free
NAMED = 3  # changed choices that are named; of more, only their number is said


def timeline(state: RunState, paper: Paper) -> list[Text]:
    """A headline with the number of changes, then epoch, how long it was kept, what changed, and the architecture."""
    changes = [point for point in state.history if point.changed or (not point.before and point.architecture)]
    if not changes:
        return []
    count = len(changes) - 1
    note = f"{count} change{'' if count == 1 else 's'}"
    if count:
        note += f", the last at epoch {changes[-1].epoch}"
    rows = NATURAL if paper.height is None else paper.height - 1
    ends = [point.epoch for point in changes[1:]] + [state.history[-1].epoch + 1]
    shown = list(zip(changes, ends, strict=True))[::-1][: max(rows, 0)]
    column = min(max((cell_len(_changed(point, paper)) for point, _ in shown), default=0), paper.width // 2)
    lines = [paper.rule("derived architectures", note)]
    lines += [_line(point, end - point.epoch, column, paper) for point, end in shown]
    return paper.rows(lines)


def _line(point: EpochPoint, kept: int, column: int, paper: Paper) -> Text:
    line = Text(f"{point.epoch:>5}  ", style="bold").append(f"{f'kept {kept}':<8}  ", style=f"not bold {DIM}")
    if line.cell_len + column + 24 > paper.width or not point.key:  # no room for both: what changed says more
        return line.append(_changed(point, paper), style=f"not bold {WARN}")
    line.append(paper.cell(_changed(point, paper), column), style=f"not bold {WARN}")
    return line.append(f"  {paper.safe(point.key)}", style=f"not bold {DIM}")


def _changed(point: EpochPoint, paper: Paper) -> str:
    if not point.before:
        return "first"
    if len(point.changed) > NAMED:
        return f"{len(point.changed)} of {len(point.architecture)} choices"
    arrow = paper.glyph("→", "->")
    return ", ".join(
        f"{paper.safe(name)} {arrow} {paper.safe(label_text(point.architecture[name]))}" for name in point.changed
    )


def label_text(label: str | tuple[str, ...] | None) -> str:
    """
    >>> label_text("none"), label_text(("a", "b")), label_text(()), label_text(None)
    ('none', 'a + b', '(nothing)', '-')
    """
    if label is None:
        return "-"
    return label if isinstance(label, str) else " + ".join(label) or "(nothing)"
