"""Every exact or convergent estimator against closed forms: ridge, and quadratics of a given spectrum; in float64.

Up to a condition number of 1,000 to a relative error of 1e-8; beyond, to the remainder that theory leaves.
"""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch.utils._pytree import tree_map

from metanas.bilevel import (
    SGD,
    T1T2,
    Bilevel,
    ConjugateGradient,
    FiniteDifference,
    ForwardMode,
    Neumann,
    Nystrom,
    Unrolled,
)


def spectrum(condition, n=6):
    return torch.logspace(0, math.log10(condition), n)


def steps_to(condition, error=1e-11):
    """Steps after which the optimal heavy ball has an error below `error`, its linear factor counted in."""
    root = condition**0.5
    k = math.log(error) / math.log((root - 1) / (root + 1)) if root > 1 else 1
    return math.ceil(1.3 * k) + 5


def exact_ones(condition, q):
    steps, terms = steps_to(condition), 3
    if condition > 1:
        terms = math.ceil(math.log(1e-9) / math.log((condition - 1) / (condition + 1)))
    return {
        "conjugate gradients": ConjugateGradient(steps=2 * q.n),
        "Neumann": Neumann(terms=terms, lr=q.rate),
        "unrolled": Unrolled(steps),
        "truncated": Unrolled(steps + 50, truncate=steps),
        "checkpointed": Unrolled(steps, checkpoint=16),
        "forward": ForwardMode(steps),
    }


NAMES = ("conjugate gradients", "Neumann", "unrolled", "truncated", "checkpointed", "forward")
THOUSANDS_OF_STEPS = [(1000, "Neumann"), (1000, "truncated"), (1000, "forward")]
CASES = [
    pytest.param(*case, marks=[pytest.mark.long] if case in THOUSANDS_OF_STEPS else [])
    for case in itertools.product((1, 10, 1000), NAMES)
]


@pytest.mark.parametrize(("condition", "name"), CASES)
def test_quadratics_up_to_a_condition_of_a_thousand(quadratic, rel, name, condition):
    q = quadratic(spectrum(condition))
    h = exact_ones(condition, q)[name](q.problem, *q.at)
    assert rel(h.gradient, q.exact) < 1e-8
    assert rel(h.theta, q.best) < 1e-8 and h.stationarity < 1e-8
    assert h.converged


@pytest.mark.parametrize(
    "estimator",
    [
        ConjugateGradient(steps=5),
        Neumann(terms=450, lr=0.9),
        Unrolled(450, truncate=250, checkpoint=20),
        ConjugateGradient(steps=5, inner_steps=450),
    ],
    ids=str,
)
def test_ridge(ridge, rel, estimator):
    if isinstance(estimator, Neumann):
        estimator = replace(estimator, lr=ridge.problem.rule.lr)
    start = ridge.best if getattr(estimator, "inner_steps", 1) == 0 else ridge.zero
    h = estimator(ridge.problem, start, ridge.outer, ridge.train, ridge.valid)
    assert rel(h.gradient, ridge.exact) < 1e-8
    assert rel(h.theta, ridge.best) < 1e-8 and h.converged


@pytest.mark.parametrize("c", [0.3, 2.7])
def test_a_hessian_that_is_a_multiple_of_the_identity(quadratic, rel, c):
    """q = v / c: one step of conjugate gradients, no term of Neumann's series, T1-T2 itself."""
    q = quadratic([c] * 5)
    solvers = ConjugateGradient(steps=1), ConjugateGradient(steps=4), Neumann(terms=0, lr=1 / c), T1T2(lr=1 / c)
    for estimator in solvers:
        h = estimator(q.problem, *q.at)
        assert rel(h.gradient, q.exact) < 1e-12
        assert h.converged and h.residual < 1e-12 and abs(float(h.curvature) / c - 1) < 1e-12
    assert rel(T1T2(lr=0.5 / c)(q.problem, *q.at).gradient, q.exact) > 1e-2  # and only for that rate


@pytest.mark.parametrize(
    "estimator",
    [
        ConjugateGradient(steps=1),
        Neumann(terms=30, lr=0.2),
        Unrolled(30),
        ForwardMode(30),
        Unrolled(30, checkpoint=4),
        Nystrom(rank=1, damping=1e-12),
    ],
    ids=str,
)
def test_one_dimension(quadratic, rel, estimator):
    q = quadratic([4.0])
    problem = replace(q.problem, rule=SGD(0.2))
    h = estimator(problem, *q.at, generator=torch.Generator().manual_seed(0))
    assert rel(h.gradient, q.exact) < 1e-10


def test_beyond_neumann_leaves_the_remainder_of_theory_and_says_so(quadratic):
    """Along an eigenvector with the eigenvalue c the relative error of q is (1 - lr c)^(terms + 1)."""
    q = quadratic(spectrum(1e6))
    left = (1 - q.rate * q.c) ** 501
    h = Neumann(terms=500, lr=q.rate)(q.problem, *q.at)
    off = q.turn.T @ (q.q - q.flat(h.carry))
    assert torch.allclose(off, left * (q.turn.T @ q.q), rtol=1e-9, atol=1e-13 * float(q.q.norm()))
    want = (left * (q.turn.T @ q.v)).norm() / q.v.norm()
    assert abs(float(h.residual / want) - 1) < 1e-9
    assert not h.converged and "take more terms" in Neumann(terms=500, lr=q.rate).doubts(h)


@pytest.mark.parametrize("estimator", [Unrolled(100), Unrolled(100, checkpoint=16), ForwardMode(100)], ids=str)
def test_beyond_unrolling_leaves_the_remainder_of_theory(quadratic, rel, estimator):
    """From the optimum, k steps at a rate give o + B' Q (1 - (1 - lr c)^k) / c Q' v."""
    q = quadratic(spectrum(1e6))
    seen = q.turn @ ((1 - (1 - q.rate * q.c) ** 100) / q.c * (q.turn.T @ q.v))
    h = estimator(replace(q.problem, rule=SGD(q.rate)), *q.at)
    assert rel(h.gradient, q.through(seen)) < 1e-9
    assert rel(h.gradient, q.exact) > 1e-2


def test_beyond_conjugate_gradients_need_more_steps_and_say_so(quadratic, rel):
    q = quadratic(spectrum(1e6, n=12))
    few, many = (ConjugateGradient(steps=k)(q.problem, *q.at) for k in (5, 100))
    assert not few.converged and few.residual > 1e-5
    assert many.converged and rel(many.gradient, q.exact) < 1e-8


def test_nystrom_at_full_rank_is_the_damped_inverse(quadratic, rel):
    q = quadratic(spectrum(100))
    errors = []
    for damping in (1e-3, 1e-4, 1e-5):
        damped = torch.linalg.solve(q.hessian + damping * torch.eye(q.n), q.v)
        for rank in (6, 60):
            h = Nystrom(rank=rank, damping=damping)(q.problem, *q.at, generator=torch.Generator().manual_seed(rank))
            assert rel(h.carry, q.tree(damped)) < 1e-9
            assert rel(h.gradient, q.through(damped)) < 1e-9
        errors.append(rel(h.gradient, q.exact))
    assert [round(a / b, 1) for a, b in itertools.pairwise(errors)] == [10.0, 10.0]  # linear in the damping


def test_nystrom_at_the_rank_of_the_hessian(rel):
    """H = A A' of rank 3 in 8 dimensions, v in its range and not: (H + damping)^-1 v, with 3 products."""
    a, draw = torch.randn(8, 3), torch.Generator().manual_seed(1)
    problem = Bilevel(lambda t, o, b: ((t["w"] - o["s"]) @ a).square().sum() / 2, lambda t, o, b: t["w"] @ v)
    for v in (a @ torch.randn(3), torch.randn(8)):
        at = {"w": torch.zeros(8)}, {"s": torch.zeros(8)}, None, None
        h = Nystrom(rank=3, damping=0.1)(problem, *at, generator=draw)
        want = torch.linalg.solve(a @ a.T + 0.1 * torch.eye(8), v)
        assert rel(h.carry, {"w": want}) < 1e-10
        assert rel(h.gradient, {"s": a @ (a.T @ want)}) < 1e-10  # the mixed derivative is -H


def test_finite_difference_falls_as_epsilon_squared_on_a_smooth_network(rel):
    x, y, xv, yv = torch.randn(12, 3), torch.randn(12), torch.randn(9, 3), torch.randn(9)
    theta = {"a": torch.randn(3, 4), "b": torch.randn(4)}
    outer = {"log_decay": torch.randn(3, 4) - 2, "shift": torch.randn(4)}

    def fit(t, o, b):
        return ((torch.tanh(b[0] @ t["a"] + o["shift"]) @ t["b"] - b[1]) ** 2).mean()

    def inner(t, o, b):
        return fit(t, o, b) + (o["log_decay"].exp() * t["a"] ** 2).sum() / 2

    problem = Bilevel(inner, fit, rule=SGD(0.3, 0.9, 0.01))
    args = problem, theta, outer, (x, y), (xv, yv)
    want = Unrolled(1)(*args).gradient
    errors = [rel(FiniteDifference(epsilon)(*args).gradient, want) for epsilon in (0.1, 0.05, 0.025, 0.0125)]
    assert errors[0] > 1e-7
    assert all(3.9 < a / b < 4.1 for a, b in itertools.pairwise(errors))
    assert rel(FiniteDifference(1e-4)(*args).gradient, want) < 1e-8


@pytest.mark.parametrize("options", [{}, {"checkpoint": 16}, {"truncate": 20}], ids=str)
def test_an_unroll_that_is_to_solve_the_inner_problem_says_where_it_has_not(quadratic, options):
    hard, easy = quadratic(spectrum(1e6)), quadratic(spectrum(10))
    estimator = Unrolled(300, stationary=1e-6, **options)
    for q, solved in ((hard, False), (easy, True)):
        zero = tree_map(torch.zeros_like, q.at[0])
        h = estimator(replace(q.problem, rule=SGD(q.rate)), zero, *q.at[1:])
        assert bool(h.converged) == solved
        assert (estimator.doubts(h) is None) == solved
    assert "take more steps" in Unrolled(1, stationary=1e-9).doubts(h._replace(stationarity=torch.tensor(1.0)))
    assert Unrolled(300, **options)(replace(hard.problem, rule=SGD(hard.rate)), zero, *hard.at[1:]).converged
