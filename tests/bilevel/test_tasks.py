"""Few-shot problems: `Tasks` against a loop of torch.autograd, and vmap against the loop, for every norm."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map

from metanas.bilevel import (
    SGD,
    Bilevel,
    ConjugateGradient,
    Estimator,
    FiniteDifference,
    FirstOrder,
    Tasks,
    Unrolled,
    descend,
    per_step,
)
from metanas.bilevel.estimator import Hypergradient
from metanas.bilevel.gradients import slope
from metanas.errors import BilevelError


def by_hand(s, steps, lr, first_order):
    """MAML as other libraries write it: torch.autograd with create_graph, one task after the other."""
    start = {k: v.clone().requires_grad_() for k, v in s.theta0.items()}
    total = torch.zeros(())
    for t in range(s.tasks):
        theta = start
        for _ in range(steps):
            loss = s.loss(theta, None, (s.support[0][t], s.support[1][t]))
            g = torch.autograd.grad(loss, list(theta.values()), create_graph=not first_order)
            theta = {k: v - lr * d for (k, v), d in zip(theta.items(), g, strict=True)}
        total = total + s.loss(theta, None, (s.query[0][t], s.query[1][t])) / s.tasks
    return dict(zip(start, torch.autograd.grad(total, list(start.values())), strict=True)), total.detach()


def maml(s, rule=None):
    return Bilevel(s.loss, s.loss, start=lambda t, o, b: o["theta0"], rule=rule or SGD(0.1))


def unrolled_mean(s, problem, steps):
    def value(o):
        total = torch.zeros(())
        for t in range(s.tasks):
            batch = (s.support[0][t], s.support[1][t])
            theta = descend(problem, {}, o, batch, None, steps, slope)[0]
            total = total + problem.outer_loss(theta, o, (s.query[0][t], s.query[1][t])) / s.tasks
        return total

    return value


@pytest.mark.parametrize(("estimator", "first"), [(Unrolled(3), False), (FirstOrder(3), True)], ids=["MAML", "FOMAML"])
def test_maml_is_the_autograd_loop(sines, rel, estimator, first):
    want, loss = by_hand(sines, 3, 0.1, first)
    h = Tasks(estimator)(maml(sines), {}, {"theta0": sines.theta0}, sines.support, sines.query)
    assert rel(h.gradient["theta0"], want) < 1e-10
    assert rel(h.outer_loss, loss) < 1e-12


CONFORMANCE = [FirstOrder(), FirstOrder(2), Unrolled(2), FiniteDifference()]


@pytest.mark.parametrize("estimator", CONFORMANCE, ids=str)
def test_vmap_is_the_loop(sines, rel, estimator):
    problem, outer = maml(sines, SGD(0.1, 0.5, 0.01)), {"theta0": sines.theta0}
    args = (problem, {}, outer, sines.support, sines.query)
    a, b = Tasks(estimator)(*args), Tasks(estimator, loop=True)(*args)
    assert [x.shape for x in tree_leaves(a)] == [x.shape for x in tree_leaves(b)]
    for name in ("gradient", "outer_loss", "theta", "memory"):
        assert rel(getattr(a, name), getattr(b, name)) < 1e-10, name
    assert torch.allclose(a.stationarity, b.stationarity, equal_nan=True, rtol=1e-10)
    assert a.converged.dtype == torch.bool


def test_the_fields_of_tasks_are_means_or_those_of_the_worst(layer_sines, rel):
    s, outer = layer_sines, {"theta0": layer_sines.theta0}
    h = Tasks(Unrolled(2))(maml(s), {}, outer, s.support, s.query)
    rows = []
    for t in range(s.tasks):
        inner, valid = ((b[0][t], b[1][t]) for b in (s.support, s.query))
        rows.append(Unrolled(2)(maml(s), {}, outer, inner, valid))
    assert rel(h.outer_loss, sum(r.outer_loss for r in rows) / s.tasks) < 1e-12
    assert rel(h.stationarity, torch.stack([r.stationarity for r in rows]).max()) < 1e-12
    assert all(rel(h.theta[k], torch.stack([r.theta[k] for r in rows])) < 1e-12 for k in h.theta)
    spoilt = (s.query[0].clone(), s.query[1])
    spoilt[0][2] = float("nan")
    assert not Tasks(Unrolled(2))(maml(s), {}, outer, s.support, spoilt).converged


def test_finite_difference_under_tasks(sines, rel):
    args = (maml(sines), {}, {"theta0": sines.theta0}, sines.support, sines.query)
    a, b = Tasks(FiniteDifference(1e-4))(*args), Tasks(Unrolled(1))(*args)
    assert rel(a.gradient, b.gradient) < 1e-6


def test_anil_only_the_head_adapts(layer_sines, rel, numeric):
    s = layer_sines
    head = [k for k in s.theta0 if k.startswith("b.")]
    loss = lambda theta, o, b: s.loss({**o["theta0"], **theta}, o, b)  # noqa: E731
    problem = Bilevel(loss, loss, start=lambda t, o, b: {k: o["theta0"][k] for k in head}, rule=SGD(0.1))
    outer = {"theta0": s.theta0}
    h = Tasks(Unrolled(3))(problem, {}, outer, s.support, s.query)
    assert rel(h.gradient, numeric(unrolled_mean(s, problem, 3), outer)) < 1e-7
    assert sorted(h.theta) == sorted(head)


def test_meta_sgd_union_of_start_and_rates(layer_sines, rel, numeric):
    s = layer_sines
    problem = maml(s, SGD(lr=lambda o: o["rate"]))
    outer = {"theta0": s.theta0, "rate": tree_map(lambda x: 0.2 * torch.rand_like(x), s.theta0)}
    h = Tasks(Unrolled(2))(problem, {}, outer, s.support, s.query)
    assert rel(h.gradient, numeric(unrolled_mean(s, problem, 2), outer)) < 1e-7


def test_learned_rates_per_step_run_under_vmap(layer_sines, rel):
    s = layer_sines
    problem = maml(s, SGD(lr=lambda o: per_step(o["lr"])))
    args = (problem, {}, {"theta0": s.theta0, "lr": torch.tensor([0.1, 0.2])}, s.support, s.query)
    assert rel(Tasks(Unrolled(2))(*args).gradient, Tasks(Unrolled(2), loop=True)(*args).gradient) < 1e-10


def embedding():
    net = nn.Sequential(
        nn.Linear(5, 6), nn.BatchNorm1d(6, track_running_stats=False), nn.Tanh(), nn.Linear(6, 4, bias=False)
    )
    tasks, ways, shot = 4, 3, 2
    labels = torch.arange(ways).repeat_interleave(shot).expand(tasks, -1)
    support = (torch.randn(tasks, ways * shot, 5), labels)
    query = (torch.randn(tasks, 7, 5), torch.randint(ways, (tasks, 7)))

    def nearest(theta, o, b):
        distance = ((functional_call(net, o["embed"], (b[0],))[:, None] - theta["c"]) ** 2).sum(-1)
        return F.cross_entropy(-distance, b[1])

    def prototypes(theta, o, b):
        hot = torch.eye(ways)[b[1]]
        return {"c": hot.T @ functional_call(net, o["embed"], (b[0],)) / hot.sum(0)[:, None]}

    return {k: v.detach() for k, v in net.named_parameters()}, support, query, nearest, prototypes


def test_prototypes_are_a_start_with_zero_steps(rel, numeric):
    embed, support, query, nearest, prototypes = embedding()
    problem, outer = Bilevel(None, nearest, start=prototypes), {"embed": embed}
    take = lambda batch, t: tree_map(lambda x: x[t], batch)  # noqa: E731
    value = lambda o: sum(nearest(prototypes({}, o, take(support, t)), o, take(query, t)) for t in range(4)) / 4  # noqa: E731
    h = Tasks(FirstOrder())(problem, {}, outer, support, query)
    assert rel(h.gradient, numeric(value, outer)) < 1e-7
    leaf = tree_map(lambda x: x.clone().requires_grad_(), outer)
    assert rel(tree_leaves(h.gradient), torch.autograd.grad(value(leaf), tree_leaves(leaf))) < 1e-10


def test_zero_shot_the_start_reads_descriptions(rel, numeric):
    embed, _, query, nearest, _ = embedding()
    words = torch.randn(4, 3, 6)  # (tasks, ways, description)
    start = lambda t, o, b: {"c": F.normalize(b @ o["g"], dim=-1)}  # noqa: E731
    outer = {"embed": embed, "g": torch.randn(6, 4)}
    value = lambda o: sum(nearest(start({}, o, words[t]), o, (query[0][t], query[1][t])) for t in range(4)) / 4  # noqa: E731
    h = Tasks(FirstOrder())(Bilevel(None, nearest, start=start), {}, outer, words, query)
    assert rel(h.gradient, numeric(value, outer)) < 1e-6


class Counting(Estimator):
    """Keeps a count per task in its carry: what an estimator with a state of its own needs of `Tasks`."""

    descends = False

    def estimate(self, problem, theta, outer, inner_batch, outer_batch, *, memory, carry, generator):
        h = FirstOrder().estimate(
            problem, theta, outer, inner_batch, outer_batch, memory=memory, carry=carry, generator=generator
        )
        return h._replace(carry=(carry[0] + 1,) if carry else (torch.zeros_like(h.outer_loss),))


@pytest.mark.parametrize("loop", [False, True])
def test_every_task_has_its_own_carry(layer_sines, loop):
    s = layer_sines
    args = (maml(s), {}, {"theta0": s.theta0}, None, s.query)  # what is no tensor is shared
    h = Tasks(Counting(), loop)(*args)
    again = Tasks(Counting(), loop)(*args, carry=h.carry)
    assert isinstance(h, Hypergradient) and again.carry[0].tolist() == [1.0] * 4


@pytest.mark.parametrize("query", [None, (torch.ones(3, 2), torch.ones(4, 2)), torch.tensor(1.0)])
def test_batches_without_a_task_axis_are_refused(layer_sines, query):
    with pytest.raises(BilevelError, match="must have the tasks as its first axis, got"):
        Tasks(FirstOrder())(maml(layer_sines), {}, {"theta0": layer_sines.theta0}, None, query)


def test_tasks_doubt_what_their_estimator_doubts(layer_sines):
    s, outer = layer_sines, {"theta0": layer_sines.theta0}
    near = lambda t, o, b: s.loss(t, o, b) + sum(((t[k] - o["theta0"][k]) ** 2).sum() for k in t)  # noqa: E731
    problem = replace(maml(s), inner_loss=near)
    estimator = Tasks(ConjugateGradient(steps=1))
    h = estimator(problem, {}, outer, s.support, s.query)
    assert "the inner problem is not solved" in estimator.doubts(h)
    with pytest.raises(BilevelError, match="Tasks has not converged: the inner problem is not solved"):
        estimator(problem, {}, outer, s.support, s.query, strict=True)
