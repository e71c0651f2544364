"""What was evaluated before is told again, and not evaluated; nothing else changes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from metanas.controllers import LocalSearch, RandomSearch, RegularisedEvolution
from metanas.loop import Hyperband, ValueSearch
from metanas.loop.known import Known
from metanas.space import Architecture

A, B = Architecture({"y": ("conv",)}), Architecture({"y": ("skip",)})


def convolutions(architecture: Architecture) -> float:
    return float(sum(labels == ("conv",) for labels in architecture.values()))


def counted(asked: list[Any], objective: Callable[..., Any]) -> Callable[..., Any]:
    def asking(*arguments: Any) -> Any:
        asked.append(arguments)
        return objective(*arguments)

    return asking


def test_what_failed_is_evaluated_again_and_what_did_not_is_not() -> None:
    values = iter([math.nan, 1.0, 2.0, 3.0])
    known = Known(once=True)
    found = [known.measured(lambda *given: next(values), *key) for key in [(A,), (A,), (A,), (B,), (A, 3), (A, 3)]]
    assert found[0][1:] == ("the value is nan", False)
    assert found[1:] == [
        ((1.0,), None, False),
        ((1.0,), None, True),
        ((2.0,), None, False),
        ((3.0,), None, False),
        ((3.0,), None, True),
    ]


def test_nothing_is_kept_of_what_may_give_another_value() -> None:
    values, known = iter([1.0, 2.0]), Known(once=False)
    assert [known.measured(lambda a: next(values), A)[0] for _ in range(2)] == [(1.0,), (2.0,)]
    assert known.state() == []


@pytest.mark.parametrize("names", [("value",), ("value", "-size")], ids=len)
def test_a_search_is_told_the_same_for_fewer_evaluations(tiny: Any, names: tuple[str, ...]) -> None:
    def search(asked: list[Any], *, once: bool) -> ValueSearch:
        objective = counted(asked, lambda a: (convolutions(a), 1.0)[: len(names)])
        controller = RegularisedEvolution(population=5, sample=2)
        return ValueSearch(tiny.space, objective, controller, budget=40, seed=0, names=names, once=once)

    every, different = [], []
    plain, once = search(every, once=False), search(different, once=True)
    rows, again = list(plain.steps()), list(once.steps())
    assert [replace(row, repeated=False) for row in again] == rows and once.memory == plain.memory
    assert len(every) == 40 and different == list(dict.fromkeys(every)) and 9 < len(different) < 28
    assert [row.repeated for row in again] == [(row.architecture,) in every[:k] for k, row in enumerate(rows)]


def test_values_of_trainings_of_another_length_are_others(tiny: Any) -> None:
    """Four brackets of the 27 architectures."""

    def search(asked: list[Any], *, once: bool) -> Hyperband:
        brief = counted(asked, lambda a, epochs: convolutions(a) + epochs / 10)
        return Hyperband(tiny.space, brief, LocalSearch(), epochs=4, eta=2, budget=70, seed=0, once=once)

    every, different = [], []
    plain, once = search(every, once=False), search(different, once=True)
    rows, again = list(plain.steps()), list(once.steps())
    assert [replace(row, repeated=False) for row in again] == rows and once.spent == plain.spent
    assert different == list(dict.fromkeys(every)) and len(different) < len(every) == len(rows)


@pytest.mark.parametrize("halving", [False, True])
def test_what_is_known_is_known_after_a_resume(tiny: Any, halving: bool) -> None:
    def search() -> Any:
        if halving:
            brief = lambda a, epochs: convolutions(a) - 1 / epochs  # noqa: E731
            return Hyperband(tiny.space, brief, RandomSearch(), epochs=4, eta=2, budget=70, seed=0, once=True)
        return ValueSearch(tiny.space, convolutions, RandomSearch(), budget=40, seed=0, once=True)

    whole, first, second = search(), search(), search()
    rows = list(whole.steps())
    seen = list(islice(first.steps(), 15))
    second.restore(json.loads(json.dumps(first.state(), allow_nan=False)))
    assert [*seen, *second.steps()] == rows and any(row.repeated for row in rows[15:])
    assert second.state() == whole.state()
