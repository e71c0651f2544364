"""The expected cost of a search has a line of its own where there is one."""

from __future__ import annotations

from metanas.ui.panels.health import health
from metanas.ui.paper import Paper
from metanas.ui.state import RunState, fold


def lines_of(*costs: float | None) -> list[str]:
    state = RunState("first")
    for epoch, cost in enumerate(costs, 1):
        event = {"kind": "epoch", "epoch": epoch, "entropy": 0.5, **({} if cost is None else {"cost": cost})}
        state = fold(state, event)
    return [line.plain.rstrip() for line in health(state, Paper(width=64))]


def test_a_cost_is_shown() -> None:
    assert lines_of(2e6, 1234567.0)[-1] == "cost       1.235e+06  █▁  expected, of the mixture"


def test_a_search_without_a_cost_has_no_line() -> None:
    assert not any(line.startswith("cost") for line in lines_of(None, None))
