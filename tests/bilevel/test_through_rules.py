"""Exact differentiation through every rule: forward mode, reverse mode, checkpoints and truncation agree; gradcheck."""

import itertools
import weakref
from dataclasses import replace
from typing import Any
from weakref import WeakSet

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from metanas.bilevel import SGD, Adam, AdamW, Bilevel, ForwardMode, Unrolled, descend, per_step
from metanas.bilevel.gradients import slope

STEPS = 7
RATES = {
    "rates": torch.linspace(-2.0, -3.0, STEPS, dtype=torch.float64),
    "each": {"body": {"a": torch.full((3, 4), 0.02, dtype=torch.float64), "c": torch.full((4,), 0.05).double()}},
    "groups": {"body": torch.tensor(0.03).double(), "head": torch.tensor(0.08).double()},
    "momentum": torch.tensor(0.7).double(),
    "decay": torch.tensor(0.05).double(),
}


def each(o):
    return {"body": o["each"]["body"], "head": 0.05}


RULES: dict[str, Any] = {
    "SGD": SGD(0.1),
    "momentum": SGD(0.05, 0.9, 0.02),
    "Nesterov": SGD(0.05, 0.9, 0.02, nesterov=True),
    "Adam": Adam(0.02, (0.8, 0.95), 1e-4),
    "Adam, decay": Adam(0.02, (0.8, 0.95), 1e-4, 0.1),
    "AdamW": AdamW(0.02, (0.8, 0.95), 1e-4, 0.1),
    "per step": SGD(lambda o: per_step(o["rates"].exp()), momentum=lambda o: o["momentum"]),
    "per coordinate": SGD(each, lambda o: o["momentum"], lambda o: o["decay"], nesterov=True),
    "per group": SGD(lambda o: o["groups"], 0.9, lambda o: o["groups"], nesterov=True),
    "per tensor": SGD(
        lambda o: {"body": {"a": o["decay"], "c": o["momentum"]}, "head": o["groups"]["head"]},
        lambda o: o["groups"]["body"],
    ),
    "Adam, learned": Adam(
        lambda o: per_step(o["rates"].exp()),
        (lambda o: o["momentum"], 0.95),
        lambda o: o["decay"],
        lambda o: o["decay"],
    ),
    "AdamW, learned": AdamW(
        each, (0.8, lambda o: o["momentum"]), lambda o: o["decay"], lambda o: {"body": o["decay"], "head": 0.1}
    ),
}
READS = {
    "per step": ["rates", "momentum"],
    "per coordinate": ["each", "momentum", "decay"],
    "per group": ["groups"],
    "per tensor": ["momentum", "decay", "groups"],
    "Adam, learned": ["rates", "momentum", "decay"],
    "AdamW, learned": ["each", "momentum", "decay"],
}
"""Which of the outer variables a rule reads: for each the hypergradient is not zero."""


@pytest.fixture
def tanh():
    """A perceptron whose weights decay by outer variables, from a start that is one."""
    draw = torch.Generator().manual_seed(5)
    x, y, xv, yv = (torch.randn(*s, generator=draw) for s in ((12, 3), (12,), (9, 3), (9,)))

    def fit(t, o, b):
        return ((torch.tanh(b[0] @ t["body"]["a"] + t["body"]["c"]) @ t["head"] - b[1]) ** 2).mean()

    def inner(t, o, b):
        return fit(t, o, b) + o["log_decay"].exp() * (t["body"]["a"] ** 2).sum()

    start = {
        "body": {"a": torch.randn(3, 4, generator=draw), "c": torch.randn(4, generator=draw)},
        "head": torch.randn(4, generator=draw),
    }
    problem = Bilevel(inner, fit, start=lambda t, o, b: o["start"])

    def made(name):
        outer = {"log_decay": torch.tensor(-2.0), "start": start, **{k: RATES[k] for k in READS.get(name, [])}}
        return replace(problem, rule=RULES[name]), {}, outer, (x, y), (xv, yv)

    return made


@pytest.mark.parametrize("name", RULES)
def test_forward_is_reverse_is_checkpointed(tanh, rel, name):
    args = tanh(name)
    want = Unrolled(STEPS)(*args)
    checkpoints = [Unrolled(STEPS, checkpoint=k) for k in (1, 2, 3, 6, 7)]
    for estimator in (ForwardMode(STEPS), ForwardMode(STEPS, chunk=5), *checkpoints):
        h = estimator(*args)
        assert rel(h.gradient, want.gradient) < 1e-12, estimator
        assert rel((h.theta, h.memory, h.outer_loss), (want.theta, want.memory, want.outer_loss)) < 1e-13, estimator
        assert rel(h.stationarity, want.stationarity) < 1e-12, estimator
    assert all(rel(want.gradient[k], tree_map(torch.zeros_like, want.gradient[k])) > 1e-6 for k in READS.get(name, []))


@pytest.mark.parametrize("name", ["momentum", "AdamW", "Adam, learned"])
def test_forward_and_checkpoints_go_on_from_a_memory_on_minibatches(tanh, rel, name):
    problem, theta, outer, (x, y), valid = tanh(name)
    batches = x.view(6, 2, 3), y.view(6, 2)
    problem = replace(problem, batch_at=lambda b, k: (b[0][k], b[1][k]))
    _, memory, _ = descend(problem, theta, outer, batches, None, 2, slope)
    args = problem, theta, outer, batches, valid
    want = Unrolled(6)(*args, memory=memory)
    assert rel(want.gradient, Unrolled(6)(*args).gradient) > 1e-3  # the memory matters
    for estimator in (ForwardMode(6), Unrolled(6, checkpoint=2)):
        assert rel(estimator(*args, memory=memory).gradient, want.gradient) < 1e-12
    late = Unrolled(6, truncate=4)(*args, memory=memory).gradient
    assert rel(Unrolled(6, truncate=4, checkpoint=1)(*args, memory=memory).gradient, late) < 1e-12


def test_truncated_tends_to_the_full_unroll(ridge, rel):
    args = ridge.problem, ridge.far, ridge.outer, ridge.train, ridge.valid
    full = Unrolled(120)(*args).gradient
    errors = [rel(Unrolled(120, truncate=k)(*args).gradient, full) for k in (1, 10, 40, 80, 120)]
    assert all(b < a for a, b in itertools.pairwise(errors))
    assert errors[0] > 0.1 and errors[-2] < 1e-4 and errors[-1] == 0


@pytest.mark.parametrize("name", RULES)
def test_gradcheck_of_a_rule_step(tanh, name):
    """In theta, memory, gradient and the outer variables at once."""
    problem, _, outer, _, _ = tanh(name)
    draw = torch.Generator().manual_seed(7)
    numbers = lambda x: 0.1 + torch.rand(x.shape, generator=draw)  # noqa: E731
    theta, outer = outer["start"], {k: outer[k] for k in READS.get(name, [])}
    memory = tree_map(lambda x: numbers(x) if x.is_floating_point() and x.dim() else x + 2, problem.rule.init(theta))
    gradient = tree_map(lambda x: torch.randn(x.shape, generator=draw), theta)
    leaves, spec = tree_flatten((theta, memory, gradient, outer))
    inputs = [x.clone().requires_grad_() if x.is_floating_point() and x.dtype == torch.float64 else x for x in leaves]

    def step(*leaves):
        moved, after = problem.rule(*tree_unflatten(leaves, spec))
        return tuple(x for x in tree_flatten((moved, after))[0] if x.is_floating_point() and x.requires_grad)

    assert torch.autograd.gradcheck(step, inputs, fast_mode=True)


@pytest.mark.parametrize("name", RULES)
def test_gradcheck_of_the_outer_loss_after_the_steps(tanh, name):
    problem, theta, outer, train, valid = tanh(name)
    leaves, spec = tree_flatten(outer)

    def value(*leaves):
        o = tree_unflatten(leaves, spec)
        return problem.outer_loss(descend(problem, theta, o, train, None, 4, slope)[0], o, valid)

    assert torch.autograd.gradcheck(value, [x.clone().requires_grad_() for x in leaves], fast_mode=True)


class Alive(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive, of those that were made inside of it."""

    def __init__(self):
        super().__init__()
        self.now, self.most, self.known = 0, 0, WeakSet()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for x in tree_flatten(made)[0]:
            if isinstance(x, torch.Tensor) and x.untyped_storage() not in self.known:
                storage = x.untyped_storage()
                self.known.add(storage)
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self.release, storage.nbytes())
        return made

    def release(self, size):
        self.now -= size


def most_held(work):
    with Alive() as alive:
        work()
    return alive.most


def test_checkpoints_hold_the_graph_of_few_steps(ridge):
    args = ridge.problem, ridge.far, ridge.outer, ridge.train, ridge.valid
    short, long = (most_held(lambda k=k: Unrolled(k)(*args)) for k in (2, 64))
    assert long > 10 * short
    assert most_held(lambda: Unrolled(64, checkpoint=2)(*args)) < 1.5 * short
