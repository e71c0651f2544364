"""Hyperband: the brackets of the paper, who goes on, what is told and spent, and that it goes on where it stopped."""

from __future__ import annotations

import dataclasses
import json
import math
import zlib
from itertools import islice

import numpy as np
import pytest

from metanas.controllers import LocalSearch, RandomSearch, RegularisedEvolution
from metanas.errors import DivergedError, SpaceError
from metanas.loop import Hyperband, ValueSearch
from metanas.loop.hyperband import brackets
from metanas.space import Space, chain, one_of, op

OPS = {name: op(name) for name in "abcdefgh"}


@pytest.fixture
def space() -> Space:
    return Space(chain(*((f"n{k}", one_of(f"n{k}", OPS)) for k in range(4))), "line")


def height(architecture) -> float:
    return sum("abcdefgh".index(labels[0]) for labels in architecture.values()) / 28


def brief(architecture, epochs) -> float:
    """The shorter, the less it says: what is left over depends on the architecture alone."""
    noise = np.random.default_rng(zlib.crc32(str(architecture).encode()))
    return height(architecture) - 1 / epochs + noise.normal() / (4 * epochs)


def test_the_brackets_are_those_of_the_paper():
    """Li et al., JMLR 2018, table 1: R = 81, eta = 3."""
    found = [[(r.candidates, r.epochs) for r in rounds] for rounds in brackets(81, 3)]
    assert found == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]
    assert brackets(8, 2)[0][-1].epochs == 8 and [r.epochs for r in brackets(10, 3)[0]] == [1, 3, 10]


def test_the_better_ones_go_on_and_the_longest_training_decides(space):
    search = Hyperband(space, brief, RandomSearch(), epochs=9, eta=3, budget=27, seed=0)
    rows = list(search.steps())
    assert [row.epochs for row in rows] == [1] * 9 + [3] * 3 + [9] and search.spent == 27 and search.budget == 13
    first = sorted(rows[:9], key=lambda row: -row.value)
    assert [row.architecture for row in rows[9:12]] == [row.architecture for row in first[:3]]
    best = max(rows[9:12], key=lambda row: row.value)
    assert rows[12].architecture == best.architecture == search.derive() == rows[-1].best
    assert len({row.architecture for row in rows[:9]}) == 9


def test_what_is_spent_never_exceeds_the_budget_and_brackets_come_round(space):
    search = Hyperband(space, brief, RandomSearch(), epochs=4, eta=2, budget=70, seed=0)
    rows = list(search.steps())
    assert sum(row.epochs for row in rows) == search.spent <= 70 and len(rows) == search.budget == rows[0].budget
    one = [r.epochs for rounds in brackets(4, 2) for r in rounds for _ in range(r.candidates)]
    assert [row.epochs for row in rows[: len(one)]] == one and rows[len(one)].epochs == 1


def test_the_controller_is_told_each_candidate_once_with_its_longest_training(space):
    search = Hyperband(space, brief, RegularisedEvolution(population=50), epochs=9, eta=3, budget=60, seed=0)
    rows = list(search.steps())
    told = {str(taken): value for taken, value in search.memory["population"]}
    first = rows[:13]  # one bracket, and the whole of the next
    longest = {str(row.architecture.to_json()): row.value for row in first}
    assert len(longest) == 9 and longest.items() <= told.items()


def test_it_finds_more_than_chance_for_as_many_epochs(space):
    def by_chance(seed: int) -> float:
        search = ValueSearch(space, lambda a: brief(a, 9), RandomSearch(), budget=15, seed=seed)
        list(search.steps())
        return height(search.derive())

    def by_halving(seed: int, budget: int, controller=RandomSearch()) -> float:  # noqa: B008 (frozen)
        search = Hyperband(space, brief, controller, epochs=9, eta=3, budget=budget, seed=seed)
        list(search.steps())
        return height(search.derive())

    bred = RegularisedEvolution(population=6, sample=3)
    assert np.mean([by_chance(k) for k in range(12)]) + 0.02 < np.mean([by_halving(k, 15 * 9) for k in range(12)])
    assert np.mean([by_halving(k, 900) for k in range(4)]) < np.mean([by_halving(k, 900, bred) for k in range(4)])


@pytest.mark.parametrize("stop", [1, 8, 9, 12, 13, 14, 20, 27])
@pytest.mark.parametrize("controller", [RegularisedEvolution(population=4), LocalSearch()], ids=str)
def test_it_goes_on_where_it_stopped(space, stop, controller):
    def started() -> Hyperband:
        return Hyperband(space, brief, controller, epochs=9, eta=3, budget=100, seed=3)

    whole = list(started().steps())
    search, later = started(), started()
    list(islice(search.steps(), stop))
    later.restore(json.loads(json.dumps(search.state(), allow_nan=False)))
    assert list(later.steps()) == whole[stop:]


def test_failures_are_the_worst_and_never_the_best(space):
    def sick(architecture, epochs):
        if architecture["n0"] in (("a",), ("b",), ("c",)):
            raise DivergedError("no")
        return brief(architecture, epochs)

    search = Hyperband(space, sick, RandomSearch(), epochs=9, eta=3, budget=100, seed=1)
    rows = list(search.steps())
    assert {row.reason for row in rows} == {"no", None}
    assert search.derive()["n0"] not in (("a",), ("b",), ("c",))
    assert rows[12].reason is None, "what failed does not go on"
    with pytest.raises(DivergedError, match="5 times: the value is nan"):
        list(Hyperband(space, lambda a, e: math.nan, RandomSearch(), epochs=9, eta=3, budget=99, seed=0).steps())


def test_a_space_with_fewer_architectures_than_a_bracket_takes():
    small = Space(chain(("y", one_of("y", {"a": op("a"), "b": op("b")}))))
    search = Hyperband(small, lambda a, e: float(a["y"] == ("b",)), RandomSearch(), epochs=4, eta=2, budget=40, seed=0)
    assert len(list(search.steps())) == search.budget and search.derive()["y"] == ("b",)


class Stubborn(RandomSearch):
    """Proposes the same again and again, as a model does that knows what is best."""

    def propose(self, space, memory, *, rng):
        return space.architecture({choice.name: "h" for choice in space.choices})


class Lower:
    """Within are the architectures up to a height."""

    def __init__(self, most: float) -> None:
        self.most = most

    def excess(self, architecture) -> float:
        return max(0.0, height(architecture) - self.most)


def test_chance_fills_the_bracket_of_a_controller_that_repeats_itself(space):
    rows = list(Hyperband(space, brief, Stubborn(), epochs=9, eta=3, budget=27, seed=0).steps())
    assert len({row.architecture for row in rows[:9]}) == 9 and height(rows[0].architecture) == 1.0
    asked = []
    controller = Stubborn()
    object.__setattr__(
        controller, "propose", lambda *a, rng: asked.append(0) or Stubborn.propose(controller, *a, rng=rng)
    )
    next(Hyperband(space, brief, controller, epochs=81, eta=3, budget=81, seed=0).steps())
    assert len(asked) < 20, "what repeats itself is not asked for every place"


def test_candidates_come_again_only_where_there_are_no_more():
    small = Space(chain(("n0", one_of("n0", OPS))))  # 8 for 9 places
    for bounds, there in ((None, 8), (Lower(5 / 28), 6)):
        bounded = dataclasses.replace(small, bounds=bounds)
        for seed in range(5):
            rows = list(Hyperband(bounded, brief, Stubborn(), epochs=9, eta=3, budget=9, seed=seed).steps())
            assert len({row.architecture for row in rows}) == there and len(rows) == 9


def test_nothing_beyond_the_bounds_is_trained(space):
    bounded = dataclasses.replace(space, bounds=Lower(0.3))
    rows = list(Hyperband(bounded, brief, Stubborn(), epochs=9, eta=3, budget=60, seed=0).steps())
    assert all(bounded.keeps(row.architecture) for row in rows) and bounded.keeps(rows[-1].best)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"eta": 1}, "eta must be between 2 and the epochs of the longest training, 9, got 1"),
        ({"eta": 10}, "got 10"),
        ({"budget": 8}, "budget must be at least the epochs of the longest training, 9, got 8"),
    ],
)
def test_numbers_that_cannot_be(space, numbers, message):
    with pytest.raises(SpaceError, match=message):
        Hyperband(space, brief, RandomSearch(), **{"epochs": 9, "eta": 3, "budget": 99, "seed": 0, **numbers})


def test_nothing_to_derive_yet(space):
    with pytest.raises(SpaceError, match="none of 0 trainings"):
        Hyperband(space, brief, RandomSearch(), epochs=9, eta=3, budget=99, seed=0).derive()


def test_a_high_value_of_a_short_training_does_not_win(space):
    """Where values fall with the length of a training, the best is still among those that were trained longest."""
    search = Hyperband(space, lambda a, e: height(a) - e, RandomSearch(), epochs=9, eta=3, budget=60, seed=0)
    rows = list(search.steps())
    longest = max((row for row in rows if row.epochs == 9), key=lambda row: row.value)
    assert search.derive() == longest.architecture and rows[-1].best_value == longest.value
