"""A learned update rule: Adam at first, the same for every coordinate, and differentiable in its own weights."""

from __future__ import annotations

import io

import pytest
import torch
from torch.utils._pytree import tree_map

from metanas.bilevel import Adam, Bilevel, Tasks, Unrolled, adopt, descend, restart, solve, torch_step
from metanas.bilevel.gradients import slope
from metanas.bilevel.learned import LearnedRule
from metanas.errors import BilevelError

RULE = LearnedRule(decays=(0.5, 0.9), hidden=(4,), times=(3,))


def weights(rule=RULE, lr=0.05, spread=0.3, seed=0, dtype=torch.float64):
    """First weights, then moved away from Adam's."""
    draw = torch.Generator().manual_seed(seed)
    first = rule.first(lr=lr, generator=draw, dtype=dtype)
    return tree_map(lambda x: x + spread * torch.randn(x.shape, generator=draw, dtype=dtype), first)


def moved(rule, outer, theta, gradients):
    memory = rule.init(theta)
    for gradient in gradients:
        theta, memory = rule(theta, memory, gradient, outer)
    return theta


@pytest.mark.parametrize("lead", [0, 1, 2])
def test_it_begins_as_adam(rel, lead):
    rule = LearnedRule(lead=lead)
    outer = {"rule": rule.first(lr=0.1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)}
    theta = {"a": torch.randn(3, 2), "b": torch.randn(4)}
    gradients = [tree_map(torch.randn_like, theta) for _ in range(6)]
    adam = Adam(0.1, betas=(rule.decays[lead], 0.999), eps=0.0)
    assert rel(moved(rule, outer, theta, gradients), moved(adam, {}, theta, gradients)) < 1e-12


def test_its_hypergradient_against_central_differences(ridge, rel, numeric):
    """Four steps from far away, in the rule's weights and in what the inner loss reads."""
    problem = Bilevel(ridge.inner, ridge.fit, rule=RULE)
    outer = {"rule": weights(), **ridge.outer}
    h = Unrolled(4)(problem, ridge.far, outer, ridge.train, ridge.valid)

    def value(outer):
        theta, _, _ = descend(problem, ridge.far, outer, ridge.train, None, 4, slope)
        return ridge.fit(theta, outer, ridge.valid)

    want = numeric(value, outer)
    assert rel(h.gradient["rule"], want["rule"]) < 1e-7
    assert rel(h.gradient["log_wd"], want["log_wd"]) < 1e-7


def test_vmap_is_the_loop(layer_sines, rel):
    s = layer_sines
    problem = Bilevel(s.loss, s.loss, start=lambda theta, outer, batch: outer["theta0"], rule=RULE)
    args = (problem, {}, {"theta0": s.theta0, "rule": weights()}, s.support, s.query)
    a, b = Tasks(Unrolled(3))(*args), Tasks(Unrolled(3), loop=True)(*args)
    for name in ("gradient", "outer_loss", "theta", "memory"):
        assert rel(getattr(a, name), getattr(b, name)) < 1e-10, name


def test_its_memory_is_carried(ridge, rel):
    problem, outer = Bilevel(ridge.inner, ridge.fit, rule=RULE), {"rule": weights(), **ridge.outer}
    args = (outer, ridge.train, ridge.valid)
    five, two = (Unrolled(k)(problem, ridge.far, *args) for k in (5, 2))
    on = Unrolled(3)(problem, two.theta, *args, memory=two.memory)
    assert rel(on.theta, five.theta) < 1e-14 and rel(on.memory, five.memory) < 1e-14
    assert rel(Unrolled(3)(problem, two.theta, *args).theta, five.theta) > 1e-3


def test_every_coordinate_is_treated_alike():
    """The same eleven coordinates in another order, cut into leaves of other shapes, move the same way."""
    draw = torch.Generator().manual_seed(3)
    theta, gradients = torch.randn(11, generator=draw), torch.randn(4, 11, generator=draw)
    order = torch.randperm(11, generator=draw)

    def tree(row):
        return {"a": row[order[:6]].view(3, 2), "b": (row[order[6:10]], row[order[10]])}  # the last one is 0-d

    outer = {"rule": weights()}
    straight = moved(RULE, outer, {"w": theta}, [{"w": g} for g in gradients])["w"]
    turned = moved(RULE, outer, tree(theta), [tree(g) for g in gradients])
    assert turned["b"][1].shape == ()
    torch.testing.assert_close(turned, tree(straight), rtol=1e-13, atol=1e-13)
    assert (straight - theta).std() > 1e-3


def test_sign_scale_and_silence_of_the_gradient():
    theta, outer = {"w": torch.zeros(5)}, {"rule": weights()}
    gradients = torch.randn(4, 5, generator=torch.Generator().manual_seed(4))
    gradients[:, 2] = 0
    step = moved(RULE, outer, theta, [{"w": g} for g in gradients])["w"]
    for factor in (-1.0, 1e3, 1e-3):
        other = moved(RULE, outer, theta, [{"w": factor * g} for g in gradients])["w"]
        torch.testing.assert_close(other, step if factor > 0 else -step, rtol=1e-6, atol=1e-9)
    assert step[2] == 0 and (step[[0, 1, 3, 4]] != 0).all()
    slopes = torch.func.jacrev(lambda g: moved(RULE, outer, theta, [{"w": g}])["w"])(torch.zeros(5))
    assert torch.isfinite(slopes).all()


@pytest.mark.parametrize("of_rule", [torch.float32, torch.float64])
@pytest.mark.parametrize("of_theta", [torch.float32, torch.float64])
def test_it_keeps_the_dtype(of_rule, of_theta):
    theta = {"w": torch.ones(3, dtype=of_theta)}
    after, memory = RULE(theta, RULE.init(theta), theta, {"rule": weights(dtype=of_rule)})
    assert after["w"].dtype == of_theta and {x.dtype for x in memory.values()} == {of_theta}


def test_its_weights_are_plain_tensors_that_a_file_keeps(ridge, rel):
    outer = {"rule": weights()}
    file = io.BytesIO()
    torch.save(outer, file)
    file.seek(0)
    again = torch.load(file, weights_only=True)
    gradients = [{"w": torch.randn(ridge.d)} for _ in range(3)]
    assert rel(moved(RULE, again, ridge.far, gradients), moved(RULE, outer, ridge.far, gradients)) == 0


def quadratics(draw, tasks=8):
    """Curvatures (tasks, 6) over two decades, and where the minima are (tasks, 6)."""
    return 10 ** (2 * torch.rand(tasks, 6, generator=draw) - 1), torch.randn(tasks, 6, generator=draw)


def test_it_learns_to_descend_faster_on_tasks_that_it_never_saw():
    loss = lambda theta, outer, batch: (batch[0] * (theta["w"] - batch[1]) ** 2).sum() / 2  # noqa: E731
    start = lambda theta, outer, batch: {"w": torch.zeros_like(batch[1])}  # noqa: E731
    problem, estimator = Bilevel(loss, loss, start=start, rule=RULE), Tasks(Unrolled(10))
    outer = {"rule": weights(lr=0.03, spread=0.0)}
    for leaf in outer["rule"].values():
        leaf.requires_grad_()
    draw = torch.Generator().manual_seed(0)
    unseen = quadratics(torch.Generator().manual_seed(1), 32)
    before = estimator(problem, {}, outer, unseen, unseen).outer_loss
    step = torch_step(torch.optim.Adam(outer["rule"].values(), 0.05), outer, clip=1.0)
    batches = [(None, batch, batch) for batch in (quadratics(draw) for _ in range(40))]
    for _ in solve(problem, estimator, {}, outer, batches, outer_step=step, advance=restart):
        pass
    after = estimator(problem, {}, outer, unseen, unseen).outer_loss
    assert after < 0.2 * before


def test_it_is_learned_while_one_network_trains(ridge):
    """`adopt` carries the rule's memory; the loss ends below that of the same rule left as it began."""
    ends = []
    for rate in (0.0, 0.05):
        outer = {"rule": weights(lr=0.003, spread=0.0), **ridge.outer}
        outer["rule"] = {name: x.requires_grad_() for name, x in outer["rule"].items()}
        problem, theta = Bilevel(ridge.inner, ridge.fit, rule=RULE), tree_map(torch.clone, ridge.far)
        step = torch_step(torch.optim.Adam(outer["rule"].values(), rate), outer["rule"])
        advance = adopt(theta, rule=RULE)
        losses = [
            float(h.outer_loss)
            for h in solve(
                problem, Unrolled(5), theta, outer, [(None, ridge.train, ridge.valid)] * 20,
                outer_step=lambda g, step=step: step(g["rule"]), advance=advance, memory=advance.memory,
            )
        ]  # fmt: skip
        ends.append(losses[-1])
    assert float(advance.memory()["step"]) == 100
    assert ends[1] < 0.5 * ends[0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LearnedRule(decays=()), r"decays must be one or more numbers .* got \(\)"),
        (lambda: LearnedRule(decays=(0.5, 1.0)), r"0 <= decay < 1, got \(0.5, 1.0\)"),
        (lambda: LearnedRule(hidden=(0,)), r"hidden must be widths >= 1, got \(0,\)"),
        (lambda: LearnedRule(lead=3), "lead must be a position in decays, 0 to 2, got 3"),
        (lambda: LearnedRule(times=(3, 0)), r"times must be > 0, got \(3, 0\)"),
        (lambda: RULE.first(lr=0.0), "lr must be > 0 and finite, got 0.0"),
        (lambda: RULE.init({}), "theta has no tensors"),
        (lambda: RULE({}, {}, {}, {"rules": {}}), r"outer has no 'rule', .* got \['rules'\]"),
    ],
)
def test_mistakes_are_named(make, words):
    with pytest.raises(BilevelError, match=words):
        make()
