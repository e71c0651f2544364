"""What counts as a failed evaluation, and that a search whose evaluations all fail does not go on."""

from __future__ import annotations

import json
import math
from itertools import islice

import numpy as np
import pytest
import torch

from metanas.controllers import RandomSearch
from metanas.errors import DataError, DivergedError, OutOfMemoryError, RunError, ShapeError
from metanas.loop import Refinement, Round, ValueSearch, measured


def raising(error):
    def objective(*arguments):
        raise error

    return objective


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DivergedError("epoch 1: nothing was finite"), "epoch 1: nothing was finite"),
        (ShapeError("edge a"), "edge a"),
        (OutOfMemoryError("out of memory"), "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory\nand more"), "OutOfMemoryError: CUDA out of memory"),
        (ValueError("bad"), "ValueError: bad"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_failures(error, reason):
    assert measured(raising(error)) == ((), reason)


@pytest.mark.parametrize(
    "error", [DataError("no row"), RunError("gone"), OSError("disk"), TypeError("bug"), KeyError("x")]
)
def test_what_passes_through(error):
    with pytest.raises(type(error)):
        measured(raising(error))


@pytest.mark.parametrize("found", [(1, 2), [1.0, 2.0], np.array([1, 2]), torch.tensor([1.0, 2.0])], ids=repr)
def test_several_numbers_become_plain(found):
    values, reason = measured(lambda: found)
    assert values == (1.0, 2.0) and all(type(v) is float for v in values) and reason is None


def test_an_evaluation_that_fails_is_never_the_best_and_says_why(tiny):
    outcomes = iter([math.inf, 0.5, DivergedError("no"), 0.25])

    def objective(architecture):
        found = next(outcomes)
        if isinstance(found, Exception):
            raise found
        return found

    rows = list(ValueSearch(tiny.space, objective, RandomSearch(), budget=4, seed=0).steps())
    assert [row.reason for row in rows] == ["the value is inf", None, "no", None]
    assert [row.best_value for row in rows] == [None, 0.5, 0.5, 0.5]
    assert math.isnan(rows[2].value)


def test_where_every_evaluation_fails_the_search_stops_early_with_the_causes_grouped(tiny):
    def objective(architecture):
        calls.append(architecture)
        if len(calls) % 2:
            raise DivergedError("the loss is nan")
        return math.inf

    calls: list[object] = []
    search = ValueSearch(tiny.space, objective, RandomSearch(), budget=100, seed=0)
    with pytest.raises(DivergedError) as caught:
        list(search.steps())
    assert len(calls) == 5 and str(caught.value).startswith(
        "every evaluation failed (3 times: the loss is nan; 2 times: the value is inf); mend"
    )


def test_the_failures_of_before_a_resume_count(tiny):
    search = ValueSearch(tiny.space, lambda a: math.nan, RandomSearch(), budget=100, seed=0)
    list(islice(search.steps(), 3))
    later = ValueSearch(tiny.space, lambda a: math.nan, RandomSearch(), budget=100, seed=0)
    later.restore(json.loads(json.dumps(search.state(), allow_nan=False)))
    with pytest.raises(DivergedError, match="5 times: the value is nan"):
        list(later.steps())
    assert later.step == 5


def test_one_that_succeeded_before_a_resume_is_enough(tiny):
    search = ValueSearch(tiny.space, lambda a: 1.0, RandomSearch(), budget=20, seed=0)
    list(islice(search.steps(), 1))
    later = ValueSearch(tiny.space, lambda a: math.nan, RandomSearch(), budget=20, seed=0)
    later.restore(search.state())
    assert len(list(later.steps())) == 19


def test_a_candidate_of_a_refinement_may_fail(tiny):
    start = tiny.space.sample(np.random.default_rng(0))

    def brief(architecture, epochs):
        if architecture == start:
            raise DivergedError("no")
        return 1.0

    search = Refinement(tiny.space, start, brief, [Round(3, 1)], seed=0)
    rows = list(search.steps())
    assert rows[0].reason == "no" and rows[-1].best_value == 1.0 and search.derive() != start
