"""The formulas: DARTS's softmax, DrNAS's Dirichlet samples and their derivative, its anchor; rows at once."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from metanas.controllers import Darts, DrNas, dirichlet
from metanas.controllers.base import by_rows

A = (0.3, 1.0, 2.5)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_darts_is_a_softmax_with_the_right_derivative():
    row = torch.randn(5, dtype=torch.float64, generator=seeded(), requires_grad=True)
    one = lambda x: Darts().relax({"y": x}, progress=0.0, generator=seeded())["y"]  # noqa: E731
    by_hand = row.detach().exp() / row.detach().exp().sum()
    torch.testing.assert_close(one(row).detach(), by_hand, rtol=1e-14, atol=0)
    assert torch.autograd.gradcheck(one, row)


def test_drnas_draws_what_the_distribution_of_torch_draws():
    """Its rsample takes no generator: the same seed, given to the global one, gives the same numbers."""
    concentration = torch.tensor(A, dtype=torch.float64).expand(50, 3).contiguous()
    ours = dirichlet(concentration, generator=seeded(7))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        theirs = torch.distributions.Dirichlet(concentration).rsample()
    torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=0)


def test_drnas_concentration():
    row = torch.tensor([-2.0, 0.0, 3.0])
    drawn = DrNas().relax({"y": row}, progress=0.0, generator=seeded(3))["y"]
    concentration = torch.tensor([math.exp(-2.0), 1.0, 4.0])
    torch.testing.assert_close(drawn, dirichlet(concentration, generator=seeded(3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(DrNas().expected({"y": row})["y"], concentration / concentration.sum())


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("i", range(len(A)))
def test_the_pathwise_derivative_is_that_of_the_moments(i, power):
    """E[w_i] = a_i / s and E[w_i^2] = a_i (a_i + 1) / (s (s + 1)) with s the sum of a; five standard errors."""
    draws = 100_000
    a = torch.tensor(A, dtype=torch.float64, requires_grad=True)
    s = a.sum()
    moment = a[i] / s if power == 1 else a[i] * (a[i] + 1) / (s * (s + 1))
    (analytic,) = torch.autograd.grad(moment, a)
    rows = a.detach().expand(draws, 3).clone().requires_grad_()
    value = dirichlet(rows, generator=seeded(i))[:, i] ** power
    (gradient,) = torch.autograd.grad(value.sum(), rows)
    error = gradient.std(0) / math.sqrt(draws)
    assert error.max() < 0.01 * analytic.abs().max()
    assert ((gradient.mean(0) - analytic).abs() < 5 * error).all()
    assert abs(value.mean() - moment) < 5 * value.std() / math.sqrt(draws)


def test_the_anchor_is_adams_coupled_decay_of_omega():
    """As in DrNAS's public code: |omega|^2 / 2, so that its gradient is anchor * omega."""
    omega = {"y": torch.randn(5, dtype=torch.float64, generator=seeded(), requires_grad=True)}
    (gradient,) = torch.autograd.grad(DrNas(anchor=0.25).penalty(omega), list(omega.values()))
    torch.testing.assert_close(gradient, 0.25 * omega["y"].detach(), rtol=1e-14, atol=0)
    assert DrNas(anchor=0.0).penalty(omega) == 0 == Darts().penalty(omega)
    twin = omega["y"].detach().clone().requires_grad_()
    ours = DrNas(anchor=0.25).optimizer(omega.values())
    theirs = torch.optim.Adam([twin], DrNas().lr, DrNas().betas, weight_decay=0.25)
    for k in range(5):
        push = torch.randn(5, dtype=torch.float64, generator=seeded(k))
        (pull,) = torch.autograd.grad(DrNas(anchor=0.25).penalty(omega), list(omega.values()))
        omega["y"].grad, twin.grad = push + pull, push.clone()
        ours.step()
        theirs.step()
    torch.testing.assert_close(omega["y"], twin, rtol=1e-12, atol=0)


@pytest.mark.parametrize("width", [2, 5, 8])
def test_rows_at_once_draw_the_same_numbers(width):
    """The fast way equals the plain one but for the order of a sum: values, derivatives, and the noise that is used."""
    rows = [torch.randn(width, dtype=torch.float64, generator=seeded(k)).requires_grad_() for k in range(6)]
    sample = lambda x, g: dirichlet(F.elu(x) + 1, generator=g)  # noqa: E731
    fast, plain = seeded(1), seeded(1)
    at_once = by_rows(lambda x: sample(x, fast), {str(k): x for k, x in enumerate(rows)})
    one_by_one = [sample(x, plain) for x in rows]
    close = {"rtol": 1e-13, "atol": 1e-14}
    torch.testing.assert_close(torch.stack(list(at_once.values())), torch.stack(one_by_one), **close)
    assert torch.equal(fast.get_state(), plain.get_state())
    weigh = torch.arange(width, dtype=torch.float64)
    a = torch.autograd.grad(sum(w @ weigh for w in at_once.values()), rows)
    b = torch.autograd.grad(sum(w @ weigh for w in one_by_one), rows)
    torch.testing.assert_close(torch.stack(a), torch.stack(b), **close)


def test_rows_of_several_lengths_keep_their_order():
    omega = {"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.ones(2)}
    assert list(by_rows(lambda rows: rows, omega)) == ["a", "b", "c"]
    assert by_rows(lambda rows: rows, {}) == {}
