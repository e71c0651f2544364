"""The front of a search for several objectives, from its events to the panel."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from metanas.controllers.front import hypervolume as exact
from metanas.ui import panels
from metanas.ui.fronts import beats, hypervolume, joined, objectives
from metanas.ui.paper import Paper
from metanas.ui.points import ValuePoint
from metanas.ui.state import RunState, fold


def told(step: int, share: float | None, size: float, **more: object) -> dict[str, object]:
    labels = {"a": f"op{step}"}
    values = {"score": share, "-parameters": size}
    return {
        "kind": "value",
        "step": step,
        "budget": 9,
        "value": share,
        "architecture": labels,
        "values": values,
        **more,
    }


def state(*events: dict[str, object]) -> RunState:
    found = RunState("first")
    for event in events:
        found = fold(found, event)
    return found


def test_the_front_is_what_nothing_beats_in_whatever_order_it_is_told() -> None:
    rng = random.Random(0)
    events = [told(k, rng.randint(0, 5) / 5, float(rng.randint(1, 6))) for k in range(30)]
    points = [e["values"] for e in events]
    best = [v for v in points if not any(beats(w, v) for w in points)]
    for _ in range(3):
        assert sorted(map(str, (p.values for p in state(*events).front))) == sorted(map(str, best))
    again = state(*events, *events[10:])  # a run that goes on from an earlier checkpoint
    assert {p.step for p in again.front} == {p.step for p in state(*events).front}


def test_what_is_no_number_is_on_no_front() -> None:
    assert objectives({"values": {"score": True}}) == {} == objectives({"values": [1]}) == objectives({})
    assert objectives({"values": {"x": 1, "y": 10**400}}) == {}
    point = ValuePoint(1, math.nan, None, None, {"a": "b"})
    assert joined((), point) == ()
    assert state(told(1, None, 3)).front == ()
    assert not beats({"x": 1.0}, {"y": 0.0})


def test_the_panel() -> None:
    shown = panels.pareto(
        state(told(1, 0.9, 300, key="abc"), told(2, 0.8, 200), told(3, 0.7, 250)), Paper(width=60, height=13)
    )
    assert (
        "\n" + "\n".join(line.plain.rstrip() for line in shown) + "\n"
        == """
── score against parameters ───────── 2 of 3 on the front ──
 90.0%┤                                       ●a
      │
      │
      │●b
      │
      │
 70.0%┤                    ·
       200 parameters                        300
a ● step 1            90.0%       300  abc
b ● step 2            80.0%       200
hypervolume 0.5000 of what was evaluated
"""
    )


def test_three_objectives_are_listed_and_two_are_drawn() -> None:
    events = [
        {**told(k, 0.5 + k / 10, 10 * k), "values": {"score": 0.5 + k / 10, "-loss": k / 7, "-parameters": 10 * k}}
        for k in (1, 2, 3)
    ]
    lines = [line.plain for line in panels.pareto(state(*events), Paper(width=80, ascii_only=True))]
    assert "score against loss, parameters" in lines[0] and "3 of 3 on the front" in lines[0]
    assert lines[-4].split() == ["a", "*", "step", "3", "80.0%", "0.4286", "30"]


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_the_hypervolume_is_that_of_the_controllers_in_the_box_of_the_run(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    names = ("score", "-size", "-time")[:objectives]
    rows = rng.integers(0, 9, size=(30, objectives)) * 10.0
    values = [dict(zip(names, map(float, row), strict=True)) for row in rows]
    found = state(*({**told(k, 0, 0), "values": row} for k, row in enumerate(values)))
    signs = np.array([1.0, -1.0, -1.0])[:objectives]
    least, most = (rows * signs).min(0), (rows * signs).max(0)
    expected = exact((rows * signs - least) / (most - least), (0.0,) * objectives)
    assert hypervolume(found.front, found.extent) == pytest.approx(expected, abs=1e-12) and 0.3 < expected <= 1


def test_no_hypervolume_without_a_box_or_with_too_many_sides() -> None:
    assert hypervolume((), {"s": (0.0, 1.0)}) is None
    many = state(*({**told(k, 0, 0), "values": {f"x{n}": float(k) for n in range(4)}} for k in (1, 2)))
    assert hypervolume(many.front, many.extent) is None
    wide = state(*({**told(k, 0, 0), "values": {"x": x}} for k, x in enumerate((-1.7e308, 1.7e308))))
    assert hypervolume(wide.front, wide.extent) is None, "a range that no number holds"


def test_hostile_names_are_inert() -> None:
    evil = "\x1b[31m[/b]"
    events = [{**told(1, 0.5, 1), "values": {evil: 1.0, f"-{evil}": 2.0}, "key": evil}]
    assert all("\x1b" not in line.plain for line in panels.pareto(state(*events), Paper(width=80)))
