"""Whether the hypergradients are to be trusted: how many converged, and what the last one says of itself.

    ▲ step 57 had not converged: the residual is 2.0e-04 (allowed: 1.0e-05)
    norm            0.0214  ▇▆▅▄▃▂▁▁    clipped to 0.0100
    stationarity   1.2e-04  ▇▆▅▄▄▃▃▂
    residual       3.0e-06  ▃▂▃▂▂▁▂▁
    not measured: curvature

The scales of the sparklines are logarithmic. Of a search, the norm alone is known.
"""

from __future__ import annotations

import math
import textwrap

from rich.text import Text

from metanas.ui.panels.header import spaced
from metanas.ui.paper import BAD, DIM, OUTER, WARN, Paper
from metanas.ui.plot import Values, finite, sparkline
from metanas.ui.state import RunState
from metanas.ui.tuning import OuterPoint, Tuning, doubts
from metanas.ui.units import loss, percent

MEASURES = ("norm", "stationarity", "residual", "curvature")
WIDEST = 60  # cells of a sparkline


def hypergradient(state: RunState, paper: Paper) -> list[Text]:
    """A headline with the estimator and the share that converged; in words, what is wrong; a line per number that was
    measured; and which were not.

    >>> from metanas.ui.state import fold
    >>> event = {"kind": "step", "step": 1, "outer_gradient_norm": 0.5, "residual": 0.1, "converged": False}
    >>> state = fold(RunState("first"), {**event, "learned": {}})
    >>> for line in hypergradient(state, Paper(width=64)): print(line.plain.rstrip())
    ── hypergradient ────────────── 0 of 1 steps converged (0.0%) ──
    ▲ step 1 has not converged: the residual is 0.1000 (allowed:
      1.0e-05)
    norm            0.5000  ▅
    residual        0.1000  ▅
    not measured: stationarity, curvature
    """
    tuning = state.tuning
    if tuning is None:
        return _of_a_search(state, paper)
    last = tuning.last
    if last is None:
        return []
    lines = [paper.rule("hypergradient", _note(tuning)), *_wrong(state, tuning, paper)]
    columns = {name: [getattr(point, name) for point in tuning.trace] for name in MEASURES}
    known = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    lines += [_row(name, values, _remark(name, last, tuning), paper) for name, values in known.items()]
    absent = [name for name in MEASURES if name not in known]
    if absent:
        lines.append(Text(f"not measured: {', '.join(absent)}", style=DIM))
    return paper.rows(lines)


def _note(tuning: Tuning) -> str:
    last = tuning.trace[-1]
    name = f"{spaced(tuning.method)}, " if tuning.method else ""
    if not last.told:
        return f"{name}convergence not told"
    share = f" ({percent(last.sound / last.told)})" if last.sound < last.told else ""
    return f"{name}{last.sound} of {last.told} steps converged{share}"


def _wrong(state: RunState, tuning: Tuning, paper: Paper) -> list[Text]:
    """The last step that had not converged, and why; updates that were left out."""
    now, parts = tuning.last, []
    if tuning.failed is not None:
        verb = "has" if tuning.failed is now else "had"
        reasons = "; ".join(doubts(tuning.failed, tuning)) or "its numbers do not say why"
        parts.append(f"step {tuning.failed.step} {verb} not converged: {reasons}")
    if state.skipped:
        parts.append(f"{state.skipped} update{'' if state.skipped == 1 else 's'} skipped: not finite")
    if not parts:
        return []
    mark = paper.glyph("▲", "!")
    words = textwrap.wrap(f"{mark} {'; '.join(parts)}", max(paper.width, 8), subsequent_indent="  ")
    return [Text(line, style=f"bold {BAD if tuning.failed is now else WARN}") for line in words]


def _remark(name: str, last: OuterPoint, tuning: Tuning) -> str:
    value = getattr(last, name)
    if value is None:
        return f"not measured at step {last.step}"
    if name == "norm" and tuning.clip is not None and value > tuning.clip:
        return f"clipped to {loss(tuning.clip)}"
    if name == "curvature" and value <= 0:
        return "not positive"
    return ""


def _row(name: str, values: Values, remark: str, paper: Paper) -> Text:
    now = values[-1]
    bad = now is not None and (not math.isfinite(now) or (name == "curvature" and now <= 0))
    line = Text(f"{name:<12}  ", style="bold").append(f"{loss(now):>8}  ", style=BAD if bad else "not bold")
    room = min(paper.width - line.cell_len - (len(remark) + 2 if remark else 0), WIDEST)
    heights = [math.log10(value) if value is not None and value > 0 else None for value in values]
    line.append(sparkline(heights, max(room, 0), ascii_only=paper.ascii_only), style=f"not bold {OUTER}")
    return line.append(f"  {remark}", style=f"not bold {WARN}") if remark else line


def _of_a_search(state: RunState, paper: Paper) -> list[Text]:
    """Of the last steps, where they tell the norm."""
    norms = [point.outer_gradient_norm for point in state.steps]
    if not finite(norms):
        return []
    title = paper.rule("hypergradient", spaced(state.estimator or ""))
    return paper.rows([title, _row("norm", norms, "", paper)])
