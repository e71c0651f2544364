"""The time of a step by its parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from metanas.controllers import Darts
from metanas.loop.clock import PARTS, Clock


class Time:
    """Passes only where it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def slowed(self, work: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        """The same work, which takes so long."""

        def slow(*args: Any, **kwargs: Any) -> Any:
            self.seconds += seconds
            return work(*args, **kwargs)

        return slow


@pytest.fixture
def time() -> Time:
    return Time()


def test_turns_add_up(time: Time) -> None:
    clock = Clock(torch.device("cpu"), time)
    for part, seconds in (("data", 1), ("inner", 20), ("outer", 300), ("inner", 20), ("other", 4000)):
        clock.turn(part)
        time.seconds += seconds
    clock.turn("data")
    spent = clock.read()
    assert tuple(spent) == PARTS and spent == {"data": 1, "inner": 40, "outer": 300, "other": 4000}
    assert clock.read() == dict.fromkeys(PARTS, 0.0)
    time.seconds += 5
    clock.turn("other")
    assert clock.read()["data"] == 5  # what began before a reading goes on after it


def test_a_clock_of_ones_own_needs_no_time_of_ones_own() -> None:
    clock = Clock(torch.device("cpu"))
    for _ in range(2):
        clock.turn("inner")
    assert 0 <= clock.read()["inner"] < 60


@pytest.fixture
def timed(tiny: Any, time: Time, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A search in which a batch takes 1 second, a step of the weights 10 and a hypergradient 100."""

    def make(**settings: Any) -> Any:
        search = tiny.search(**settings)
        search.clock = Clock(torch.device("cpu"), time)
        search._own = time.slowed(search._own, 0.5)  # of each split
        search.estimate = time.slowed(search.estimate, 100)
        advance = type(search.advance)
        monkeypatch.setattr(advance, "__call__", time.slowed(advance.__call__, 10))
        return search

    return make


@pytest.mark.parametrize("order", ["advance", "outer"])
def test_a_search_has_all_parts(timed: Any, time: Time, order: str) -> None:
    search = timed(controller=Darts(), order=order)
    for step in search.steps():
        if step.report is not None:
            break
        time.seconds += 1000  # whoever looks at the steps
    n = search.per_epoch
    assert search.clock.read() == {"data": n, "inner": 10 * n, "outer": 100 * n, "other": 1000 * (n - 1)}


def test_a_warm_up_has_no_outer_step(timed: Any) -> None:
    search = timed(warmup=3)
    for _ in search.steps():
        pass
    assert search.clock.read() == {"data": search.total, "inner": 10 * search.total, "outer": 0, "other": 0}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_device() -> None:
    clock = Clock(torch.device("cuda"))
    clock.turn("inner")
    torch.randn(2000, 2000, device="cuda") @ torch.randn(2000, 2000, device="cuda")
    clock.turn("other")
    assert clock.read()["inner"] > 0
