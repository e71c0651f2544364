"""What is derived within bounds is the strongest of all that keep them; DARTS's top-2 rule holds as without."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from metanas.controllers import derivation, strongest
from metanas.evaluation.limits import Limits

PRICES = {"none": 0, "skip_connect": 1, "nor_conv_1x1": 5, "nor_conv_3x3": 12, "avg_pool_3x3": 2}


def price(architecture) -> float:
    return float(sum(PRICES[row[0]] for row in architecture.values()))


def weights_of(space, seed: int):
    generator = torch.Generator().manual_seed(seed)
    sizes = {c.name: len(c.candidates) for c in space.choices if c.take == 1}
    return {name: torch.softmax(2 * torch.randn(n, generator=generator).double(), 0) for name, n in sizes.items()}


def strength(space, weights, architecture) -> float:
    return sum(float(w[space.program.choice(n).index(architecture[n][0])]) for n, w in weights.items())


@pytest.mark.parametrize("limit", [12, 3, 0])
def test_the_strongest_of_all_that_keep_the_limit(problems, limit):
    """Against a list of all 15,625."""
    space = problems.nasbench201()
    bounded = dataclasses.replace(space, bounds=Limits({"price": price}, {"price": limit + 0.5}))
    weights = weights_of(space, 3)
    found = strongest(bounded, weights)
    rows = (dict(zip(weights, x, strict=True)) for x in itertools.product(*(c.options for c in space.choices)))
    best = max(
        strength(space, weights, {n: (x,) for n, x in row.items()})
        for row in rows
        if sum(map(PRICES.get, row.values())) <= limit
    )
    assert price(found) <= limit and strength(space, weights, found) == pytest.approx(best, rel=1e-12)


def test_the_greedy_search_is_nearly_as_strong(problems, monkeypatch):
    space, lost = problems.nasbench201(), []
    for seed in range(6):
        bounded = dataclasses.replace(space, bounds=Limits({"price": price}, {"price": 10.0}))
        weights = weights_of(space, seed)
        exact = strongest(bounded, weights)
        with monkeypatch.context() as patch:
            patch.setattr(derivation, "TRIED", 0)
            found = strongest(bounded, weights)
        assert price(found) <= 10
        lost.append(1 - strength(space, weights, found) / strength(space, weights, exact))
    assert min(lost) >= -1e-12 and sum(lost) / len(lost) < 0.1


def test_nothing_changes_where_the_limit_does_not_bind(problems):
    space = problems.darts()
    bounded = dataclasses.replace(space, bounds=Limits({"none": lambda a: 1.0}, {"none": 2.0}))
    assert strongest(bounded, weights_of(space, 0)) == strongest(space, weights_of(space, 0))


def test_the_two_strongest_inputs_are_taken_within_limits(problems):
    """Of the operations that are taken on the edges, those with the largest weights."""
    space = problems.darts()

    def separables(architecture) -> float:
        return float(sum("sep" in label for labels in architecture.values() for label in labels))

    weights = weights_of(space, 1)
    free = separables(strongest(space, weights))
    bounded = dataclasses.replace(space, bounds=Limits({"n": separables}, {"n": free - 1.5}))
    found = strongest(bounded, weights)
    assert separables(found) <= free - 2 and space.architecture(found) == found
    for kind, node in itertools.product(("normal", "reduce"), (3, 4, 5)):
        taken = found[f"{kind}.{node}"]
        edges = [f"{kind}.{node}<-{source}" for source in taken]
        assert len(taken) == 2 and all(found[edge][0] != "none" for edge in edges)


def test_infinite_strengths(problems):
    """As perturbation gives them to a candidate that is all there is."""
    space = problems.nasbench201()
    weights = {
        c.name: torch.full((5,), -float("inf")).index_fill(0, torch.tensor(3), float("inf")) for c in space.choices
    }
    bounded = dataclasses.replace(space, bounds=Limits({"price": price}, {"price": 61.0}))
    found = strongest(bounded, weights)
    assert price(found) <= 61 and sum(row == ("nor_conv_3x3",) for row in found.values()) == 5
