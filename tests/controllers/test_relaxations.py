"""The formulas: DARTS's softmax, DrNAS's Dirichlet samples and their derivative, its anchor; rows at once."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from metanas.controllers import Darts, DrNas, GumbelSoftmax, dirichlet
from metanas.controllers.base import by_rows
from metanas.errors import SpaceError

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
    (gradient,) = torch.autograd.grad(DrNas(anchor=0.25).penalty(omega, progress=0.5), list(omega.values()))
    torch.testing.assert_close(gradient, 0.25 * omega["y"].detach(), rtol=1e-14, atol=0)
    assert DrNas(anchor=0.0).penalty(omega, progress=0.5) == 0 == Darts().penalty(omega, progress=0.5)
    twin = omega["y"].detach().clone().requires_grad_()
    ours = DrNas(anchor=0.25).optimizer(omega.values())
    theirs = torch.optim.Adam([twin], DrNas().lr, DrNas().betas, weight_decay=0.25)
    for k in range(5):
        push = torch.randn(5, dtype=torch.float64, generator=seeded(k))
        (pull,) = torch.autograd.grad(DrNas(anchor=0.25).penalty(omega, progress=0.5), list(omega.values()))
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


def test_gumbel_draws_follow_the_temperature() -> None:
    """Near one-hot at the end; each candidate's turn comes as often as its probability says."""
    row, draws = torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64), 20_000
    omega = {str(k): row for k in range(draws)}
    generator = torch.Generator().manual_seed(0)
    controller = GumbelSoftmax(start_temperature=5.0, end_temperature=0.02)
    early, late = (
        torch.stack(list(controller.relax(omega, progress=p, generator=generator).values())) for p in (0.0, 1.0)
    )
    assert early.max(1).values.mean() < 0.5 and late.max(1).values.mean() > 0.98
    for sample in (early, late):  # the argmax does not depend on the temperature
        often = torch.bincount(sample.argmax(1), minlength=3) / draws
        torch.testing.assert_close(often.double(), torch.softmax(row, -1), rtol=0, atol=0.015)


def test_the_gradient_of_the_beta_penalty_is_the_softmax() -> None:
    """d logsumexp(omega) / d omega = softmax(omega), growing with the search (beta-DARTS, eq. 9)."""
    omega = {"a": torch.tensor([0.3, -1.0, 2.0], requires_grad=True), "b": torch.zeros(2, requires_grad=True)}
    for progress in (0.0, 0.25, 1.0):
        penalty = Darts(beta=50.0).penalty(omega, progress=progress)
        rows = torch.autograd.grad(penalty, list(omega.values()))
        for row, x in zip(rows, omega.values(), strict=True):
            torch.testing.assert_close(row, 50.0 * progress * torch.softmax(x.detach(), -1) / 2)


def test_temperatures_that_cannot_be() -> None:
    with pytest.raises(SpaceError, match=r"temperatures must be > 0, got 1\.0 and 0\.0"):
        GumbelSoftmax(end_temperature=0.0)
