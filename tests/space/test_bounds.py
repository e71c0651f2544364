"""Bounds of a space: what it draws, mutates, crosses and lists keeps them, however tight they are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from metanas.errors import SpaceError
from metanas.space import Space, downhill


@dataclasses.dataclass(frozen=True)
class AtMost:
    """At most so many choices take one of these labels."""

    labels: tuple[str, ...]
    most: int

    def excess(self, architecture) -> float:
        return max(0, sum(row[0] in self.labels for row in architecture.values()) - self.most)


CONVS = ("nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3", "none")


@pytest.fixture
def space(problems) -> Space:
    return problems.nasbench201()


@pytest.mark.parametrize("most", [0, 1, 4])
def test_everything_that_comes_out_is_within(space, most):
    """With 0 there is one architecture in 15,625, which random draws do not hit."""
    bounded, rng = dataclasses.replace(space, bounds=AtMost(CONVS, most)), np.random.default_rng(0)
    drawn = [bounded.sample(rng) for _ in range(8)]
    made = [bounded.mutate(a, rng) for a in drawn] + [bounded.crossover(drawn[0], a, rng) for a in drawn]
    near = [other for a in drawn[:2] for other in bounded.neighbours(a)]
    assert all(bounded.keeps(a) for a in [*drawn, *made, *near])
    if most == 1:
        assert len(near) > 0 and len(list(space.neighbours(drawn[0]))) == 24 > len(list(bounded.neighbours(drawn[0])))


def test_bounds_that_nothing_keeps(space):
    bounded = dataclasses.replace(space, bounds=AtMost(CONVS, -1))
    with pytest.raises(SpaceError, match="no architecture within the bounds was found"):
        bounded.sample(np.random.default_rng(0))


def test_a_space_with_bounds_is_another_one(space):
    bounded = dataclasses.replace(space, bounds=AtMost(CONVS, 2))
    assert bounded != space and bounded.unbounded == space == space.unbounded
    assert hash(bounded) != hash(space) and bounded.size == space.size
    assert bounded == dataclasses.replace(space, bounds=AtMost(CONVS, 2))


def test_downhill_ends_where_no_neighbour_is_cheaper(space):
    start = space.sample(np.random.default_rng(1))
    end = downhill(space, lambda a: sum(row[0] != "skip_connect" for row in a.values()), start)
    assert {row[0] for row in end.values()} == {"skip_connect"}
