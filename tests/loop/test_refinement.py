"""Successive halving on the neighbourhood: who competes, who goes on, and that it goes on where it stopped."""

import json
import math

import numpy as np
import pytest

from metanas.errors import SpaceError
from metanas.loop import Refinement, Round
from metanas.space import Space, chain, one_of, op

OPS = {name: op(name) for name in ("none", "skip", "conv", "avg_pool")}


@pytest.fixture
def space() -> Space:
    return Space(chain(*((f"n{k}", one_of(f"n{k}", OPS)) for k in range(3))), "line", template="{n0}|{n1}|{n2}")


class Brief:
    """Counts the convolutions; one epoch mistakes a pool for two of them. Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def __call__(self, architecture, epochs) -> float:
        self.asked.append((str(architecture), epochs))
        text = str(architecture)
        if "none" in text:
            return math.nan
        return text.count("conv") + (2.0 * text.count("pool") if epochs == 1 else 0.0)


def test_the_start_and_all_its_neighbours_compete_and_longer_trainings_decide(space):
    brief = Brief()
    search = Refinement(space, space.parse("conv|skip|skip"), brief, [Round(99, 1), Round(4, 2)], seed=0)
    rows = list(search.steps())
    first = [text for text, epochs in brief.asked if epochs == 1]
    assert first[0] == "conv|skip|skip" and len(first) == len(set(first)) == 10
    assert set(first[1:]) == {str(a) for a in space.neighbours(space.parse("conv|skip|skip"))}
    second = [text for text, epochs in brief.asked if epochs == 2]
    assert len(second) == 4 and {"conv|avg_pool|skip", "conv|skip|avg_pool"} <= set(second)
    assert str(search.derive()) in ("conv|conv|skip", "conv|skip|conv")
    assert [r.step for r in rows] == list(range(1, 15)) and rows[-1].budget == 14
    assert [r.epochs for r in rows] == [1] * 10 + [2] * 4


def test_a_value_that_is_not_finite_is_never_the_best(space):
    search = Refinement(space, space.parse("none|skip|skip"), Brief(), [Round(99, 1)], seed=0)
    rows = list(search.steps())
    assert math.isnan(rows[0].value) and rows[0].best is None and rows[0].best_value is None
    assert "none" not in str(search.derive())


def test_values_of_any_kind_of_number_become_plain(space):
    search = Refinement(space, space.parse("conv|skip|skip"), lambda *_: np.float32(0.5), [Round(3, 1)], seed=0)
    assert type(next(search.steps()).value) is float
    json.dumps(search.state(), allow_nan=False)


def test_fewer_places_than_neighbours_are_drawn_by_the_seed(space):
    def asked(seed: int) -> list[str]:
        brief = Brief()
        list(Refinement(space, space.parse("conv|skip|skip"), brief, [Round(4, 1)], seed=seed).steps())
        return [text for text, _ in brief.asked]

    assert asked(0) == asked(0) and len(asked(0)) == 4
    assert any(asked(seed) != asked(0) for seed in range(1, 4))
    assert all(asked(seed)[0] == "conv|skip|skip" for seed in range(3))


@pytest.mark.parametrize("stop", range(1, 14))
def test_it_goes_on_where_it_stopped(space, stop):
    rounds = [Round(9, 1), Round(4, 2), Round(1, 3)]
    start, whole = space.parse("conv|skip|skip"), Brief()
    plain = Refinement(space, start, whole, rounds, seed=3)
    rows = list(plain.steps())

    cut = Brief()
    search = Refinement(space, start, cut, rounds, seed=3)
    for _ in zip(range(stop), search.steps(), strict=False):
        pass
    state = json.loads(json.dumps(search.state(), allow_nan=False))
    later = Refinement(space, start, cut, rounds, seed=3)
    later.restore(state)
    assert later.budget == plain.budget
    rest = list(later.steps())
    assert [(r.step, str(r.architecture)) for r in rest] == [(r.step, str(r.architecture)) for r in rows[stop:]]
    assert cut.asked == whole.asked and later.derive() == plain.derive()


@pytest.mark.parametrize("rounds", [[], [Round(2, 1), Round(3, 1)], [Round(0, 1)]])
def test_rounds_must_shrink(space, rounds):
    with pytest.raises(SpaceError, match="ever fewer candidates"):
        Refinement(space, space.parse("conv|skip|skip"), Brief(), rounds, seed=0)
