"""Reptile: the way from the start to the end of the inner steps, and what it refuses to see."""

from dataclasses import replace

import pytest
import torch

from metanas.bilevel import SGD, Adam, Bilevel, Reptile, Tasks, Unrolled
from metanas.errors import BilevelError


@pytest.fixture
def regressions():
    """Four linear regressions in five dimensions, one start for all."""
    xs, xq, w = torch.randn(4, 12, 5), torch.randn(4, 9, 5), torch.randn(4, 5, 1)
    loss = lambda t, o, b: ((b[0] @ t["w"] - b[1]) ** 2).mean() / 2  # noqa: E731
    problem = Bilevel(loss, loss, start=lambda t, o, b: o["theta0"], rule=SGD(0.1))
    return problem, {"theta0": {"w": torch.randn(5)}}, (xs, (xs @ w)[..., 0]), (xq, (xq @ w)[..., 0])


@pytest.mark.parametrize("loop", [False, True])
def test_it_is_the_mean_way_back_from_the_ends(regressions, rel, loop):
    problem, outer, support, query = regressions
    h = Tasks(Reptile(4), loop)(problem, {}, outer, support, query)
    want = torch.zeros(5)
    for x, y in zip(*support, strict=True):
        w = outer["theta0"]["w"]
        for _ in range(4):
            w = w - 0.1 * x.T @ (x @ w - y) / 12
        want = want + (outer["theta0"]["w"] - w) / 4
    assert rel(h.gradient["theta0"]["w"], want) < 1e-12
    assert h.converged and h.residual.isnan()


def test_one_step_of_sgd_is_the_inner_gradient(regressions, rel):
    problem, outer, support, query = regressions
    batch = support[0][0], support[1][0]
    h = Reptile(1)(problem, {}, outer, batch, (query[0][0], query[1][0]))
    want = torch.func.grad(problem.inner_loss)(outer["theta0"], outer, batch)
    assert rel(h.gradient["theta0"], {"w": 0.1 * want["w"]}) < 1e-12
    end = Unrolled(1)(problem, {}, outer, batch, (query[0][0], query[1][0]))
    assert rel((h.theta, h.memory, h.outer_loss), (end.theta, end.memory, end.outer_loss)) < 1e-14


def test_a_start_that_is_a_function_is_pulled_back(regressions, rel):
    """theta0 = tanh(A u): the way back, through the transposed derivative of the start."""
    problem, _, support, query = regressions
    outer = {"a": torch.randn(5, 3), "u": torch.randn(3)}
    start = lambda t, o, b: {"w": torch.tanh(o["a"] @ o["u"])}  # noqa: E731
    problem = replace(problem, start=start, rule=Adam(0.05))
    batch, valid = ((b[0][1], b[1][1]) for b in (support, query))
    h = Reptile(3)(problem, {}, outer, batch, valid)
    way = start({}, outer, None)["w"] - h.theta["w"]
    slope = (1 - start({}, outer, None)["w"] ** 2) * way
    assert rel(h.gradient, {"a": slope[:, None] * outer["u"], "u": outer["a"].T @ slope}) < 1e-12


def test_it_meta_learns(regressions):
    """After steps along it the same few inner steps end at a lower loss, on average over the tasks."""
    problem, outer, support, query = regressions
    losses = []
    for _ in range(60):
        h = Tasks(Reptile(4))(problem, {}, outer, support, query)
        losses.append(float(h.outer_loss))
        outer = {"theta0": {"w": outer["theta0"]["w"] - 0.3 * h.gradient["theta0"]["w"]}}
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("extra", "rule"),
    [({"log_wd": torch.tensor(0.0)}, SGD(0.1)), ({"rate": torch.tensor(0.1)}, SGD(lambda o: o["rate"]))],
)
def test_a_variable_that_the_start_does_not_read_is_refused(regressions, extra, rule):
    problem, outer, support, query = regressions
    fit = problem.inner_loss
    decayed = lambda t, o, b: fit(t, o, b) + o.get("log_wd", torch.tensor(-9.0)).exp() * (t["w"] ** 2).sum()  # noqa: E731
    args = replace(problem, rule=rule, inner_loss=decayed), {}, {**outer, **extra}
    batch, valid = ((b[0][1], b[1][1]) for b in (support, query))
    name = next(iter(extra))
    with pytest.raises(BilevelError, match=rf"outer\['{name}'\] is not read: Reptile sees .* the start alone"):
        Reptile(2)(*args, batch, valid)
    with pytest.raises(BilevelError, match=rf"outer\['{name}'\] is not read"):
        Tasks(Reptile(2))(*args, support, query)


def test_steps_are_at_least_one():
    with pytest.raises(BilevelError, match="steps must be >= 1, got 0"):
        Reptile(0)
