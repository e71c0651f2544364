"""Evaluations at the same time: results in order, no more at once than asked for, errors where they belong."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from metanas.loop import Refinement, Round
from metanas.loop.side_by_side import in_order
from metanas.space import Space, chain, one_of, op


class Gauge:
    """Counts calls that are under way."""

    def __init__(self) -> None:
        self.lock, self.now, self.most, self.ended = threading.Lock(), 0, 0, 0

    def __call__(self, x: float) -> float:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(x)
        with self.lock:
            self.now -= 1
            self.ended += 1
        return x


def test_results_are_in_order_whoever_is_first() -> None:
    times = [0.05, 0.0, 0.03, 0.0, 0.01]
    for workers in (1, 2, 3, 9):
        gauge = Gauge()
        assert list(in_order(gauge, times, workers)) == times
        assert gauge.most <= workers


def test_they_are_under_way_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=60)
    assert sorted(in_order(lambda _: both.wait(), range(2), 2)) == [0, 1]


def test_no_more_is_begun_than_asked_for() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for k in range(9):
            taken.append(k)
            yield k

    results = in_order(lambda k: k, items(), 2)
    assert next(results) == 0 and taken == [0, 1, 2]


@pytest.mark.parametrize("workers", [1, 3])
def test_what_is_raised_is_raised_in_its_place_and_the_others_are_waited_for(workers: int) -> None:
    gauge = Gauge()

    def call(k: int) -> int:
        if k == 1:
            raise ValueError("of the second")
        gauge(0.01)
        return k

    results = in_order(call, range(3), workers)
    assert next(results) == 0
    with pytest.raises(ValueError, match="of the second"):
        next(results)
    assert gauge.now == 0 and gauge.ended == (1 if workers == 1 else 2)


def test_closed_it_waits_for_what_is_under_way_and_begins_nothing_more() -> None:
    gauge = Gauge()
    with closing(in_order(gauge, [0.0, 0.02, 0.02, 0.02, 0.02], 2)) as results:
        next(results)
    assert gauge.now == 0 and gauge.ended == 3


def test_an_interrupt_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    results = in_order(lambda k: k or go_on.wait(60), [1, 0, 0], 2)
    assert next(results) == 1

    def interrupted(self: threading.Thread, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(results)
    go_on.set()


@pytest.fixture
def space() -> Space:
    ops = {name: op(name) for name in ("skip", "conv", "avg_pool")}
    return Space(chain(*((f"n{k}", one_of(f"n{k}", ops)) for k in range(3))), "line", template="{n0}|{n1}|{n2}")


def test_a_refinement_is_the_same_with_any_number_of_workers(space: Space) -> None:
    def brief(architecture: Any, epochs: int) -> float:
        text = str(architecture)
        time.sleep(0.001 * (len(text) % 3))
        return text.count("conv") + epochs * text.count("pool") / 10

    found = []
    for workers in (1, 2, 5):
        rounds = [Round(99, 1), Round(3, 2)]
        search = Refinement(space, space.parse("conv|skip|skip"), brief, rounds, seed=0, workers=workers)
        found.append((list(search.steps()), search.state()))
    assert found[0] == found[1] == found[2]


def test_a_refinement_with_workers_goes_on_where_it_stopped(space: Space) -> None:
    def brief(architecture: Any, epochs: int) -> float:
        return float(str(architecture).count("conv"))

    def new() -> Refinement:
        return Refinement(space, space.parse("skip|skip|skip"), brief, [Round(5, 1), Round(2, 2)], seed=0, workers=3)

    whole, cut, resumed = new(), new(), new()
    rows = list(whole.steps())
    with closing(cut.steps()) as steps:
        first = [next(steps), next(steps)]
    resumed.restore(cut.state())
    assert [*first, *resumed.steps()] == rows and resumed.state() == whole.state()
