"""Fronts against definitions written out: ranks by peeling, hypervolumes by counting cubes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metanas.controllers.front import crowding, dominates, hypervolume, knee, ranks

POINTS = st.integers(1, 3).flatmap(lambda m: st.lists(st.tuples(*[st.integers(0, 4)] * m), min_size=1, max_size=9))


def cubes(points, reference) -> int:
    """Unit cubes between the reference and any of the points, all of whole numbers."""
    top = [range(low, max([low, *column])) for low, column in zip(reference, zip(*points, strict=True), strict=True)]
    return sum(any(all(x < p for x, p in zip(cube, point, strict=True)) for point in points)
               for cube in itertools.product(*top))  # fmt: skip


@given(POINTS)
def test_a_hypervolume_is_the_cubes_that_are_dominated(points):
    for low in (0, 1, -1):
        reference = (low,) * len(points[0])
        assert hypervolume(points, reference) == pytest.approx(cubes(points, reference))


@given(POINTS)
def test_ranks_are_peeled_off(points):
    found, left, rank = ranks(points), list(range(len(points))), 0
    while left:
        front = [k for k in left if not any(dominates(points[j], points[k]) for j in left)]
        assert [k for k in left if found[k] == rank] == front
        left, rank = [k for k in left if k not in front], rank + 1


def test_a_hypervolume_of_four_objectives_and_of_none():
    assert hypervolume([[1, 1, 1, 1], [2, 2, 2, 0.5]], (0, 0, 0, 0)) == pytest.approx(1 + 8 * 0.5 - 0.5)
    assert hypervolume([], (0.0, 0.0)) == 0.0 == hypervolume([[0, 5]], (0, 0))


def test_crowding_is_infinite_at_the_ends_and_scaled_by_the_range():
    rows = np.array([[0.0, 1000.0], [1.0, 500.0], [3.0, 100.0], [4.0, 0.0]])
    assert crowding(rows).tolist() == [np.inf, 3 / 4 + 900 / 1000, 3 / 4 + 500 / 1000, np.inf]
    assert crowding(np.ones((3, 2)))[1] == 0.0  # all the same


def test_the_knee_does_not_depend_on_units():
    rows = np.array([[0.0, 10.0], [6.0, 9.0], [10.0, 0.0]])
    assert knee(rows) == 1 == knee(rows * [1e6, 1e-6]) and knee(rows[:1]) == 0
