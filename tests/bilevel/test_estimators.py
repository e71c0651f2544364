"""Hypergradients against closed forms, central differences and each other (ridge regression, float64)."""

from dataclasses import replace

import pytest
import torch
from torch.func import grad
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import FlopCounterMode

from metanas.bilevel import SGD, Adam, Bilevel, FiniteDifference, FirstOrder, Unrolled, descend, per_step
from metanas.bilevel.gradients import gradient_of, held_slope, slope


def unrolled_value(problem, theta, train, valid, steps, memory=None):
    """outer -> the outer loss after the steps: what `Unrolled(steps)` is the gradient of."""
    return lambda o: problem.outer_loss(descend(problem, theta, o, train, memory, steps, slope)[0], o, valid)


def test_ridge_closed_form_is_the_central_difference(ridge, rel, numeric):
    value = lambda o: ridge.fit(ridge.argmin(o), o, ridge.valid)  # noqa: E731
    assert rel(ridge.exact, numeric(value, ridge.outer)) < 1e-8


@pytest.mark.parametrize(
    ("estimator", "start"),
    [(Unrolled(250), "best"), (Unrolled(450), "zero"), (Unrolled(450, truncate=250), "zero")],
    ids=["from the optimum", "from zero", "truncated"],
)
def test_ridge_unrolled_is_the_closed_form(ridge, rel, estimator, start):
    h = estimator(ridge.problem, getattr(ridge, start), ridge.outer, ridge.train, ridge.valid)
    assert rel(h.gradient, ridge.exact) < 1e-8
    assert rel(h.theta, ridge.best) < 1e-8
    assert h.stationarity < 1e-8 and h.converged


def test_truncated_is_the_unroll_of_the_last_steps(ridge, rel):
    batches = (torch.randn(6, 8, ridge.d), torch.randn(6, 8))
    problem = replace(ridge.problem, rule=SGD(0.1, 0.9), batch_at=lambda b, k: tree_map(lambda x: x[k], b))
    theta, memory, _ = descend(problem, ridge.far, ridge.outer, batches, None, 4, slope)
    late = tree_map(lambda x: x[4:], batches)
    want = Unrolled(2)(problem, theta, ridge.outer, late, ridge.valid, memory=memory)
    got = Unrolled(6, truncate=2)(problem, ridge.far, ridge.outer, batches, ridge.valid)
    assert rel(got.gradient, want.gradient) < 1e-14
    assert rel(got.theta, want.theta) < 1e-14
    assert rel(got.memory, want.memory) < 1e-14
    whole = Unrolled(6)(problem, ridge.far, ridge.outer, batches, ridge.valid)
    assert (
        rel(Unrolled(6, truncate=9)(problem, ridge.far, ridge.outer, batches, ridge.valid).gradient, whole.gradient)
        == 0
    )


@pytest.mark.parametrize("rule", [SGD(0.1), SGD(0.1, 0.9, 0.05), SGD(0.1, 0.9, 0.05, nesterov=True)])
def test_finite_difference_is_one_unrolled_step_on_a_quadratic(ridge, rel, rule):
    problem = replace(ridge.problem, rule=rule)
    memory = {"velocity": {"w": torch.randn(ridge.d)}, "step": torch.tensor(0)}
    args = (problem, ridge.far, ridge.outer, ridge.train, ridge.valid)
    a, b = FiniteDifference()(*args, memory=memory), Unrolled(1)(*args, memory=memory)
    assert rel(a.gradient, b.gradient) < 1e-9
    assert (
        rel((a.outer_loss, a.stationarity, a.theta, a.memory), (b.outer_loss, b.stationarity, b.theta, b.memory))
        < 1e-14
    )


def test_finite_difference_through_warm_adam_is_sama(ridge, rel):
    problem = replace(ridge.problem, rule=Adam(0.01, weight_decay=0.1))
    memory = {"m": {"w": torch.randn(ridge.d)}, "v": {"w": torch.rand(ridge.d)}, "step": torch.tensor(3.0)}
    args = (problem, ridge.far, ridge.outer, ridge.train, ridge.valid)
    a, b = (e(*args, memory=memory).gradient for e in (FiniteDifference(), Unrolled(1)))
    assert rel(a, b) < 1e-8
    assert rel(a, Unrolled(1)(*args).gradient) > 1e-2  # the memory matters


def test_learned_rate_per_step_momentum_and_decay(ridge, rel, numeric):
    outer = {
        "log_lr": torch.tensor([-2.0, -2.5, -1.5, -3.0]),
        "log_wd": ridge.outer["log_wd"],
        "momentum": torch.tensor(0.4),
        "decay": torch.tensor(0.1),
    }
    rule = SGD(
        lr=lambda o: per_step(o["log_lr"].exp()),
        momentum=lambda o: o["momentum"],
        weight_decay=lambda o: o["decay"],
    )
    problem = Bilevel(ridge.inner, ridge.fit, start=lambda t, o, b: ridge.far, rule=rule)
    for estimator, steps in ((Unrolled(4), 4), (FiniteDifference(), 1)):
        h = estimator(problem, {}, outer, ridge.train, ridge.valid)
        want = numeric(unrolled_value(problem, {}, ridge.train, ridge.valid, steps), outer)
        assert rel(h.gradient, want) < 1e-7
        assert (h.gradient["log_lr"][:steps] != 0).all() and (h.gradient["log_lr"][steps:] == 0).all()


def test_six_minibatches(ridge, rel, numeric):
    batches = (torch.randn(6, 8, ridge.d), torch.randn(6, 8))
    problem = replace(ridge.problem, batch_at=lambda b, k: tree_map(lambda x: x[k], b))
    h = Unrolled(6)(problem, ridge.far, ridge.outer, batches, ridge.valid)
    assert rel(h.gradient, numeric(unrolled_value(problem, ridge.far, batches, ridge.valid, 6), ridge.outer)) < 1e-7


def test_hypernetwork_start(ridge, rel, numeric):
    outer = {"psi": torch.randn(ridge.d, ridge.d), "log_wd": ridge.outer["log_wd"]}
    problem = Bilevel(
        ridge.inner, ridge.fit, start=lambda t, o, b: {"w": torch.tanh(o["psi"] @ o["log_wd"])}, rule=SGD(0.1)
    )
    h = Unrolled(2)(problem, {}, outer, ridge.train, ridge.valid)
    assert rel(h.gradient, numeric(unrolled_value(problem, {}, ridge.train, ridge.valid, 2), outer)) < 1e-7
    one = FiniteDifference()(problem, {}, outer, ridge.train, ridge.valid)
    assert rel(one.gradient, Unrolled(1)(problem, {}, outer, ridge.train, ridge.valid).gradient) < 1e-8


class Learned:
    """A coordinate-wise recurrent update rule whose weights are outer variables."""

    def init(self, theta):
        return {"h": tree_map(lambda x: torch.zeros(*x.shape, 3), theta)}

    def __call__(self, theta, memory, gradient, outer):
        u = outer["rule"]
        h = tree_map(lambda h, g: torch.tanh(h @ u["hh"] + g[..., None] * u["gh"]), memory["h"], gradient)
        return tree_map(lambda w, h: w + 0.1 * h @ u["ho"], theta, h), {"h": h}


def test_learned_optimiser(ridge, rel, numeric):
    outer = {"rule": {"hh": torch.randn(3, 3), "gh": torch.randn(3), "ho": torch.randn(3)}}
    problem = Bilevel(ridge.fit, ridge.fit, start=lambda t, o, b: ridge.zero, rule=Learned())
    h = Unrolled(5)(problem, {}, outer, ridge.train, ridge.valid)
    assert rel(h.gradient, numeric(unrolled_value(problem, {}, ridge.train, ridge.valid, 5), outer)) < 1e-7


def test_first_order_is_the_unroll_with_held_inner_gradients(ridge, rel):
    outer = {"log_lr": torch.tensor(-2.0), **ridge.outer}
    problem = Bilevel(ridge.inner, ridge.fit, rule=SGD(lr=lambda o: o["log_lr"].exp(), momentum=0.5))
    h = FirstOrder(3)(problem, ridge.far, outer, ridge.train, ridge.valid)
    theta, gradients = ridge.far, []
    for _ in range(3):  # the inner gradients along the path, as numbers
        gradients.append(grad(ridge.inner)(theta, outer, ridge.train))
        theta, _, _ = descend(problem, ridge.far, outer, ridge.train, None, len(gradients), slope)

    def value(o):
        theta, memory = ridge.far, problem.rule.init(ridge.far)
        for g in gradients:
            theta, memory = problem.rule(theta, memory, g, o)
        return ridge.fit(theta, o, ridge.valid)

    assert rel(h.gradient, grad(value)(outer)) < 1e-12
    assert h.gradient["log_lr"] != 0
    assert rel(h.theta, theta) < 1e-14
    full = Unrolled(3)(problem, ridge.far, outer, ridge.train, ridge.valid)
    assert h.outer_loss == full.outer_loss and h.stationarity == full.stationarity
    assert rel(h.gradient, full.gradient) > 1e-2


def test_zero_steps_is_the_plain_gradient(mixture, rel):
    net = mixture.net()
    problem, theta, batch = mixture.problem(net), mixture.frozen(net), mixture.data(6, 1)
    leaf = mixture.alpha["alpha"].clone().requires_grad_()
    (want,) = torch.autograd.grad(problem.outer_loss(theta, {"alpha": leaf}, batch), leaf)
    for estimator in (FirstOrder(), Unrolled(0)):
        h = estimator(problem, dict(net.named_parameters()), {"alpha": leaf}, None, batch)
        assert rel(h.gradient["alpha"], want) < 1e-14
        assert h.stationarity.isnan() and h.residual.isnan() and h.curvature.isnan()
        assert all(p.grad is None for p in net.parameters())


def test_zero_steps_cost_what_autograd_costs(mixture):
    """In multiply-adds: no gradient in theta is taken, and no forward pass twice."""
    net = mixture.net()
    problem, theta, batch = mixture.problem(net), mixture.frozen(net), mixture.data(6, 1)
    leaf = mixture.alpha["alpha"].clone().requires_grad_()
    with FlopCounterMode(display=False) as plain:
        torch.autograd.grad(problem.outer_loss(theta, {"alpha": leaf}, batch), leaf)
    with FlopCounterMode(display=False) as ours:
        FirstOrder()(problem, dict(net.named_parameters()), mixture.alpha, None, batch)
    assert 0 < ours.get_total_flops() == plain.get_total_flops()


@pytest.mark.parametrize(
    "estimator", [FirstOrder(), FirstOrder(2), Unrolled(2), Unrolled(3, truncate=1), FiniteDifference()]
)
def test_nothing_carries_a_graph_and_nothing_is_written(mixture, estimator):
    net = mixture.net()
    theta, outer = dict(net.named_parameters()), {"alpha": mixture.alpha["alpha"].clone().requires_grad_()}
    before = tree_map(lambda x: x.detach().clone(), (theta, outer))
    h = estimator(mixture.problem(net), theta, outer, mixture.data(6, 1), mixture.data(6, 2))
    assert not any(x.requires_grad for x in tree_leaves(h))
    assert all(torch.equal(x, y) for x, y in zip(tree_leaves(before), tree_leaves((theta, outer)), strict=True))
    assert all(p.grad is None for p in tree_leaves((theta, outer)))


def test_everything_is_detached_at_the_door(ridge):
    class Spy(Unrolled):
        def estimate(self, problem, *trees, **options):
            assert not any(x.requires_grad for x in tree_leaves((trees, options)) if isinstance(x, torch.Tensor))
            assert not torch.is_grad_enabled()
            return super().estimate(problem, *trees, **options)

    theta, outer = tree_map(lambda x: x.clone().requires_grad_(), (ridge.far, ridge.outer))
    memory = {"velocity": tree_map(lambda x: x * 2, theta), "step": torch.tensor(1)}
    Spy(1)(ridge.problem, theta, outer, ridge.train, ridge.valid, memory=memory, carry=(theta["w"],))


@pytest.mark.parametrize("estimator", [Unrolled(2, truncate=1), Unrolled(2), FiniteDifference()])
def test_dtype_follows_the_inputs(ridge, estimator):
    single = lambda tree: tree_map(lambda x: x.float(), tree)  # noqa: E731
    for rule in (SGD(0.1, 0.9, 0.1), Adam(0.1)):
        problem = Bilevel(ridge.inner, ridge.fit, rule=rule)
        h = estimator(problem, *map(single, (ridge.far, ridge.outer, ridge.train, ridge.valid)))
        floats = [x for x in tree_leaves(h) if x.is_floating_point()]
        assert {x.dtype for x in floats} == {torch.float32}


def test_held_slope_and_gradient_of_have_no_derivative():
    loss = lambda t, o, b: o * (t**3).sum()  # noqa: E731
    t, o = torch.tensor([1.0, 2.0]), torch.tensor(3.0)
    assert torch.equal(held_slope(loss, t, o, None), slope(loss, t, o, None))
    assert grad(lambda o: slope(loss, t, o, None).sum())(o) == 15
    assert grad(lambda o: held_slope(loss, t, o, None).sum())(o) == 0
    assert gradient_of(lambda x: (x[0].sum(), ()), (t, o))[0][1] == 0  # a leaf that is not read
