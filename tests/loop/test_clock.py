"""The time of a step by its parts."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from metanas.controllers import Darts
from metanas.loop.clock import PARTS, Clock


def test_turns_add_up() -> None:
    clock = Clock(torch.device("cpu"))
    begun = time.perf_counter()
    for part in ("data", "inner", "outer", "inner", "other"):
        clock.turn(part)
        time.sleep(0.01 if part == "inner" else 0.002)
    clock.turn("data")
    spent, whole = clock.read(), time.perf_counter() - begun
    assert tuple(spent) == PARTS and 0.02 <= spent["inner"] < whole and sum(spent.values()) <= whole
    assert all(spent[part] >= 0.002 for part in PARTS if part != "data") and spent["data"] >= 0.002
    assert clock.read() == dict.fromkeys(PARTS, 0.0)
    time.sleep(0.005)
    clock.turn("other")
    assert clock.read()["data"] >= 0.005  # what began before a reading goes on after it


@pytest.mark.parametrize("order", ["advance", "outer"])
def test_a_search_has_all_parts(tiny: Any, order: str) -> None:
    search = tiny.search(controller=Darts(), order=order)
    begun = time.perf_counter()
    for step in search.steps():
        if step.report is not None:
            break
        time.sleep(0.003)
    spent, whole = search.clock.read(), time.perf_counter() - begun
    assert all(spent[part] > 0 for part in PARTS) and sum(spent.values()) <= whole
    assert spent["other"] >= 0.003 * (search.per_epoch - 1)
    assert sum(spent.values()) > 0.8 * whole


def test_a_warm_up_has_no_outer_step_to_speak_of(tiny: Any) -> None:
    search = tiny.search(warmup=3)
    for _ in search.steps():
        pass
    spent = search.clock.read()
    assert spent["inner"] > 10 * spent["outer"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_device() -> None:
    clock = Clock(torch.device("cuda"))
    clock.turn("inner")
    torch.randn(2000, 2000, device="cuda") @ torch.randn(2000, 2000, device="cuda")
    clock.turn("other")
    assert clock.read()["inner"] > 0
