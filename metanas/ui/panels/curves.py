"""How the search goes: losses and scores over the epochs, as plots where there is room, as sparklines where not.

A run of a controller that needs only values has values instead: what was evaluated, and the best so far. Before the
first epoch has ended, the losses of the steps are shown. A tuning has its outer loss and, on a logarithmic scale, the
norm of its hypergradient over all its outer steps, and before the first one what its trials came to.

On paper that wants it (`Paper(log=True)`), losses are on a logarithmic scale as well, where any of them is positive;
what is not leaves a gap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from rich.text import Text

from metanas.ui.paper import DIM, INNER, OUTER, Paper
from metanas.ui.plot import Series, Values, finite, plot, sparkline
from metanas.ui.points import by_length
from metanas.ui.state import RunState
from metanas.ui.tuning import Tuning
from metanas.ui.units import loss, score

NATURAL, HIGHEST = 7, 12  # rows of a plot where the height is free, and at most
AXIS = 7  # cells left of a plot, for the numbers of its axis
BESIDE = 90  # from this width on, two plots stand side by side
NARROW = AXIS + 8  # below this width there is no room for a plot

Show = Callable[[float | None], str]
Chart = tuple[str, Show, tuple[Series, ...]]


def curves(state: RunState, paper: Paper) -> list[Text]:
    """A headline, then plots in the height that is left, or one sparkline per curve where there is no room for them."""
    charts = [chart for chart in _charts(state) if any(finite(one.values) for one in chart[2])]
    if not charts:
        return []
    logged = [_logged(chart) for chart in charts] if paper.log else charts
    title = paper.rule("curves", f"{'log, ' if logged != charts else ''}{_span(state)}")
    charts = logged
    rows = NATURAL if paper.height is None else min(paper.height - 2, HIGHEST)
    beside = paper.width >= BESIDE and len(charts) > 1
    if not beside and len(charts) > 1:
        rows = min((paper.height - 3) // 2, HIGHEST) if paper.height is not None else rows
    if rows < 4 or paper.width < NARROW:
        return paper.rows([title, *_sparklines(charts, paper)])
    if not beside:
        return paper.rows([title, *(line for chart in charts for line in drawn(chart, paper.width, rows, paper))])
    half = (paper.width - 3) // 2
    left, right = (drawn(chart, half, rows, paper) for chart in charts)
    for line, other in zip(left, right, strict=True):
        line.pad_right(half - line.cell_len + 3)
        line.append_text(other)
    return paper.rows([title, *left])


def _charts(state: RunState) -> list[Chart]:
    if state.tuning:
        return _steps(state.tuning) if state.tuning.trace else _trials(state.tuning)
    if state.values and not state.history:
        best = Series("best", tuple(point.best for point in state.values), OUTER, "o")
        looks = ((DIM, ","), (INNER, ".")) if len(values := by_length(state.values)) > 1 else ((INNER, "."),)
        shown = (Series(name, values[name], *look, joined=False) for name, look in zip(values, looks, strict=True))
        return [("value", loss, (*shown, best))]
    points: Sequence[object] = state.history if len(state.history) > 1 else state.steps
    ahead = [None] * max((state.epochs or 0) - len(state.history), 0) if points is state.history else []

    def series(name: str, field: str, style: str, mark: str) -> Series:
        return Series(name, (*(getattr(point, field, None) for point in points), *ahead), style, mark)

    losses = (series("inner", "inner_loss", INNER, "."), series("outer", "outer_loss", OUTER, "o"))
    scores = (series("inner", "inner_score", INNER, "."), series("outer", "outer_score", OUTER, "o"))
    return [("loss", loss, losses), (state.metric, partial(score, metric=state.metric), scores)]


def _steps(tuning: Tuning) -> list[Chart]:
    trace = tuning.trace
    ahead = [None] * (max((tuning.steps or 0) - trace[-1].step, 0) // tuning.stride)
    inner, outer = ([getattr(point, f"{name}_loss") for point in trace] for name in ("inner", "outer"))
    norms = [None if point.norm is None else _log(point.norm) for point in trace]
    losses = (Series("inner", (*inner, *ahead), INNER, "."), Series("outer", (*outer, *ahead), OUTER, "o"))
    return [("loss", loss, losses), ("norm", _power, (Series("hypergradient", (*norms, *ahead), OUTER, "o"),))]


def _trials(tuning: Tuning) -> list[Chart]:
    values, best = ([getattr(trial, name) for trial in tuning.recent] for name in ("value", "best"))
    shown = (Series("value", values, INNER, ".", joined=False), Series("best", best, OUTER, "o"))
    return [("trials", loss, shown)]


def _logged(chart: Chart) -> Chart:
    """A chart of losses with their logarithms; any other one, and one without a positive number, as it is."""
    name, show, shown = chart
    if show is not loss or not any(value > 0 for one in shown for value in finite(one.values)):
        return chart
    logs = ([None if value is None else _log(value) for value in one.values] for one in shown)
    return name, _power, tuple(replace(one, values=values) for one, values in zip(shown, logs, strict=True))


def _log(value: float) -> float:
    """Its decimal logarithm; -inf for 0, so that it leaves a gap in a curve."""
    return math.log10(value) if value > 0 else value if math.isnan(value) else -math.inf


def _power(logarithm: float | None) -> str:
    """The number that `_log` was given."""
    return loss(None if logarithm is None else 10.0 ** min(logarithm, 308.0))


def _span(state: RunState) -> str:
    if state.tuning:
        trace = state.tuning.trace
        return f"steps {trace[0].step} to {trace[-1].step}" if trace else _counted(len(state.tuning.recent), "trial")
    if state.values and not state.history:
        return _counted(len(state.values), "evaluation")
    if len(state.history) > 1:
        return f"epochs {state.history[0].epoch} to {state.history[-1].epoch}"
    return _counted(len(state.steps), "step")


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"


def _range(chart: Chart) -> tuple[float, float]:
    numbers = [value for one in chart[2] for value in finite(one.values)]
    return min(numbers), max(numbers)


def _last(values: Values) -> float | None:
    """The newest value, also where it is not finite."""
    return next((value for value in reversed(values) if value is not None), None)


def _legend(chart: Chart, paper: Paper, marks: bool) -> Text:
    name, show, shown = chart
    line = Text(f"{paper.safe(name)}".rjust(AXIS - 1) + " ", style="bold")
    for one in shown:
        if _last(one.values) is not None:
            mark = one.mark if marks else paper.glyph("━", one.mark)
            line.append(f"  {mark} ", style=f"not bold {one.style}")
            line.append(f"{one.name} {show(_last(one.values))}", style="not bold")
    return line


def drawn(chart: Chart, width: int, rows: int, paper: Paper, *, marks: bool = False) -> list[Text]:
    """The legend with the newest values, and `rows` rows with the numbers of the axis at the top and the bottom.

    Args:
        chart: the name of its values, how one is shown, and the curves.
        marks: each curve is drawn in its own mark, so that many are told apart without colour.
    """
    low, high = _range(chart)
    letters = plot(chart[2], width - AXIS, rows, low=low, high=high, marks=marks or paper.ascii_only)
    numbers = [_tick(chart[1](high)), *[""] * (rows - 2), _tick(chart[1](low))]
    tick = paper.glyph("┤", "|")
    lines = [_legend(chart, paper, marks)]
    for number, row in zip(numbers, letters, strict=True):
        axis = tick if number else paper.glyph("│", "|")
        lines.append(Text(no_wrap=True).append(number.rjust(AXIS - 1)[: AXIS - 1] + axis, style=DIM).append_text(row))
    return lines


def _tick(number: str) -> str:
    """A number of an axis in the cells that it has: fewer digits rather than a part of it.

    >>> _tick("0.1234"), _tick("8.0e-04"), _tick("-0.2724"), _tick("-0.0042")
    ('0.1234', '8e-04', '-0.272', '-4e-03')
    """
    if len(number) < AXIS or "%" in number:
        return number
    return f"{float(number):.3f}" if 0.01 <= abs(float(number)) < 10 else f"{float(number):.0e}"


def _sparklines(charts: Sequence[Chart], paper: Paper) -> list[Text]:
    """One row per curve, those of the outer problem first: where rows are few, they say more."""
    curves = [(name, show, one) for name, show, shown in charts for one in shown if finite(one.values)]
    wide = max((len(one.name) + len(name) + 1 for name, _, one in curves if one.name == "hypergradient"), default=15)
    lines = []
    for name, show, one in sorted(curves, key=lambda curve: curve[2].style != OUTER):
        past = [value for value in one.values if value is not None and not math.isinf(value)]
        head = paper.cell(f"{one.name} {name}", wide) + show(_last(one.values)).rjust(8)
        line = Text(f"{head}  ", no_wrap=True)
        spark = sparkline(past, paper.width - line.cell_len, ascii_only=paper.ascii_only)
        lines.append(line.append(spark, style=one.style))
    return lines
