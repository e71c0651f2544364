"""The charge for what mixing weights cost: its gradient in omega, and what a search reports and derives."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from metanas.controllers import Darts, GradientController, Predictor, RandomSearch, RegularisedEvolution
from metanas.errors import SpaceError
from metanas.evaluation.additive_cost import additive
from metanas.evaluation.limits import Limits
from metanas.evaluation.operations import OperationTable
from metanas.loop import Price, Refinement, Round, ValueSearch
from metanas.loop.relaxed import Relaxed

OMEGA = {"1<-0": [0.3, -0.8, 0.1], "2<-0": [1.2, -0.4, 0.0], "2<-1": [0.0, 0.5, 0.2]}
CPU = torch.device("cpu")


class PlainDarts(Darts):
    """Omega moves by minus its gradient, so that the gradient can be read off."""

    def optimizer(self, parameters):
        return torch.optim.SGD(parameters, lr=1.0)


@pytest.fixture
def parameters(tiny):
    return additive(tiny.space, (1, 6, 6), tiny.classes, OperationTable.counted("parameters"))


def priced(parameters, weight: float, *, target: float | None = None) -> Price:
    reference = target or parameters.mean
    return Price(expected=parameters.expected, weight=weight, reference=reference, beyond=target is not None)


@pytest.mark.parametrize("target", [None, 40.0, 1e6])
def test_the_charge_in_omega_is_that_of_finite_differences(parameters, target):
    price = priced(parameters, 0.7, target=target)
    start = {name: torch.tensor(row) for name, row in OMEGA.items()}
    relaxed = Relaxed(PlainDarts(), start, CPU, price=price)
    relaxed.draw()
    relaxed.pull_back({"mix": {name: torch.zeros(3) for name in OMEGA}})
    moved = {name: start[name] - x.detach() for name, x in relaxed.omega.items()}

    def charge(name, k, step):
        rows = {n: row.clone() for n, row in start.items()}
        rows[name][k] += step
        return float(price.charge({n: torch.softmax(row, 0) for n, row in rows.items()}))

    for name in OMEGA:
        slopes = [(charge(name, k, 1e-5) - charge(name, k, -1e-5)) / 2e-5 for k in range(3)]
        torch.testing.assert_close(moved[name], torch.tensor(slopes), rtol=1e-6, atol=1e-9)
    assert (sum(x.abs().sum() for x in moved.values()) > 0) == (target != 1e6)


def test_it_stands_beside_the_hypergradient(parameters):
    """The two gradients add up."""
    cotangent = {name: torch.tensor([1.0, -2.0, 0.5]) for name in OMEGA}
    zero = {name: torch.zeros(3) for name in OMEGA}

    def moved(gradient, price):
        start = {name: torch.tensor(row) for name, row in OMEGA.items()}
        relaxed = Relaxed(PlainDarts(), start, CPU, price=price)
        relaxed.draw()
        relaxed.pull_back({"mix": gradient})
        return torch.cat([start[name] - x.detach() for name, x in relaxed.omega.items()])

    price = priced(parameters, 2.0)
    both = moved(cotangent, price)
    torch.testing.assert_close(both, moved(cotangent, None) + moved(zero, price), rtol=1e-12, atol=1e-12)


def with_price(search, price):
    search.relaxed.price = price
    return search


def test_a_dear_search_ends_with_cheap_architectures_and_the_loss_is_left_alone(tiny, parameters):
    free, dear = (
        with_price(tiny.search(controller=Darts(lr=0.3)), priced(parameters, weight)) for weight in (0.0, 100.0)
    )
    reports = {}
    for name, search in (("free", free), ("dear", dear)):
        steps = list(search.steps())
        reports[name] = [step.report for step in steps if step.report]
        reports[name + " first"] = steps[0].outer_loss
    assert reports["free first"] == reports["dear first"], "the first loss was taken before omega moved"
    costs = [report.cost for report in reports["dear"]]
    assert costs == sorted(costs, reverse=True) and costs[-1] < reports["free"][-1].cost
    assert parameters(dear.derive()) <= parameters(free.derive())
    assert costs[-1] == pytest.approx(
        float(parameters.expected(dear.controller.expected(dear.relaxed.omega))), rel=1e-12
    )


def test_a_search_without_a_price_has_no_cost(tiny):
    assert next(step.report.cost for step in tiny.search(epochs=1).steps() if step.report) is None


def bounded(tiny, parameters):
    """One convolution in the cell, and no more."""
    one = tiny.space.architecture({"1<-0": "conv", "2<-0": "none", "2<-1": "none"})
    return dataclasses.replace(tiny.space, bounds=Limits({"parameters": parameters}, {"parameters": parameters(one)}))


class Deaf(Darts):
    """A rule of its own that does not look at bounds."""

    def preview(self, space, omega):
        return space.architecture({name: "conv" for name in omega})

    def derive(self, space, omega, *, evaluate, generator):
        return self.preview(space, omega)


@pytest.mark.parametrize("controller", [Darts(), Deaf()], ids=["strongest", "deaf"])
def test_what_is_derived_is_within_bounds(tiny, parameters, controller: GradientController):
    search = tiny.search(controller=controller, epochs=1)
    search.space = bounded(tiny, parameters)
    for row in search.relaxed.omega.values():
        row.data = torch.tensor([0.0, 0.0, 3.0])  # the convolutions are the strongest
    report = next(step.report for step in search.steps() if step.report)
    assert search.space.keeps(report.architecture) and search.space.keeps(search.derive())
    assert not search.space.keeps(tiny.space.architecture({name: "conv" for name in OMEGA}))


@pytest.mark.parametrize("controller", [RandomSearch(), RegularisedEvolution(population=3), Predictor(start_with=3)])
def test_nothing_beyond_the_bounds_is_evaluated(tiny, parameters, controller):
    space, seen = bounded(tiny, parameters), []
    search = ValueSearch(space, lambda a: seen.append(a) or parameters(a), controller, budget=12, seed=0)
    assert all(space.keeps(row.architecture) for row in search.steps()) and all(map(space.keeps, seen))


class Stubborn(RandomSearch):
    """Proposes the same whatever the bounds are."""

    def propose(self, space, memory, *, rng):
        return space.architecture({name: "conv" for name in OMEGA})


def test_a_controller_that_does_not_look_at_bounds_is_overruled(tiny, parameters):
    space = bounded(tiny, parameters)
    rows = list(ValueSearch(space, parameters, Stubborn(), budget=3, seed=0).steps())
    assert all(space.keeps(row.architecture) for row in rows)


def test_a_refinement_stays_within_bounds(tiny, parameters):
    space = bounded(tiny, parameters)
    start = space.architecture({"1<-0": "none", "2<-0": "none", "2<-1": "none"})
    refinement = Refinement(space, start, lambda a, epochs: parameters(a), [Round(20, 1)], seed=0)
    assert all(space.keeps(row.architecture) for row in refinement.steps()) and refinement.step > 1


def test_a_screen_lets_the_best_of_several_proposals_pass(tiny, parameters):
    """By a score that is the value itself, the best of 8 draws is better than the first."""
    scored = []

    def score(architecture):
        scored.append(architecture)
        return parameters(architecture)

    plain = ValueSearch(tiny.space, parameters, RandomSearch(), budget=6, seed=0)
    picked = ValueSearch(tiny.space, parameters, RandomSearch(), budget=6, seed=0, screen=score, candidates=8)
    values = [[row.value for row in search.steps()] for search in (plain, picked)]
    assert sum(values[1]) > sum(values[0]) and len(scored) == len(set(scored)), "each is scored once"
    again = ValueSearch(tiny.space, parameters, RandomSearch(), budget=6, seed=0, screen=score, candidates=8)
    assert [row.value for row in again.steps()] == values[1]


def test_a_screen_that_is_never_finite_lets_anything_pass(tiny, parameters):
    search = ValueSearch(
        tiny.space, parameters, RandomSearch(), budget=2, seed=0, screen=lambda a: float("nan"), candidates=3
    )
    assert len(list(search.steps())) == 2
    with pytest.raises(SpaceError, match="candidates must be >= 1, got 0"):
        ValueSearch(tiny.space, parameters, RandomSearch(), budget=2, seed=0, candidates=0)
