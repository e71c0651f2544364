"""The linear solves of the implicit estimators: errors as theory has them, what is told of them, the warm start."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map

from metanas.bilevel import SGD, ConjugateGradient, Neumann, Nystrom, Tasks, restart, solve, train
from metanas.bilevel.problem import Bilevel
from metanas.errors import BilevelError


@pytest.mark.parametrize("factor", [0.3, 1.0, 1.9])
@pytest.mark.parametrize("terms", [0, 1, 7, 60])
def test_neumann_error_along_each_eigenvector(quadratic, factor, terms):
    """(1 - lr c)^(terms + 1), for every rate below 2 / the greatest eigenvalue."""
    q = quadratic([0.5, 1.0, 2.0, 3.5, 7.0])
    lr = factor / 7.0
    h = Neumann(terms=terms, lr=lr)(q.problem, *q.at)
    want = (1 - lr * q.c) ** (terms + 1)
    got = (q.turn.T @ (q.q - q.flat(h.carry))) / (q.turn.T @ q.q)
    assert torch.allclose(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("condition", [10, 1000])
def test_conjugate_gradients_keep_the_bound_of_chebyshev(quadratic, condition):
    """|e_n|_H <= 2 ((sqrt k - 1) / (sqrt k + 1))^n |e_0|_H, and the H-norm of the error never grows."""
    q = quadratic(torch.linspace(1, condition, 40))
    size = lambda e: float((e @ q.hessian @ e).sqrt())  # noqa: E731
    root = math.sqrt(condition)
    before, norms = size(q.q), []
    for steps in range(1, 39):
        norms.append(size(q.flat(ConjugateGradient(steps=steps)(q.problem, *q.at).carry) - q.q))
        assert norms[-1] <= 2 * ((root - 1) / (root + 1)) ** steps * before + 1e-13 * before
    assert all(b <= a * (1 + 1e-9) + 1e-13 * before for a, b in itertools.pairwise(norms))
    assert norms[0] > 0.1 * before > 0


def test_conjugate_gradients_are_exact_after_as_many_steps_as_different_eigenvalues(quadratic, rel):
    q = quadratic([1.0, 1.0, 1.0, 4.0, 4.0, 9.0, 9.0])
    errors = [rel(ConjugateGradient(steps=k)(q.problem, *q.at).gradient, q.exact) for k in (1, 2, 3, 50)]
    assert errors[1] > 1e-3 and errors[2] < 1e-12 and errors[3] < 1e-12


@pytest.mark.parametrize(
    "estimator",
    [
        ConjugateGradient(steps=3),
        ConjugateGradient(steps=3, damping=0.5),
        Neumann(terms=4, lr=0.1),
        Nystrom(rank=4, damping=0.5),
    ],
    ids=str,
)
def test_residual_and_curvature_are_those_of_the_hessian_itself(quadratic, estimator):
    q = quadratic([0.5, 1.0, 2.0, 3.5, 7.0])
    h = estimator(q.problem, *q.at, generator=torch.Generator().manual_seed(0))
    want = (q.hessian @ q.flat(h.carry) - q.v).norm() / q.v.norm()
    assert abs(float(h.residual / want) - 1) < 1e-9 and h.residual > 1e-3
    assert 0.5 <= h.curvature <= 7.0


def test_a_solution_that_is_worse_than_none_is_not_carried(quadratic):
    """A warm start with it would be worse again, from call to call."""
    saddle = quadratic([-0.01, 1.0, 2.0, 3.5, 7.0])
    bad = tree_map(lambda x: torch.full_like(x, 1e6), saddle.at[0])
    h = ConjugateGradient(steps=1)(saddle.problem, *saddle.at, carry=bad)
    assert h.residual > 1 and not saddle.flat(h.carry).any()
    good = quadratic([0.01, 1.0, 2.0, 3.5, 7.0])
    h = ConjugateGradient(steps=2)(good.problem, *good.at)
    assert h.curvature > 0 and good.flat(h.carry).any()


def test_damping_shifts_the_spectrum(quadratic, rel):
    q = quadratic([0.5, 1.0, 2.0, 3.5, 7.0])
    want = torch.linalg.solve(q.hessian + 0.5 * torch.eye(q.n), q.v)
    h = ConjugateGradient(steps=5, damping=0.5)(q.problem, *q.at)
    assert rel(h.gradient, q.through(want)) < 1e-12
    assert not h.converged and "the residual is" in ConjugateGradient(steps=5, damping=0.5).doubts(h)


def test_inner_steps_are_taken_and_not_differentiated(ridge, rel):
    """Where they end is not the optimum: the formula of the implicit function theorem there, and not of the unroll."""
    estimator = ConjugateGradient(steps=5, inner_steps=3)
    h = estimator(ridge.problem, ridge.far, ridge.outer, ridge.train, ridge.valid)
    w = ridge.far["w"].clone()
    x, y = ridge.train
    hessian = x.T @ x / len(x) + torch.diag(ridge.outer["log_wd"].exp())
    for _ in range(3):
        w = w - ridge.problem.rule.lr * (hessian @ w - x.T @ y / len(x))
    xv, yv = ridge.valid
    q = torch.linalg.solve(hessian, xv.T @ (xv @ w - yv) / len(xv))
    assert rel(h.theta, {"w": w}) < 1e-12
    assert rel(h.gradient, {"log_wd": -w * ridge.outer["log_wd"].exp() * q}) < 1e-10
    assert abs(float(h.stationarity / (hessian @ w - x.T @ y / len(x)).norm()) - 1) < 1e-10
    assert not h.converged


@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_a_warm_solve_goes_on(quadratic, rel, damping):
    q = quadratic(torch.linspace(1, 4, 20))
    estimator = ConjugateGradient(steps=4, damping=damping)
    cold = estimator(q.problem, *q.at)
    warm = estimator(q.problem, *q.at, carry=cold.carry)
    off = lambda h: q.flat(h.carry) - torch.linalg.solve(q.hessian + damping * torch.eye(q.n), q.v)  # noqa: E731
    assert off(warm).norm() < 0.1 * off(cold).norm()
    assert warm.residual < 0.1 * cold.residual or damping
    long = ConjugateGradient(steps=60)(q.problem, *q.at)
    again = ConjugateGradient(steps=1)(q.problem, *q.at, carry=long.carry)  # nothing is left to do, and none is done
    assert rel(again.gradient, long.gradient) < 1e-12 and again.converged and again.curvature > 0


def solving(ridge, estimator, problem=None, theta=None, **options):
    outer = {"log_wd": ridge.outer["log_wd"].clone()}
    move = lambda g: outer["log_wd"].sub_(1e-3 * g["log_wd"])  # noqa: E731
    batches = [(None, ridge.train, ridge.valid)] * 4
    theta = ridge.best if theta is None else theta
    return solve(
        problem or ridge.problem, estimator, theta, outer, batches, outer_step=move, advance=restart, **options
    )


def test_solve_hands_the_warm_start_on(ridge):
    residuals = [float(h.residual) for h in solving(ridge, ConjugateGradient(steps=1, inner_steps=40))]
    assert all(b < 0.9 * a for a, b in itertools.pairwise(residuals))
    cold = [float(h.residual) for h in solving(ridge, Cold(steps=1, inner_steps=40))]
    assert max(cold) < 1.01 * min(cold)  # it is the warm start that does it


class Cold(ConjugateGradient):
    def estimate(self, *trees, **options):
        return super().estimate(*trees, **options)._replace(carry=())


def test_solve_is_strict_where_asked(ridge):
    good = list(solving(ridge, ConjugateGradient(steps=5, inner_steps=300), strict=True))
    assert len(good) == 4 and all(h.converged for h in good)
    steps = solving(ridge, ConjugateGradient(steps=1, inner_steps=300), strict=True)
    with pytest.raises(BilevelError, match=r"ConjugateGradient has not converged: the residual is .* take more steps"):
        next(steps)


def test_a_training_by_torch_meets_the_implicit_estimator(ridge):
    """Theta is trained in place, the decay is learned: the outer loss falls to that of the best decay found by hand."""
    theta, outer = {"w": nn.Parameter(torch.zeros(ridge.d))}, {"log_wd": ridge.outer["log_wd"].clone()}
    advance = train(ridge.problem, theta, outer, torch.optim.SGD(theta.values(), 0.5))
    batches = [([ridge.train] * 20, ridge.train, ridge.valid)] * 60
    move = lambda g: outer["log_wd"].sub_(2.0 * g["log_wd"])  # noqa: E731
    hs = list(
        solve(
            ridge.problem, ConjugateGradient(steps=5), theta, outer, batches,
            outer_step=move, advance=advance, order="advance",
        )
    )  # fmt: skip
    assert hs[-1].converged and hs[-1].outer_loss < hs[0].outer_loss
    again = {"log_wd": ridge.outer["log_wd"].clone().requires_grad_()}
    for _ in range(60):
        value = ridge.fit(ridge.argmin(again), again, ridge.valid)
        (slope,) = torch.autograd.grad(value, again["log_wd"])
        again["log_wd"] = (again["log_wd"] - 2.0 * slope).detach().requires_grad_()
    assert abs(float(hs[-1].outer_loss / value.detach()) - 1) < 1e-2


def imaml(tasks=4, d=5, prox=2.0):
    xs, xq, w = torch.randn(tasks, 12, d), torch.randn(tasks, 9, d), torch.randn(tasks, d, 1)
    support, query = (xs, (xs @ w)[..., 0]), (xq, (xq @ w)[..., 0])

    def fit(t, o, b):
        return ((b[0] @ t["w"] - b[1]) ** 2).mean() / 2

    def near(t, o, b):
        return fit(t, o, b) + prox / 2 * ((t["w"] - o["theta0"]["w"]) ** 2).sum()

    def solved(o):
        total = torch.zeros(())
        for x, y, u, v in zip(*support, *query, strict=True):
            best = torch.linalg.solve(x.T @ x / 12 + prox * torch.eye(d), x.T @ y / 12 + prox * o["theta0"]["w"])
            total = total + fit({"w": best}, o, (u, v)) / tasks
        return total

    problem = Bilevel(near, fit, start=lambda t, o, b: o["theta0"], rule=SGD(0.25))
    outer = {"theta0": {"w": torch.randn(d)}}
    return problem, outer, support, query, torch.func.grad(solved)(outer)


@pytest.mark.parametrize("loop", [False, True])
def test_imaml_against_its_closed_form(rel, loop):
    problem, outer, support, query, want = imaml()
    for estimator in (ConjugateGradient(steps=5, inner_steps=90), Neumann(terms=120, lr=0.2, inner_steps=90)):
        h = Tasks(estimator, loop)(problem, {}, outer, support, query)
        assert rel(h.gradient, want) < 1e-8 and h.converged
        early = Tasks(replace(estimator, inner_steps=3), loop)(problem, {}, outer, support, query)
        assert rel(early.gradient, want) > 1e-3 and not early.converged and early.stationarity > 1e-3
