"""Architecture search and its unions on a small supernet: against hand-written loops, and between estimators."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from metanas.bilevel import (
    SGD,
    Adam,
    Bilevel,
    FiniteDifference,
    FirstOrder,
    Tasks,
    Unrolled,
    adopt,
    descend,
    memory_of,
    per_step,
    solve,
    torch_step,
    train,
)
from metanas.bilevel.gradients import slope

LR, MOMENTUM, DECAY = 0.05, 0.9, 5e-4


def optimizers(theta, alpha, fused):
    weights = torch.optim.SGD(theta, LR, MOMENTUM, weight_decay=DECAY, fused=fused)
    return weights, torch.optim.Adam(alpha, 3e-4, (0.5, 0.999), weight_decay=1e-3, fused=fused)


def second_order_by_hand(m, steps):
    """DARTS, second order, after its paper: torch.autograd and torch.optim, in place."""
    net = m.net()
    w = dict(net.named_parameters())
    alpha = m.alpha["alpha"].clone().requires_grad_()
    step_w, step_alpha = optimizers(w.values(), [alpha], fused=False)
    loss = lambda w, b: m.loss(net)(w, {"alpha": alpha}, b)  # noqa: E731
    for t in range(steps):
        inner, outer = m.data(6, 10 + t), m.data(6, 50 + t)
        g = torch.autograd.grad(loss(w, inner), list(w.values()))
        ahead = {}
        for (k, p), d in zip(w.items(), g, strict=True):
            v = step_w.state[p].get("momentum_buffer") if p in step_w.state else None
            move = (0 if v is None else MOMENTUM * v) + d + DECAY * p
            ahead[k] = (p - LR * move).detach().requires_grad_()
        *v, direct = torch.autograd.grad(loss(ahead, outer), [*ahead.values(), alpha])
        eps = 0.01 / torch.cat([x.flatten() for x in v]).norm()
        sides = [{k: (p + s * eps * x).detach() for (k, p), x in zip(w.items(), v, strict=True)} for s in (1, -1)]
        plus, minus = (torch.autograd.grad(loss(side, inner), alpha)[0] for side in sides)
        alpha.grad = direct - LR * (plus - minus) / (2 * eps)
        step_alpha.step()
        step_w.zero_grad()
        loss(w, inner).backward()
        step_w.step()
    return alpha.detach(), {k: p.detach() for k, p in w.items()}


def first_order_by_hand(m, steps, clip):
    """DARTS, first order, as NAS-Bench-201 runs it: the weights first, then the structure at the new weights."""
    net = m.net()
    alpha = m.alpha["alpha"].clone().requires_grad_()
    step_w, step_alpha = optimizers(net.parameters(), [alpha], fused=False)
    for t in range(steps):
        for seed, optimizer in ((10, step_w), (50, step_alpha)):
            images, labels = m.data(6, seed + t)
            step_w.zero_grad()
            step_alpha.zero_grad()
            F.cross_entropy(net(images, torch.softmax(alpha, -1)), labels).backward()
            if optimizer is step_w:
                torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
    return alpha.detach(), {k: p.detach() for k, p in net.named_parameters()}


def by_contract(m, steps, estimator, rule=None, fused=True, clip=None, **options):
    net = m.net()
    theta, outer = dict(net.named_parameters()), {"alpha": nn.Parameter(m.alpha["alpha"].clone())}
    step_w, step_alpha = optimizers(theta.values(), outer.values(), fused)
    problem = m.problem(net, rule)
    batches = (([m.data(6, 10 + t)], m.data(6, 10 + t), m.data(6, 50 + t)) for t in range(steps))
    hs = list(
        solve(
            problem, estimator, theta, outer, batches,
            outer_step=torch_step(step_alpha, outer), advance=train(problem, theta, outer, step_w, clip=clip),
            memory=lambda: memory_of(step_w, theta), **options,
        )
    )  # fmt: skip
    assert len(hs) == steps
    return outer["alpha"].detach(), {k: p.detach() for k, p in theta.items()}


@pytest.mark.parametrize("fused", [True, False])
def test_darts_second_order_is_the_hand_written_one(mixture, rel, fused):
    alpha, w = second_order_by_hand(mixture, 4)
    got, theta = by_contract(mixture, 4, FiniteDifference(), fused=fused)
    assert rel(got, alpha) < 1e-12
    assert rel(theta, w) < 1e-12


@pytest.mark.parametrize("rule", [SGD(LR, 0.0, DECAY), SGD(LR, MOMENTUM, DECAY, nesterov=True), SGD(LR, MOMENTUM)])
def test_another_look_ahead_is_detected(mixture, rel, rule):
    alpha, _ = second_order_by_hand(mixture, 4)
    assert rel(by_contract(mixture, 4, FiniteDifference(), rule=rule)[0], alpha) > 1e-9


@pytest.mark.parametrize("clip", [0.05, 1e9])
def test_darts_first_order_is_the_hand_written_one(mixture, rel, clip):
    alpha, w = first_order_by_hand(mixture, 4, clip)
    got, theta = by_contract(mixture, 4, FirstOrder(), clip=clip, order="advance")
    assert rel(got, alpha) < 1e-12
    assert rel(theta, w) < 1e-12
    assert rel(by_contract(mixture, 4, FirstOrder(), clip=clip)[1], w) > 1e-9  # the order matters


def test_finite_difference_needs_a_smooth_supernet(mixture, rel):
    def errors(act):
        net = mixture.net(act)
        args = (mixture.problem(net), mixture.frozen(net), mixture.alpha, mixture.data(6, 1), mixture.data(6, 2))
        exact, direct = Unrolled(1)(*args).gradient, FirstOrder(1)(*args).gradient
        second = rel(exact, direct) + 1e-30
        return [rel(FiniteDifference(e)(*args).gradient, exact) / second for e in (1e-2, 1e-3)]

    smooth, kinked = errors(F.softplus), errors(F.relu)
    assert smooth[0] < 0.02
    assert smooth[1] < smooth[0] / 50  # falls as epsilon squared
    assert kinked[0] > 10 * smooth[0]


def pulled_back(m, net, estimator, relax):
    """The gradient in alpha, by way of the mixing weights as outer variables."""
    leaf = m.alpha["alpha"].clone().requires_grad_()
    mix = relax(leaf)
    raw = m.raw_loss(net)
    problem = Bilevel(raw, raw, rule=m.problem(net).rule)
    h = estimator(problem, m.frozen(net), {"mix": mix}, m.data(6, 1), m.data(6, 2))
    return torch.autograd.grad(mix, leaf, h.gradient["mix"])[0]


@pytest.mark.parametrize("estimator", [FirstOrder(), FiniteDifference(), Unrolled(1)], ids=str)
def test_mixing_weights_as_outer_variables_are_alpha_as_outer_variable(mixture, rel, estimator):
    net = mixture.net(F.softplus)
    h = estimator(mixture.problem(net), mixture.frozen(net), mixture.alpha, mixture.data(6, 1), mixture.data(6, 2))
    got = pulled_back(mixture, net, estimator, lambda a: torch.softmax(a, -1))
    assert rel(got, h.gradient["alpha"]) < 1e-10


def test_a_dirichlet_sample_as_the_outer_variable(mixture, rel):
    def drnas(a):
        torch.manual_seed(3)
        return torch.distributions.Dirichlet(F.elu(a) + 1).rsample()

    net = mixture.net(F.softplus)
    a, b = (pulled_back(mixture, net, e, drnas) for e in (FiniteDifference(1e-4), Unrolled(1)))
    assert rel(a, b) < 1e-5


def test_mixing_weights_drawn_anew_go_through_the_one_loop(mixture, rel):
    """`outer` as a function: DrNAS's way, here with softmax, so that the plain loop is the answer."""
    net = mixture.net()
    theta, raw = dict(net.named_parameters()), mixture.raw_loss(net)
    alpha = mixture.alpha["alpha"].clone().requires_grad_()
    step_w, step_alpha = optimizers(theta.values(), [alpha], fused=True)
    step = torch_step(step_alpha, alpha)
    drawn = {}

    def draw():
        drawn["mix"] = torch.softmax(alpha, -1)
        return drawn

    def pull(gradient):
        step(torch.autograd.grad(drawn["mix"], alpha, gradient["mix"])[0])

    problem = Bilevel(raw, raw, rule=SGD(LR, MOMENTUM, DECAY))
    batches = (([mixture.data(6, 10 + t)], mixture.data(6, 10 + t), mixture.data(6, 50 + t)) for t in range(3))
    advance = train(problem, theta, draw, step_w)
    memory = lambda: memory_of(step_w, theta)  # noqa: E731
    for _ in solve(problem, FirstOrder(), theta, draw, batches, outer_step=pull, advance=advance, memory=memory):
        pass
    want = by_contract(mixture, 3, FirstOrder())
    assert rel(tree_map(torch.detach, (alpha, theta)), want) < 1e-12


# ---- unions: the structure with the start, inside the task, with hyperparameters


def few_shot(m, net):
    stack = lambda rows: tuple(torch.stack(x) for x in zip(*rows, strict=True))  # noqa: E731
    support, query = stack([m.data(5, 100 + t) for t in range(3)]), stack([m.data(7, 200 + t) for t in range(3)])
    problem = Bilevel(m.loss(net), m.loss(net), start=lambda t, o, b: o["theta0"], rule=SGD(0.1))
    return problem, {**m.alpha, "theta0": m.frozen(net)}, support, query


def test_union_of_structure_and_start_is_the_autograd_loop(mixture, rel):
    net = mixture.net()
    problem, outer, support, query = few_shot(mixture, net)
    leaf = tree_map(lambda x: x.clone().requires_grad_(), outer)
    total = torch.zeros(())
    for t in range(3):
        theta = leaf["theta0"]
        for _ in range(2):
            loss = problem.inner_loss(theta, leaf, (support[0][t], support[1][t]))
            g = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
            theta = {k: v - 0.1 * d for (k, v), d in zip(theta.items(), g, strict=True)}
        total = total + problem.outer_loss(theta, leaf, (query[0][t], query[1][t])) / 3
    want = tree_unflatten(torch.autograd.grad(total, tree_leaves(leaf)), tree_flatten(leaf)[1])
    h = Tasks(Unrolled(2))(problem, {}, outer, support, query)
    assert rel(h.gradient["alpha"], want["alpha"]) < 1e-10
    assert rel(h.gradient["theta0"], want["theta0"]) < 1e-10


def test_union_with_the_structure_inside_the_task(mixture, rel):
    net = mixture.net()
    _, outer, support, query = few_shot(mixture, net)
    loss = mixture.loss(net)
    split = lambda t, o, b: loss({k: v for k, v in t.items() if k != "alpha"}, {"alpha": t["alpha"]}, b)  # noqa: E731
    problem = Bilevel(split, split, start=lambda t, o, b: {"alpha": o["alpha"], **o["theta0"]}, rule=SGD(0.1))
    args = (problem, {}, outer, support, query)
    a, b = Tasks(Unrolled(1))(*args), Tasks(Unrolled(1), loop=True)(*args)
    assert rel(a.gradient, b.gradient) < 1e-10
    assert a.theta["alpha"].shape == (3, 2, 4)
    direction = tree_map(torch.randn_like, outer)

    def value(s):
        at = tree_map(lambda x, d: x + s * d, outer, direction)
        return Tasks(FirstOrder(1))(problem, {}, at, support, query).outer_loss

    along = sum((g * d).sum() for g, d in zip(tree_leaves(a.gradient), tree_leaves(direction), strict=True))
    assert abs((value(1e-6) - value(-1e-6)) / 2e-6 / along - 1) < 1e-6


def tuned(m, net):
    def decayed(theta, outer, batch):
        size = sum((v**2).sum() for v in theta.values())
        return m.loss(net)(theta, outer, batch) + 0.5 * outer["log_wd"].exp() * size

    return Bilevel(decayed, m.loss(net), rule=SGD(lr=lambda o: o["log_lr"].exp(), momentum=0.9))


def test_union_of_structure_and_hyperparameters(mixture, rel, numeric):
    net = mixture.net(F.softplus)
    problem, theta = tuned(mixture, net), mixture.frozen(net)
    outer = {**mixture.alpha, "log_wd": torch.tensor(-5.0), "log_lr": torch.tensor(-3.0)}
    memory = {"velocity": tree_map(torch.randn_like, theta), "step": torch.tensor(0)}
    inner, valid = mixture.data(6, 1), mixture.data(6, 2)
    value = lambda o: problem.outer_loss(descend(problem, theta, o, inner, memory, 2, slope)[0], o, valid)  # noqa: E731
    h = Unrolled(2)(problem, theta, outer, inner, valid, memory=memory)
    want = numeric(value, outer, 1e-5)
    for key in outer:
        assert rel(h.gradient[key], want[key]) < 1e-6, key
    a, b = (e(problem, theta, outer, inner, valid, memory=memory) for e in (FiniteDifference(1e-4), Unrolled(1)))
    assert rel(a.gradient, b.gradient) < 1e-5


# ---- no host read: a whole step under FakeTensorMode, where .item() and bool(tensor) raise


@pytest.mark.parametrize("name", ["first order", "FD", "SAMA", "unrolled", "truncated", "few-shot", "per step"])
def test_estimators_never_read_the_host(mixture, name):
    net = mixture.net()
    search = (mixture.problem(net), mixture.frozen(net), mixture.alpha, mixture.data(6, 1), mixture.data(6, 2))
    adam = (replace(search[0], rule=Adam(0.01)), *search[1:])
    problem, outer, support, query = few_shot(mixture, net)
    rates = (
        replace(problem, rule=SGD(lr=lambda o: per_step(o["lr"]))),
        {},
        {**outer, "lr": torch.ones(2)},
        support,
        query,
    )
    estimator, args = {
        "first order": (FirstOrder(), search),
        "FD": (FiniteDifference(), search),
        "SAMA": (FiniteDifference(), adam),
        "unrolled": (Unrolled(2), adam),
        "truncated": (Unrolled(3, truncate=1), search),
        "few-shot": (Tasks(Unrolled(2)), (problem, {}, outer, support, query)),
        "per step": (Tasks(Unrolled(2)), rates),
    }[name]
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        fake = tree_map(lambda x: mode.from_tensor(x) if isinstance(x, torch.Tensor) else x, args[1:])
        h = estimator(args[0], *fake)
    assert h.outer_loss.shape == ()


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_a_whole_search_step_never_reads_the_host(mixture, optimizer):
    options = {"lr": 0.1, "weight_decay": 0.1, "fused": True}
    if optimizer is torch.optim.SGD:
        options["momentum"] = 0.9
    net = mixture.net()
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        fake = lambda tree: tree_map(mode.from_tensor, tree)  # noqa: E731
        theta, outer = fake(dict(net.named_parameters())), fake(mixture.alpha)
        problem = mixture.problem(net, SGD(0.1) if optimizer is torch.optim.SGD else Adam(0.1))
        step_w, step_a = optimizer(theta.values(), **options), optimizer(outer.values(), **options)
        inner, valid = fake(mixture.data(6, 1)), fake(mixture.data(6, 2))
        batches, step = [([inner], inner, valid)] * 2, torch_step(step_a, outer, clip=1.0)
        memory = lambda: memory_of(step_w, theta)  # noqa: E731
        for advance in (train(problem, theta, outer, step_w, clip=1.0), adopt(theta, rule=problem.rule)):
            loop = solve(
                problem, FiniteDifference(), theta, outer, batches, outer_step=step, advance=advance, memory=memory
            )
            assert len(list(loop)) == 2
