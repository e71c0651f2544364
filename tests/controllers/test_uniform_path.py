"""Supernets trained on random paths: what is drawn, and how an architecture is found by the supernet's loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from metanas.controllers import Rsps, Spos
from metanas.controllers.uniform_path import path_of
from metanas.errors import SpaceError
from metanas.space import Space, chain, one_of, op

LABELS = ("a", "b", "c", "d")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ladder(never: tuple[str, ...] = ()) -> Space:
    operations = {label: op("activation", activation="relu") for label in LABELS}
    return Space(chain(*((f"e{k}", one_of(f"e{k}", operations, never)) for k in range(6))))


def loss(path) -> float:
    """Every place further is better."""
    return -sum(path.values()) / 18


def found(controller, space=None, evaluate=loss, seed=0):
    space = space or ladder()
    omega = controller.start(space, generator=seeded())
    return controller.derive(space, omega, evaluate=evaluate, generator=seeded(seed))


@pytest.mark.parametrize("controller", [Rsps(), Spos()], ids=str)
def test_every_candidate_that_may_be_derived_is_drawn_alike_and_no_other(controller):
    space = ladder(never=("b",))
    start = controller.start(space, generator=seeded())
    omega = {f"{name} {k}": row for name, row in start.items() for k in range(2000)}
    weights = torch.stack(list(controller.relax(omega, progress=0.5, generator=seeded(1)).values()))
    assert set(weights.unique().tolist()) == {0.0, 1.0} and (weights.sum(-1) == 1).all()
    share = weights.mean(0)
    assert share[1] == 0 and (share[[0, 2, 3]] - 1 / 3).abs().max() < 0.02
    assert controller.expected(start)["e0"].tolist() == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])


def test_a_path_is_the_places_of_what_is_taken(problems):
    space = next(k for k in problems.KNOWN if k.name == "darts").build()
    architecture = space.sample(np.random.default_rng(0))
    for choice in space.choices:
        if choice.name in architecture:
            place = path_of(space, architecture)[choice.name]
            assert tuple(choice.candidates[k] for k in np.atleast_1d(place)) == architecture[choice.name]
    assert path_of(space, architecture).keys() == architecture.keys()


def test_rsps_looks_at_so_many_and_takes_the_least_loss():
    seen = []

    def evaluate(path):
        seen.append((loss(path), tuple(path.values())))
        return seen[-1][0]

    best = found(Rsps(evaluations=40), evaluate=evaluate)
    assert len(seen) == 40 and tuple(path_of(ladder(), best).values()) == min(seen)[1]


def test_no_more_are_looked_at_than_there_are():
    assert Rsps(evaluations=40).evaluates(ladder()) == 40
    assert Rsps(evaluations=5000).evaluates(ladder()) == Spos(evaluations=5000).evaluates(ladder()) == 4**6


def test_breeding_finds_more_than_chance_with_as_many_evaluations():
    chance, bred = (
        np.mean([-loss(path_of(ladder(), found(c, seed=seed))) for seed in range(5)])
        for c in (Rsps(evaluations=150), Spos(evaluations=150, population=15))
    )
    assert bred > chance + 0.1


@pytest.mark.parametrize("controller", [Rsps(evaluations=30), Spos(evaluations=30, population=5)], ids=str)
def test_a_loss_that_is_not_finite_is_never_the_least(controller):
    def evaluate(path):
        return (math.nan, -math.inf, 0.0, 0.1)[path["e0"]]

    assert found(controller, evaluate=evaluate)["e0"] == ("c",)


@pytest.mark.parametrize("controller", [Rsps(evaluations=9), Spos(evaluations=9, population=3)], ids=str)
def test_nothing_is_found_where_no_loss_is_finite(controller):
    with pytest.raises(SpaceError, match="none of 9 architectures had a finite value"):
        found(controller, evaluate=lambda path: math.nan)


def test_what_is_found_is_a_function_of_the_generator():
    small = Spos(evaluations=20, population=4)
    assert found(small, seed=3) == found(small, seed=3) != found(small, seed=4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rsps(evaluations=0), "evaluations must be >= 1, got 0"),
        (lambda: Spos(evaluations=9, population=10), "population must be between 2 and evaluations, 9, got 10"),
    ],
)
def test_numbers_that_cannot_be(make, message):
    with pytest.raises(SpaceError, match=message):
        make()
