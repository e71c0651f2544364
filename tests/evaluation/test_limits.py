"""Limits: how far beyond, what is the least that there is, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from metanas.errors import SpaceError
from metanas.evaluation import ExactCost, Limits, OperationTable, additive
from metanas.evaluation.limits import cheapest
from metanas.evaluation.tables import ArchitectureTable


def test_excess_is_a_share_of_each_limit():
    limits = Limits({"a": lambda x: 3.0, "b": lambda x: 10.0, "c": lambda x: 99.0}, {"a": 2.0, "b": 20.0})
    assert limits.excess(None) == 0.5 and str(limits) == "a at most 2, b at most 20"


@pytest.mark.parametrize("at_most", [{"a": 0.0}, {"a": -1.0}, {"a": float("nan")}, {"b": 1.0}])
def test_limits_that_cannot_be(at_most):
    with pytest.raises(SpaceError, match="a limit must be > 0 and of one of a, got"):
        Limits({"a": lambda x: 1.0}, at_most)


@pytest.mark.parametrize("name", ["nasbench201", "mlp", "elastic"])
def test_the_least_of_a_space_is_found(problems, name):
    """No random architecture is cheaper, and the limit that it is can be kept."""
    known = next(k for k in problems.KNOWN if k.name == name)
    space, rng = known.build(), np.random.default_rng(5)
    cost = additive(space, known.shape, known.outputs, OperationTable.counted("parameters"))
    least = cheapest(space, cost)
    assert least <= min(cost(space.sample(rng)) for _ in range(300))
    assert Limits({"parameters": cost}, {"parameters": least}).problems(space) == []
    (line,) = Limits({"parameters": cost}, {"parameters": least - 1}).problems(space)
    assert line == f"parameters: no architecture has at most {least - 1:g}; the smallest found has {least:g}"


def test_limits_that_exclude_each_other(problems):
    space = problems.one_edge()
    limits = Limits(
        {"conv": lambda a: 1.0 + (a["y"] == ("conv",)), "none": lambda a: 1.0 + (a["y"] == ("none",))},
        {"conv": 1.0, "none": 1.0},
    )
    (line,) = limits.problems(space)
    assert line.startswith("no architecture that keeps all of them was found (conv at most 1, none at most 1)")


def test_a_space_without_sums_is_limited_by_its_networks(problems):
    known = next(k for k in problems.KNOWN if k.name == "subsets")
    space = known.build()
    exact = ExactCost(space, known.shape, known.outputs, "parameters")
    least = min(exact(space.sample(np.random.default_rng(k))) for k in range(30))
    assert cheapest(space, exact) <= least


def test_a_column_of_a_table_is_a_cost(problems):
    space = problems.one_edge()
    table = ArchitectureTable({"y=conv": 0, "y=none": 1}, {"ms": np.array([3.0, 1.0])})
    limits = Limits({"ms": lambda a: table.test(a, "ms")}, {"ms": 2.0})
    assert limits.problems(space) == []
    assert [limits.excess(space.architecture({"y": label})) for label in ("conv", "none")] == [0.5, 0.0]
