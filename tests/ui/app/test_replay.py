"""A replay gives the state at any event, whatever lies before it, and folds little to find it."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from metanas.ui import state as states
from metanas.ui.app import Replay, replay
from metanas.ui.state import RunState, described, fold


def at_every_place(start: RunState, events: list[dict[str, Any]]) -> list[RunState]:
    """The states before the first event and after each, each folded from the one before."""
    found = [start]
    for event in events:
        found.append(fold(found[-1], event))
    return found


@pytest.mark.parametrize("every", [1, 7, 400])
def test_it_equals_folding_from_the_start(every: int, events: list[dict[str, Any]], documents: Any) -> None:
    start = described(RunState("first"), *documents)
    wanted = at_every_place(start, events)
    assert wanted[500] == reduce(fold, events[:500], start)
    one = Replay(start, every=every)
    one.extend(events)
    places = [*range(len(wanted)), *random.Random(0).sample(range(len(wanted)), 20)]
    assert all(one.at(place) == wanted[place] for place in places)


def test_of_a_tuning_that_repeats_steps(tuning_events: list[dict[str, Any]], tuning_recipe: dict[str, Any]) -> None:
    start = described(RunState("second"), tuning_recipe, None)
    log = [*tuning_events[:90], *tuning_events[60:]]
    one = Replay(start, every=16)
    for first in range(0, len(log), 11):  # as it is read while it is written
        one.extend(log[first : first + 11])
    assert [one.at(place) for place in range(len(log) + 1)] == at_every_place(start, log)


def test_beyond_its_ends_it_is_at_its_ends() -> None:
    one = Replay(RunState("first"))
    one.extend([{"kind": "begin"}, {"kind": "end"}])
    assert (len(one), one.at(-5).status, one.at(99).status) == (2, "waiting", "finished")
    assert [event["kind"] for event in one.events] == ["begin", "end"]


def test_a_jump_folds_at_most_as_many_events_as_lie_between_two_kept_states(monkeypatch: pytest.MonkeyPatch) -> None:
    folded = []
    monkeypatch.setattr(replay, "fold", lambda state, event: folded.append(event) or fold(state, event))
    one = Replay(RunState("first"))
    one.extend({"kind": "step", "step": step} for step in range(1, 4_001))
    for place in (3_999, 3, 2_399, 400, 1_199):
        folded.clear()
        assert one.at(place).step == place
        assert len(folded) < replay.EVERY
    folded.clear()
    one.at(2_010)
    one.at(2_011)
    assert len(folded) == 10 + 1, "a step forward is one fold"


def test_states_share_what_they_have_in_common(events: list[dict[str, Any]]) -> None:
    one = Replay(RunState("first"), every=50)
    one.extend(events)
    assert one.at(200).history[0] is one.at(600).history[0]
    assert states.RECENT == len(one.at(len(events)).steps)


def test_reading_goes_on_while_somebody_looks(make_run: Callable[..., Path]) -> None:
    """A place that was counted and whose state is not kept yet is folded from the one before."""
    one = Replay(RunState("first"), every=2)
    one.extend([{"kind": "step", "step": 1}, {"kind": "step", "step": 2}])
    one._kept.pop()  # as if the other thread were between its two lines
    assert one.at(2).step == 2
