"""The search that needs only values: proposals, the best so far, plain memory."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from metanas.controllers import RandomSearch
from metanas.errors import SpaceError
from metanas.loop import ValueSearch


def convolutions(architecture) -> float:
    return float(sum(labels == ("conv",) for labels in architecture.values()))


def test_the_best_so_far(tiny):
    search = ValueSearch(tiny.space, convolutions, RandomSearch(), budget=40, seed=0)
    rows = list(search.steps())
    assert [row.step for row in rows] == list(range(1, 41)) and {row.budget for row in rows} == {40}
    for k, row in enumerate(rows):
        assert row.value == convolutions(row.architecture)
        assert row.best_value == max(r.value for r in rows[: k + 1]) == convolutions(row.best)
    assert search.derive() == rows[-1].best and rows[-1].best_value > rows[0].value


@pytest.mark.parametrize(
    "kind", [np.float32, np.float64, torch.tensor, int], ids=["float32", "float64", "tensor", "int"]
)
def test_values_of_any_kind_of_number_become_plain(tiny, kind):
    search = ValueSearch(tiny.space, lambda a: kind(convolutions(a)), RandomSearch(), budget=3, seed=0)
    rows = list(search.steps())
    assert all(type(row.value) is float and type(row.best_value) is float for row in rows)
    json.dumps(search.state(), allow_nan=False)


def test_values_that_are_not_finite_are_told_and_never_the_best(tiny):
    values = iter([math.nan, math.inf, -2.0, -math.inf, -1.0])
    rows = list(ValueSearch(tiny.space, lambda a: next(values), RandomSearch(), budget=5, seed=0).steps())
    assert [row.best_value for row in rows] == [None, None, -2.0, -2.0, -1.0]
    assert [row.best is None for row in rows] == [True, True, False, False, False]
    assert math.isnan(rows[0].value) and rows[3].value == -math.inf


def test_an_error_of_the_objective_passes_through_and_can_be_tried_again(tiny):
    broken = True

    def objective(architecture):
        if broken:
            raise OSError("no space left")
        return convolutions(architecture)

    search = ValueSearch(tiny.space, objective, RandomSearch(), budget=2, seed=0)
    with pytest.raises(OSError, match="no space left"):
        next(search.steps())
    assert search.step == 0
    broken = False
    assert len(list(search.steps())) == 2


def test_a_screen_that_fails_scores_lowest_and_ends_nothing(tiny):
    def screen(architecture):
        if convolutions(architecture) > 1:
            raise RuntimeError("no such convolution")
        return math.nan if convolutions(architecture) == 0 else 1.0

    search = ValueSearch(tiny.space, convolutions, RandomSearch(), budget=6, seed=0, screen=screen, candidates=25)
    assert {row.value for row in search.steps()} == {1.0}
    assert set(search.scores.values()) == {-math.inf, 1.0}


def test_an_error_of_a_screen_that_is_no_failure_passes_through(tiny):
    def screen(architecture):
        raise OSError("no space left")

    search = ValueSearch(tiny.space, convolutions, RandomSearch(), budget=2, seed=0, screen=screen, candidates=9)
    with pytest.raises(OSError, match="no space left"):
        next(search.steps())


def test_seeds(tiny):
    drawn = [
        [row.architecture for row in ValueSearch(tiny.space, convolutions, RandomSearch(), budget=9, seed=s).steps()]
        for s in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2] and len(set(drawn[0])) > 1


def test_a_budget_that_cannot_be(tiny):
    with pytest.raises(SpaceError, match="budget must be >= 1, got 0"):
        ValueSearch(tiny.space, convolutions, RandomSearch(), budget=0, seed=0)


def test_nothing_to_derive_yet(tiny):
    with pytest.raises(SpaceError, match="none of 0 architectures"):
        ValueSearch(tiny.space, convolutions, RandomSearch(), budget=1, seed=0).derive()
