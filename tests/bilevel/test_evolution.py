"""Evolution strategies: against the exact gradient and the same noise, the law of the error, persistent estimates."""

from dataclasses import replace

import pytest
import torch
from torch.utils._pytree import tree_map

from metanas.bilevel import SGD, Bilevel, EvolutionStrategies, Tasks, Unrolled
from metanas.errors import BilevelError


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("steps", [0, 9])
def test_it_is_the_exact_gradient_seen_through_the_same_noise(ridge, rel, steps):
    """mean of e (e . g), up to the square of sigma."""
    start = lambda t, o, b: {"w": ridge.far["w"] * o["log_wd"]}  # noqa: E731
    args = replace(ridge.problem, start=start), {}, ridge.outer, ridge.train, ridge.valid
    h = EvolutionStrategies(steps, 64, 1e-4)(*args, generator=seeded(1))
    e = torch.randn(64, ridge.d, generator=seeded(1))
    want = Unrolled(steps)(*args)
    assert rel(h.gradient["log_wd"], (e @ want.gradient["log_wd"]) @ e / 64) < 1e-6
    assert rel((h.theta, h.memory, h.outer_loss), (want.theta, want.memory, want.outer_loss)) < 1e-13
    assert h.converged and (steps == 0 or rel(h.stationarity, want.stationarity) < 1e-12)


def test_its_error_falls_as_one_over_the_root_of_the_samples_and_residual_foretells_it(ridge, rel):
    args = ridge.problem, ridge.far, ridge.outer, ridge.train, ridge.valid
    exact, found = Unrolled(3)(*args).gradient, {}
    for samples in (50, 800):
        hs = [EvolutionStrategies(3, samples, 1e-3)(*args, generator=seeded(s)) for s in range(60)]
        off = [rel(h.gradient, exact) * float(exact["log_wd"].norm() / h.gradient["log_wd"].norm()) for h in hs]
        found[samples] = sum(x * x for x in off) ** 0.5 / 60**0.5
        told = sum(float(h.residual) ** 2 for h in hs) ** 0.5 / 60**0.5
        assert 0.85 < found[samples] / told < 1.15
    assert 3.4 < found[50] / found[800] < 4.6  # the root of 16


@pytest.mark.parametrize("persistent", [False, True])
def test_chunks_are_the_whole(ridge, rel, persistent):
    args = ridge.problem, ridge.far, ridge.outer, ridge.train, ridge.valid
    whole = EvolutionStrategies(3, 10, persistent=persistent)(*args, generator=seeded(2))
    for chunk in (1, 3, 10):
        h = EvolutionStrategies(3, 10, persistent=persistent, chunk=chunk)(*args, generator=seeded(2))
        assert rel(h.gradient, whole.gradient) < 1e-9 and rel(h.residual, whole.residual) < 1e-9


def test_persistent_is_unbiased_over_truncations_where_truncated_reverse_mode_is_not(ridge, rel):
    """The sum over four truncations of two steps is the gradient of the four losses through 2, 4, 6 and 8 steps."""
    problem = replace(ridge.problem, rule=SGD(0.05, 0.5))
    args = problem, ridge.far, ridge.outer, ridge.train, ridge.valid
    estimator, draw, carry = EvolutionStrategies(2, 4000, 0.01, persistent=True), seeded(5), ()
    total, variance = torch.zeros(ridge.d), 0.0
    for _ in range(4):
        h = estimator(*args, carry=carry, generator=draw)
        carry, total = h.carry, total + h.gradient["log_wd"]
        variance += float(h.residual * h.gradient["log_wd"].norm()) ** 2
    exact = sum(Unrolled(k)(*args).gradient["log_wd"] for k in (2, 4, 6, 8))
    cut = sum(Unrolled(k, truncate=2)(*args).gradient["log_wd"] for k in (2, 4, 6, 8))
    assert float((total - exact).norm()) < 3 * variance**0.5
    assert float((cut - exact).norm()) > 5 * variance**0.5  # what the check could not tell would be no check
    assert rel(total, exact) < 0.1 < rel(cut, exact)


def test_persistent_particles_walk_where_the_inner_problem_walks(ridge, rel):
    """With hardly any noise every particle is where the rule would be after as many steps, its memory too."""
    problem = replace(ridge.problem, rule=SGD(0.1, 0.9))
    args = problem, ridge.far, ridge.outer, ridge.train, ridge.valid
    estimator, carry = EvolutionStrategies(4, 2, 1e-9, persistent=True), ()
    for _ in range(2):
        h = estimator(*args, carry=carry, generator=seeded(0))
        carry = h.carry
    (theta, memory), _, taken = h.carry
    want = Unrolled(8)(*args)
    assert taken == 8 and rel(h.theta, ridge.far) == 0
    spread = tree_map(lambda x: x.expand(2, 2, *x.shape), (want.theta, want.memory["velocity"]))
    assert rel((theta, memory["velocity"]), spread) < 1e-8
    assert (memory["step"] == 8).all() and rel(h.outer_loss, want.outer_loss) < 1e-8


def test_after_the_horizon_particles_start_anew(ridge, rel):
    args = ridge.problem, ridge.far, ridge.outer, ridge.train, ridge.valid
    estimator, draw, carry, hs = EvolutionStrategies(5, 4, persistent=True, horizon=10), seeded(6), (), []
    for _ in range(3):
        hs.append(estimator(*args, carry=carry, generator=draw))
        carry = hs[-1].carry
    assert [int(h.carry[2]) for h in hs] == [5, 10, 5]
    again = seeded(6)
    for _ in range(2):  # the noise of the first two calls
        torch.randn(4, ridge.d, generator=again)
    fresh = estimator(*args, generator=again)
    assert rel(hs[2].gradient, fresh.gradient) < 1e-12
    assert rel(hs[2].carry[:2], fresh.carry[:2]) < 1e-12


def test_kinks_and_steps_without_a_derivative_are_no_matter(rel):
    """F counts: its derivative is zero everywhere. Smoothed by sigma, it is the density at the step."""
    problem = Bilevel(None, lambda t, o, b: (o["a"] > 0).double().sum())
    outer, sigma = {"a": torch.tensor([0.3, -0.5])}, 0.7
    h = EvolutionStrategies(0, 200_000, sigma)(problem, {}, outer, None, None, generator=seeded(7))
    want = torch.exp(-((outer["a"] / sigma) ** 2) / 2) / (sigma * (2 * torch.pi) ** 0.5)
    assert rel(h.gradient["a"], want) < 3 * float(h.residual) < 0.03


@pytest.mark.parametrize("persistent", [False, True])
def test_the_step_is_that_of_doubles_whatever_the_default_dtype(ridge, rel, persistent):
    args = ridge.problem, ridge.far, ridge.outer, ridge.train, ridge.valid
    estimator = EvolutionStrategies(2, 8, 0.3, persistent=persistent)
    want = estimator(*args, generator=seeded(3))
    torch.set_default_dtype(torch.float32)
    assert rel(estimator(*args, generator=seeded(3)).gradient, want.gradient) < 1e-13


def test_one_noise_for_all_tasks_under_vmap_and_a_fresh_one_for_each_in_the_loop(ridge, rel):
    """Common noise: the loop with the generator set back. In the loop the generator goes on from task to task."""
    support = torch.randn(3, 8, ridge.d), torch.randn(3, 8)
    query = torch.randn(3, 6, ridge.d), torch.randn(3, 6)
    estimator = EvolutionStrategies(2, 8, 0.01)
    args = ridge.problem, ridge.far, ridge.outer
    h = Tasks(estimator)(*args, support, query, generator=seeded(4))
    take = lambda batch, t: tree_map(lambda x: x[t], batch)  # noqa: E731
    rows = [estimator(*args, take(support, t), take(query, t), generator=seeded(4)) for t in range(3)]
    assert rel(h.gradient["log_wd"], sum(r.gradient["log_wd"] for r in rows) / 3) < 1e-10
    assert rel(h.residual, max(r.residual for r in rows)) < 1e-10
    draw = seeded(4)
    rows = [estimator(*args, take(support, t), take(query, t), generator=draw) for t in range(3)]
    h = Tasks(estimator, loop=True)(*args, support, query, generator=seeded(4))
    assert rel(h.gradient["log_wd"], sum(r.gradient["log_wd"] for r in rows) / 3) < 1e-12


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: EvolutionStrategies(-1, 4), "steps must be >= 0, got -1"),
        (lambda: EvolutionStrategies(0, 4, persistent=True), "steps must be >= 1, got 0"),
        (lambda: EvolutionStrategies(2, 1), "samples must be >= 2, got 1"),
        (lambda: EvolutionStrategies(2, 4, 0.0), "sigma must be > 0, got 0.0"),
        (lambda: EvolutionStrategies(2, 4, chunk=0), "chunk must be >= 1 or None, got 0"),
        (lambda: EvolutionStrategies(2, 4, horizon=8), "only particles that are persistent have one, got 8"),
        (lambda: EvolutionStrategies(2, 4, persistent=True, horizon=1), r"horizon must be >= steps \(2\)"),
    ],
)
def test_numbers_out_of_range_are_refused(make, words):
    with pytest.raises(BilevelError, match=words):
        make()


def test_persistent_particles_that_are_not_finite_start_anew():
    """One of them would spoil every estimate to come."""
    loss = lambda theta, outer, batch: ((theta["w"] - outer["to"]) ** 2).sum() / 2  # noqa: E731
    problem = Bilevel(loss, loss, rule=SGD(0.5))
    at = {"w": torch.zeros(2)}, {"to": torch.ones(2)}, None, None
    estimator = EvolutionStrategies(2, 8, persistent=True)
    fresh = estimator(problem, *at, generator=torch.Generator().manual_seed(1))
    spoilt = tree_map(lambda x: x.clone(), fresh.carry)
    spoilt[0][0]["w"][0, 3] = float("nan")
    again = estimator(problem, *at, carry=spoilt, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again.gradient["to"], fresh.gradient["to"]) and again.converged
