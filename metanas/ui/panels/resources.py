"""What the search costs: seconds an epoch, steps and images a second, time by phase, memory where the run tells of it.

per epoch     0.305s  ▃▂▁▂▁▁█  median of 8
per second    36.1 steps  1.52k images
time          search 4s  training 10s
a step        data 1.2%  inner 55.1%  outer 42.0%  other 1.7%
memory        device 1.21 GB  host 812 MB, at most
estimate      1.10 GB for the search
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise

from rich.text import Text

from metanas.ui.paper import DIM, OUTER, Paper
from metanas.ui.plot import sparkline
from metanas.ui.state import RunState
from metanas.ui.units import count, duration, percent, seconds, size

NAME, WIDEST = 14, 60  # cells of the name of a line, and of a sparkline


def resources(state: RunState, paper: Paper) -> list[Text]:
    """A headline with the device, and a line for each thing that is known.

    >>> from metanas.ui.state import fold
    >>> state = RunState("first", device="cpu", batch_size=32)
    >>> for epoch in (1, 2, 3):
    ...     state = fold(state, {"kind": "epoch", "epoch": epoch, "step": 10 * epoch, "elapsed": 0.5 * epoch})
    >>> for line in resources(state, Paper(width=50)): print(line.plain.rstrip())
    ── resources ─────────────────────── device cpu ──
    per epoch       0.5s  ▅▅  median of 2
    per second    20 steps  640 images
    time          search 1s
    """
    unit, spent, steps = _paces(state)
    facts: list[Text] = []
    if spent:
        facts.append(_spent(f"per {unit}", spent, paper))
    if steps:
        images = f"  {_rate(steps * state.batch_size)} images" if state.batch_size and unit == "epoch" else ""
        facts.append(_line("per second", f"{_rate(steps)} {'networks' if unit == 'network' else 'steps'}{images}"))
    if facts and state.found_at > 0:
        training = state.networks or state.training
        after = f"  training {duration(max(state.elapsed - state.found_at, 0.0))}" if training else ""
        facts.append(_line("time", f"{'search' if not state.tuning else 'tuning'} {duration(state.found_at)}{after}"))
    total = sum(state.spent.values())
    if total > 0:
        shares = "  ".join(f"{part} {percent(state.spent[part] / total)}" for part in state.spent)
        facts.append(_line("a step", shares))
    held = [("device", state.memory), ("host", state.host_memory)]
    told = "  ".join(
        f"{where} {size(number)}" for where, number in held if number is not None and math.isfinite(number)
    )
    if told:
        facts.append(_line("memory", f"{told}, at most"))
    if state.needed is not None and math.isfinite(state.needed):
        facts.append(_line("estimate", f"{size(state.needed)} for the search"))
    if not facts:
        return []
    note = f"device {state.device}" if state.device else ""
    return paper.rows([paper.rule("resources", note), *facts])


def _paces(state: RunState) -> tuple[str, list[float], float | None]:
    """What takes turns, the seconds that each turn took, and outer steps a second."""
    if state.tuning:
        trace = state.tuning.trace
        spent = [_per(b.elapsed - a.elapsed, b.step - a.step) for a, b in pairwise(trace)]
        return "step", _sound(spent), _speed([(point.step, point.elapsed) for point in trace])
    if state.history:
        spent = [_per(b.elapsed - a.elapsed, b.epoch - a.epoch) for a, b in pairwise(state.history)]
        return "epoch", _sound(spent), _speed([(p.step, p.elapsed) for p in state.history if p.step is not None])
    if state.values and state.found_at > 0:
        return "network", [], state.values[-1].step / state.found_at
    return "step", [], None


def _per(spent: float, turns: int) -> float:
    return spent / turns if turns > 0 else math.nan


def _sound(spent: Sequence[float]) -> list[float]:
    return [time for time in spent if math.isfinite(time) and time >= 0]


def _speed(reached: Sequence[tuple[int, float]]) -> float | None:
    """Steps a second between the first point and the last."""
    if len(reached) < 2:
        return None
    (first, begin), (last, end) = reached[0], reached[-1]
    rate = (last - first) / (end - begin) if end > begin else math.nan
    return rate if math.isfinite(rate) and rate > 0 else None


def _rate(number: float) -> str:
    """
    >>> _rate(0.0312), _rate(32.12), _rate(1520.0)
    ('0.031', '32.1', '1.52k')
    """
    if number < 1:
        return f"{number:.2g}"
    return f"{number:.3g}" if number < 1000 else count(number)


def _line(name: str, told: str) -> Text:
    return Text(f"{name:<{NAME}}", style="bold").append(told, style="not bold")


def _spent(name: str, spent: list[float], paper: Paper) -> Text:
    line = _line(name, f"{seconds(statistics.median(spent)):>6}  ")
    tail = f"  median of {count(len(spent))}"
    room = min(paper.width - line.cell_len - len(tail), WIDEST)
    spark = sparkline(spent, max(room, 0), low=0.0 if max(spent) > min(spent) else None, ascii_only=paper.ascii_only)
    return line.append(spark, style=f"not bold {OUTER}").append(tail, style=f"not bold {DIM}")
