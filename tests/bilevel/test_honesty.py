"""What an estimator knows of its own error it says: in words, and as an error where `strict`.

A Hessian that is not positive definite, an inner problem that is not solved, a rate past its stability bound.
"""

import re
from dataclasses import replace

import pytest
import torch

from metanas.bilevel import (
    SGD,
    Bilevel,
    ConjugateGradient,
    EvolutionStrategies,
    FiniteDifference,
    ForwardMode,
    Neumann,
    Nystrom,
    Tasks,
    Unrolled,
)
from metanas.errors import BilevelError

SOLVERS = [ConjugateGradient(steps=6), Neumann(terms=20, lr=0.1), Nystrom(rank=4, damping=1e-9)]
solvers = pytest.mark.parametrize("estimator", SOLVERS, ids=lambda e: type(e).__name__)


def seeded():
    return torch.Generator().manual_seed(0)


def says(words, estimator, h, *at):
    """Not converged; the doubts say so in one line, and it is what `strict` raises."""
    found = estimator.doubts(h)
    assert not h.converged and words in found and "\n" not in found
    with pytest.raises(BilevelError, match=re.escape(f"{type(estimator).__name__} has not converged: {found}")):
        estimator(*at, generator=seeded(), strict=True)


@solvers
@pytest.mark.parametrize("spectrum", [[-1.0, 1.0, 2.0, 3.0], [-1.0, -2.0, -3.0, -4.0]], ids=["a saddle", "a maximum"])
def test_a_hessian_that_is_not_positive_definite(quadratic, estimator, spectrum):
    q = quadratic(spectrum)  # `best` is stationary, and no minimum
    h = estimator(q.problem, *q.at, generator=seeded())
    assert -4.0 <= h.curvature <= 0 and h.stationarity < 1e-12
    says("the Hessian of the inner loss is not positive definite (least curvature -", estimator, h, q.problem, *q.at)


def test_neumann_looks_at_every_term():
    """q'Hq is positive, and so is v'Hv; the terms turn toward the negative eigenvalue all the same."""
    h, v = torch.diag(torch.tensor([-1.0, 1.0])), torch.tensor([0.08, 1.0])
    problem = Bilevel(lambda t, o, b: o["s"] * (t["w"] @ h @ t["w"]) / 2, lambda t, o, b: t["w"] @ v)
    at = problem, {"w": torch.zeros(2)}, {"s": torch.tensor(1.0)}, None, None
    estimator = Neumann(terms=4, lr=0.5)
    found = estimator(*at)
    assert found.carry["w"] @ h @ found.carry["w"] > 0 and v @ h @ v > 0
    p = torch.linalg.matrix_power(torch.eye(2) - 0.5 * h, 3) @ v
    assert abs(float(found.curvature - (p @ h @ p) / (p @ p))) < 1e-14
    says("the Hessian of the inner loss is not positive definite", estimator, found, *at)


@solvers
def test_a_flat_direction(quadratic, estimator):
    """Semi-definite, and the outer loss looks along it: no q solves Hq = v."""
    q = quadratic([0.0, 1.0, 2.0, 3.0])
    inner = lambda t, o, b: o["scale"] * (q.flat(t) @ q.hessian @ q.flat(t)) / 2  # noqa: E731
    problem, outer = Bilevel(inner, lambda t, o, b: q.flat(t).sum()), {"scale": torch.tensor(1.0)}
    h = estimator(problem, q.tree(torch.zeros(4)), outer, None, None, generator=seeded())
    assert not h.converged and h.residual > 1e-3 and estimator.doubts(h)


@solvers
def test_away_from_the_optimum(ridge, estimator, rel):
    if isinstance(estimator, Neumann):
        estimator = replace(estimator, lr=0.5, terms=300)
    if isinstance(estimator, Nystrom):
        estimator = replace(estimator, rank=5)
    at = ridge.problem, ridge.far, ridge.outer, ridge.train, ridge.valid
    h = estimator(*at, generator=seeded())
    assert rel(h.gradient, ridge.exact) > 0.1 and h.residual < 1e-5  # the linear solve is good, and the number is wrong
    size = float(torch.func.grad(ridge.inner)(ridge.far, ridge.outer, ridge.train)["w"].norm())
    assert abs(float(h.stationarity) / size - 1) < 1e-12
    says(f"the inner problem is not solved (its gradient has norm {size:.1e}", estimator, h, *at)
    solved = estimator(ridge.problem, ridge.best, *at[2:], generator=seeded())
    assert solved.converged and estimator.doubts(solved) is None


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (ConjugateGradient(steps=2), "take more steps"),
        (Neumann(terms=2, lr=0.1), "take more terms"),
        (Nystrom(rank=2), "take a greater rank, or less damping"),
        (Nystrom(rank=5, damping=0.1), "take a greater rank, or less damping"),
    ],
    ids=str,
)
def test_a_linear_solve_that_is_not_done_and_its_remedy(quadratic, estimator, words):
    q = quadratic([1.0, 2.0, 3.0, 4.0, 5.0])
    h = estimator(q.problem, *q.at, generator=seeded())
    assert h.residual > estimator.tolerance and h.stationarity < 1e-12 and h.curvature > 0
    says(f"(allowed: 1e-05): {words}", estimator, h, q.problem, *q.at)


@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_neumann_past_its_stability_bound(quadratic, factor):
    q = quadratic([1.0, 2.0, 5.0])
    estimator = Neumann(terms=400, lr=factor * 2 / 5)
    h = estimator(q.problem, *q.at)
    if factor < 1:
        assert h.residual < 0.01
        return
    assert h.residual > 100
    words = "is past the stability bound, 2 / the greatest eigenvalue of the Hessian; lower it"
    says(words, estimator, h, q.problem, *q.at)


@pytest.mark.parametrize(
    "estimator",
    [
        Unrolled(80),
        Unrolled(80, checkpoint=20),
        Unrolled(80, truncate=2),
        ForwardMode(80),
        EvolutionStrategies(80, 4),
        EvolutionStrategies(80, 4, persistent=True),
    ],
    ids=str,
)
@pytest.mark.parametrize("rate", [0.3, 1e6])
def test_steps_past_the_stability_bound(quadratic, estimator, rate):
    """The greatest eigenvalue is 5: a rate of 0.3 is within 2 / 5, one of a million overflows."""
    q = quadratic([1.0, 2.0, 5.0])
    at = replace(q.problem, rule=SGD(rate)), *q.at
    h = estimator(*at, generator=seeded())
    if rate < 1:
        assert h.converged and estimator.doubts(h) is None
        return
    says("after the inner steps: lower the rule's learning rate", estimator, h, *at)


def test_a_hypergradient_that_overflows_where_the_loss_does_not(quadratic):
    """At the optimum the steps stand still, and their derivative explodes all the same."""
    problem = Bilevel(lambda t, o, b: ((t["w"] - o["a"]) ** 2).sum() / 2, lambda t, o, b: t["w"].sum(), rule=SGD(1e9))
    at = problem, {"w": torch.ones(2)}, {"a": torch.ones(2)}, None, None
    for estimator in (Unrolled(60), Unrolled(60, checkpoint=8), ForwardMode(60)):
        h = estimator(*at)
        assert h.outer_loss == 2
        says("the hypergradient is not finite: take fewer steps, truncate, or lower", estimator, h, *at)


@solvers
def test_a_derivative_in_an_outer_variable_that_is_not_finite(estimator):
    """The square root at zero: the linear solve is perfect, the hypergradient infinite."""
    estimator = replace(estimator, lr=1.0) if isinstance(estimator, Neumann) else replace(estimator, tolerance=1e-3)
    inner = lambda t, o, b: ((t["w"] - o["a"].sqrt()) ** 2).sum() / 2  # noqa: E731
    at = Bilevel(inner, lambda t, o, b: t["w"].sum()), {"w": torch.zeros(2)}, {"a": torch.zeros(2)}, None, None
    h = estimator(*at, generator=seeded())
    assert h.residual < 1e-3 and h.gradient["a"].isinf().all()
    says("the hypergradient is not finite: a loss has no derivative there", estimator, h, *at)


def test_finite_difference_says_when_its_step_is_not_finite(quadratic):
    q = quadratic([1.0, 2.0, 5.0])
    at = replace(q.problem, rule=SGD(1e300)), *(q.tree(torch.full((3,), 1e300)), *q.at[1:])
    h = FiniteDifference()(*at)
    says("the outer loss is", FiniteDifference(), h, *at)


@pytest.mark.parametrize("loop", [False, True])
def test_tasks_are_as_honest_as_their_worst(quadratic, loop):
    """Two tasks that differ in the sign of the curvature: the least counts, and one is enough not to converge."""
    problem = Bilevel(
        lambda t, o, b: b * (t["w"] ** 2).sum() / 2 - (t["w"] * o["a"]).sum(), lambda t, o, b: (t["w"] ** 2).sum() / 2,
        start=lambda t, o, b: {"w": o["a"] / b},
    )  # fmt: skip
    outer = {"a": torch.ones(3)}
    for curvatures, good in (([2.0, 3.0], True), ([2.0, -3.0], False)):
        tasks = torch.tensor(curvatures)
        h = Tasks(ConjugateGradient(steps=3), loop)(problem, {}, outer, tasks, tasks)
        assert bool(h.converged) == good and h.curvature == min(curvatures)
    with pytest.raises(BilevelError, match="Tasks has not converged"):
        Tasks(ConjugateGradient(steps=3), loop)(problem, {}, outer, tasks, tasks, strict=True)
