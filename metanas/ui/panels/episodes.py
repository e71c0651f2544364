"""How well new classes are learned: the validations, with the best of them, and the test beside chance and the start.

    validation             61.2% ± 2.1%  ▁▂▃▅▆▇█▇    best 62.0% at step 250
    test, each by itself   67.4% ± 0.8%  +26.2 points against its start
    test, all together     69.0% ± 0.7%
    before it learned      41.2% ± 0.9%

Each query by itself is the inductive answer, all of a task together the transductive one.
"""

from __future__ import annotations

from rich.text import Text

from metanas.ui.few_shot import FewShot, Score, Validation, plus_minus
from metanas.ui.panels.curves import AXIS, HIGHEST, NARROW, NATURAL, drawn
from metanas.ui.panels.timeline import label_text
from metanas.ui.paper import DIM, GOOD, INNER, OUTER, Paper
from metanas.ui.plot import Series, Values, finite, sparkline
from metanas.ui.state import RunState
from metanas.ui.units import percent
from metanas.ui.verdict import verdict

NAME, SCORE = 20, 16  # cells of what was measured, and of the score with its interval
FEWEST = 5  # rows of a plot that are worth their place


def episodes(state: RunState, paper: Paper) -> list[Text]:
    """A headline with the task and the accuracy of a guess; the validations, as a plot where there is room, and what
    the test gave; the structure that was found.

    >>> from metanas.ui.state import fold
    >>> state = RunState("first", few_shot=FewShot(ways=5, shots=1))
    >>> for step in (5, 10): state = fold(state, {"kind": "validation", "step": step, "accuracy": 0.05 * step})
    >>> for line in episodes(state, Paper(width=72, height=3)): print(line.plain.rstrip())
    ── episodes ───────────────────────────── 5-way 1-shot, a guess 20.0% ──
    validation            50.0%            ▁█  best 50.0% at step 10
    """
    few_shot = state.few_shot
    if few_shot is None:
        return []
    scores = _scores(few_shot, verdict(state), paper)
    found = [*scores, *_structure(state, paper)]
    room = None if paper.height is None else paper.height - 1 - len(found)
    lines = [*_validations(state, few_shot, paper.sized(height=room)), *found]
    if not lines:
        return []
    chance = "" if few_shot.chance is None else f", a guess {percent(few_shot.chance)}"
    return paper.rows([paper.rule("episodes", f"{few_shot.task}{chance}"), *lines])


def _validations(state: RunState, few_shot: FewShot, paper: Paper) -> list[Text]:
    """A plot with a mark where the best is, or one line."""
    shown, best = few_shot.validations, few_shot.best
    values = [one.score.accuracy for one in shown]
    if not shown:
        return []
    rows = NATURAL if paper.height is None else min(paper.height - 1, HIGHEST)
    if rows < FEWEST or paper.width < NARROW + NAME or len(finite(values)) < 2:
        return [_line(few_shot, paper)]
    ahead = _ahead(state, few_shot)
    curves: tuple[Series, ...] = (Series("validation", (*values, *[None] * ahead), INNER, "."),)
    if _near(few_shot.chance, finite(values)):
        curves = (Series("a guess", [few_shot.chance] * (len(values) + ahead), DIM, "-"), *curves)
    lines = drawn(("", percent, curves), paper.width, rows, paper)
    if best is None:
        return lines
    lines[0].append(f"  {paper.glyph('★', '*')} ", style=f"not bold {GOOD}").append(_best(best), style="not bold")
    if best in shown:
        _mark(lines[1:], shown.index(best), len(values) + ahead, curves, paper)
    return lines


def _near(chance: float | None, values: list[float]) -> bool:
    """Whether a plot can show the accuracy of a guess as well, without the curve becoming a straight line."""
    return chance is not None and chance > min(values) - (max(values) - min(values))


def _ahead(state: RunState, few_shot: FewShot) -> int:
    """How many validations are still to come."""
    steps = state.tuning.steps if state.tuning else None
    if not steps or not few_shot.every:
        return 0
    return max(steps - few_shot.validations[-1].step, 0) // few_shot.every


def _mark(rows: list[Text], place: int, places: int, curves: tuple[Series, ...], paper: Paper) -> None:
    """Puts a star into the plot where the best validation is."""
    numbers = [value for one in curves for value in finite(one.values)]
    low, high = min(numbers), max(numbers)
    value = curves[-1].values[place]
    assert value is not None  # it is the best
    share = (value - low) / (high - low) if high > low else 0.5
    row = len(rows) - 1 - round(share * (len(rows) - 1))
    column = AXIS + round(place * (paper.width - AXIS - 1) / max(places - 1, 1))
    line = rows[row]
    line.pad_right(max(column + 1 - line.cell_len, 0))
    before, after = line[:column], line[column + 1 :]
    rows[row].truncate(0)
    rows[row].append_text(before).append(paper.glyph("★", "*"), style=GOOD).append_text(after)


def _line(few_shot: FewShot, paper: Paper) -> Text:
    now, best = few_shot.validations[-1], few_shot.best
    values: Values = [one.score.accuracy for one in few_shot.validations]
    tail = f"  {_best(best)}" if best else ""
    line = _scored("validation", now.score, paper)
    room = paper.width - line.cell_len - len(tail) - 2
    spark = sparkline(values, max(room, 0), ascii_only=paper.ascii_only)
    return line.append(spark, style=f"not bold {OUTER}").append(tail, style="not bold")


def _best(best: Validation) -> str:
    return f"best {percent(best.score.accuracy)} at step {best.step}"


def _scores(few_shot: FewShot, won: str, paper: Paper) -> list[Text]:
    """The test, and what stands beside it."""
    rows = [
        ("test, each by itself", few_shot.test, won.removeprefix("learned ")),
        ("test, all together", few_shot.transductive, ""),
        ("before it learned", few_shot.start, ""),
    ]
    known = [(name, score, about) for name, score, about in rows if score.accuracy is not None]
    lines = [_scored(name, score, paper).append(about, style=f"not bold {DIM}") for name, score, about in known]
    if lines and few_shot.episodes:
        lines[-1].append(f"over {few_shot.episodes} episodes", style=f"not bold {DIM}")
    return lines


def _scored(name: str, score: Score, paper: Paper) -> Text:
    shown = plus_minus(score, ascii_only=paper.ascii_only)
    return Text(f"{name:<{NAME}}  ", style="bold").append(f"{shown:<{SCORE}} ", style="not bold")


def _structure(state: RunState, paper: Paper) -> list[Text]:
    """The structure that was derived, of a finished run."""
    found = next((net.architecture for net in state.networks if net.architecture), None)
    if not found:
        return []
    text = ", ".join(f"{paper.safe(name)} {paper.safe(label_text(label))}" for name, label in found.items())
    return [Text(f"{'structure':<{NAME}}  ", style="bold").append(text, style="not bold")]
