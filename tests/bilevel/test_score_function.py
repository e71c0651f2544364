"""The score-function estimate against the derivative of the mean, term by term."""

import pytest
import torch

from metanas.bilevel import Bilevel, ScoreFunction
from metanas.controllers import Reinforce
from metanas.errors import BilevelError

LOSSES = torch.tensor([1.0, 4.0, -2.0], dtype=torch.float64)
PROBLEM = Bilevel(None, lambda theta, outer, batch: (outer["x"] * LOSSES).sum() + 0.5 * batch)


def at(x, carry, batch=0.0):
    return ScoreFunction(0.75)(PROBLEM, {}, {"x": x}, None, torch.tensor(batch, dtype=torch.float64), carry=carry)


@pytest.mark.parametrize("baseline", [0.0, 2.0, -7.0])
def test_the_mean_over_all_draws_is_the_derivative_of_the_mean(baseline):
    omega = torch.tensor([0.3, -1.0, 0.5], dtype=torch.float64, requires_grad=True)
    p = torch.softmax(omega, -1)
    (wanted,) = torch.autograd.grad((p * LOSSES).sum(), omega, retain_graph=True)
    carry, found = {"baseline": torch.tensor(baseline, dtype=torch.float64)}, torch.zeros(3, dtype=torch.float64)
    for k in range(3):
        x = torch.eye(3, dtype=torch.float64)[k]
        score = torch.log_softmax(omega, -1)
        (pulled,) = torch.autograd.grad(x + (score - score.detach()), omega, at(x, carry).gradient["x"])
        found += p[k].detach() * pulled
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_the_relaxation_of_the_controller_has_that_derivative():
    omega = {"y": torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()}
    draw = Reinforce().relax(omega, progress=0.0, generator=torch.Generator().manual_seed(1))["y"]
    assert sorted(draw.tolist()) == [0.0, 0.0, 1.0]
    for k in range(3):
        (row,) = torch.autograd.grad(draw[k], omega["y"], retain_graph=True)
        (score,) = torch.autograd.grad(torch.log_softmax(omega["y"], -1)[k], omega["y"])
        torch.testing.assert_close(row, score)


def test_the_baseline_is_the_running_mean_of_before():
    x = torch.eye(3, dtype=torch.float64)[1]
    first = at(x, ())
    assert not first.gradient["x"].any() and first.carry["baseline"] == 4.0
    second = at(x, first.carry, batch=8.0)
    assert second.gradient["x"].tolist() == [0.0, 4.0, 0.0] and second.carry["baseline"] == 0.75 * 4 + 0.25 * 8
    third = at(x, second.carry, batch=float("nan"))
    assert third.carry["baseline"] == second.carry["baseline"] and not third.converged


def test_a_first_loss_that_is_not_finite_is_forgotten():
    x = torch.eye(3, dtype=torch.float64)[1]
    carry = at(x, (), batch=float("nan")).carry
    for bad in (float("inf"), float("nan")):
        carry = at(x, carry, batch=bad).carry
    begun = at(x, carry)
    assert not begun.gradient["x"].any() and begun.carry["baseline"] == 4.0
    assert at(x, begun.carry, batch=8.0).gradient["x"].tolist() == [0.0, 4.0, 0.0]


def test_baselines_of_several_searches_at_once():
    """Under `vmap` each has its own: one begins anew, the other goes on."""
    x = torch.eye(3, dtype=torch.float64)[1]
    carried = torch.tensor([float("nan"), 1.0], dtype=torch.float64)
    rows = torch.vmap(lambda b: at(x, {"baseline": b}).gradient["x"])(carried)
    assert rows.tolist() == [[0.0, 0.0, 0.0], [0.0, 3.0, 0.0]]


def test_a_decay_that_cannot_be():
    with pytest.raises(BilevelError, match=r"decay must be in \[0, 1\), got 1.0"):
        ScoreFunction(1.0)
