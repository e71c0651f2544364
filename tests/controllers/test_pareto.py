"""What controllers of several values do that the others do not."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from metanas.controllers import Nsga2, Predictor, RandomSearch, Scalarised, hypervolume
from metanas.controllers.front import dominates
from metanas.errors import SpaceError
from metanas.loop import ValueSearch
from metanas.space import Architecture, Space, chain, one_of, op

LABELS = ("a", "b", "c", "d")


def ladder() -> Space:
    operations = {label: op("activation", activation="relu") for label in LABELS}
    return Space(chain(*((f"e{k}", one_of(f"e{k}", operations)) for k in range(6))))


def gain_and_price(architecture: Architecture) -> tuple[float, float]:
    """Every step up gains less than the one before, and costs as much; which choice is raised matters too."""
    marks = [LABELS.index(labels[0]) for labels in architecture.values()]
    return sum((k + 1) * mark**0.5 for k, mark in enumerate(marks)), float(sum(marks))


def run(controller, budget=120, seed=0):
    search = ValueSearch(ladder(), gain_and_price, controller, budget=budget, seed=seed, names=("gain", "-price"))
    return search, list(search.steps())


def covered(controller, seed) -> float:
    front = run(controller, seed=seed)[0].front()
    return hypervolume([(values["gain"], -values["-price"]) for _, values in front], (0.0, -18.0))


@pytest.mark.parametrize("controller", [Nsga2(), Scalarised(controller=Predictor())], ids=str)
def test_they_cover_more_than_chance(controller):
    seeds = range(2) if "Predictor" in str(controller) else range(4)
    chance = [covered(Scalarised(controller=RandomSearch()), seed) for seed in range(8)]
    assert np.mean([covered(controller, seed) for seed in seeds]) > np.mean(chance) + np.std(chance)


def test_survivors_are_the_better_half_of_parents_and_children():
    search, _ = run(Nsga2(population=8), budget=80)
    memory = search.memory
    assert len(memory["parents"]) == 8 and memory["children"] == []
    before = ValueSearch(ladder(), gain_and_price, Nsga2(population=8), budget=80, seed=0, names=("gain", "-price"))
    list(islice(before.steps(), 79))
    all_of_them = [*before.memory["parents"], *before.memory["children"], memory["parents"][0]]
    kept = [row for _, row in memory["parents"]]
    gone = [row for _, row in all_of_them if row not in kept]
    assert not any(dominates(row, survivor) for row in gone for survivor in kept)


def test_children_are_bred_from_parents():
    """Without crossover and with mutation, a child is one choice away from a parent."""
    _, rows = run(Nsga2(population=6, crossover=0.0, mutation=1.0), budget=12)
    parents = [row.architecture for row in rows[:6]]
    for row in rows[6:]:
        assert any(sum(row.architecture[name] != parent[name] for name in parent) == 1 for parent in parents)


def test_a_child_is_not_there_already():
    _, rows = run(Nsga2(population=10, mutation=0.0), budget=60)
    assert len({row.architecture for row in rows}) > 55


def test_scalarised_chance_is_chance():
    _, several = run(Scalarised(controller=RandomSearch()), budget=3)
    assert len({row.architecture for row in several}) == 3


def test_values_have_names_and_their_own_units():
    search, rows = run(Nsga2(population=4), budget=30)
    for row in rows:
        assert row.values == dict(zip(("gain", "-price"), gain_and_price(row.architecture), strict=True))
        assert row.value == row.values["gain"] and row.best_value is not None
    last = {row.architecture for row in rows if row.front}
    assert {architecture for architecture, _ in search.front()} <= last
    assert search.derive() in {architecture for architecture, _ in search.front()}
    gains = [values["gain"] for _, values in search.front()]
    assert gains == sorted(gains, reverse=True)


@pytest.mark.parametrize(
    ("controller", "names", "message"),
    [
        (Nsga2(), ("gain",), "Nsga2 needs two objectives or more, got gain"),
        (RandomSearch(), ("gain", "-gain"), "objectives need different names"),
        (RandomSearch(), (), "objectives need different names, got none"),
        (RandomSearch(), ("gain", "-"), "objectives need different names"),
    ],
)
def test_names_that_cannot_be(controller, names, message):
    with pytest.raises(SpaceError, match=message):
        ValueSearch(ladder(), gain_and_price, controller, budget=1, seed=0, names=names)


def test_as_many_numbers_as_names():
    search = ValueSearch(ladder(), lambda a: (1.0, 2.0, 3.0), Nsga2(), budget=1, seed=0, names=("x", "y"))
    with pytest.raises(TypeError, match="gave 3 values for x, y"):
        next(search.steps())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Nsga2(population=1), "population must be >= 2, got 1"),
        (lambda: Nsga2(mutation=1.5), r"mutation must be between 0 and 1, got 1\.5"),
    ],
)
def test_numbers_that_cannot_be(make, message):
    with pytest.raises(SpaceError, match=message):
        make()
