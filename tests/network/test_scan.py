"""A recurrent cell: a loop of the compiled program equals the loop written by hand, and so do its gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.func import functional_call, grad, vmap

from metanas.network import derived, one_path, supernet
from metanas.space import NEEDED, Space, chain, op

WIDTH, TIME, FEATURES, OUT = 4, 5, 3, 2
SQUASH = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "identity": lambda x: x}


@pytest.fixture
def space(problems):
    return problems.recurrent(WIDTH)


@pytest.fixture
def network(space):
    return supernet(space, (TIME, FEATURES), OUT).double()


@pytest.fixture
def x():
    return torch.randn(6, TIME, FEATURES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def by_hand(weights, x, first, source, second):
    """The cell of `tests/problems.py: recurrent`, written out; what is mixed is a dict from label to weight."""

    def linear(name, value):
        return value @ weights[f"{name}.0.weight"].T + weights[f"{name}.0.bias"]

    def squash(value, mixed):
        return sum(w * SQUASH[label](value) for label, w in mixed.items())

    state = x.new_zeros(len(x), WIDTH)
    for t in range(TIME):
        inside = linear("cell.first/from_value", x[:, t]) + linear("cell.first/from_state", state)
        a = squash(inside, first)
        here = {"first": lambda a=a: linear("cell.second/from_first", a),
                "state": lambda s=state: linear("cell.second/from_state", s)}  # fmt: skip
        b = squash(sum(w * here[label]() for label, w in source.items()), second)
        state = (a + b) / 2
    return linear("head", state)


def test_the_loop_is_the_loop_written_by_hand(space, network, x):
    weights = network.state_dict()
    for key in ("tanh first sigmoid", "sigmoid state identity", "identity first tanh"):
        architecture = space.parse(key)
        want = by_hand(weights, x, *({label: 1.0} for label in key.split()))
        sampled = network(x, mix=one_path(space.choices, architecture))
        torch.testing.assert_close(sampled, want, rtol=0, atol=1e-14)
        part = derived(space, architecture, (TIME, FEATURES), OUT).double()
        part.load_state_dict({k: v for k, v in weights.items() if k in part.state_dict()})
        assert set(part.state_dict()) < set(weights)
        torch.testing.assert_close(part(x), want, rtol=0, atol=1e-14)


def mixture(space, seed=1):
    rng = torch.Generator().manual_seed(seed)
    return {
        c.name: torch.softmax(torch.randn(len(c.candidates), generator=rng, dtype=torch.float64), 0)
        for c in space.choices
    }


def labelled(space, mix):
    return [dict(zip(space.program.choice(n).candidates, mix[n], strict=True)) for n in NAMES]


NAMES = ("first.act", "second.from", "second.act")


def test_a_mixture_and_its_gradients(space, network, x):
    mix = {name: w.requires_grad_() for name, w in mixture(space).items()}
    weights = dict(network.named_parameters())
    leaves = [*mix.values(), *weights.values()]
    got = network(x, mix=mix)
    want = by_hand(weights, x, *labelled(space, mix))
    torch.testing.assert_close(got, want, rtol=0, atol=1e-14)
    for a, b in zip(
        torch.autograd.grad(got.square().sum(), leaves), torch.autograd.grad(want.square().sum(), leaves), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_under_functional_transforms(space, network, x):
    """grad inside vmap over tasks, as meta-learning does it, against a plain loop."""
    weights = {k: p.detach() for k, p in network.named_parameters()}
    mix = mixture(space)
    tasks = torch.stack([x, x.flip(0) * 2, -x])

    def loss(weights, mix, x):
        return functional_call(network, weights, (x,), {"mix": mix}).square().mean()

    got = vmap(grad(loss, argnums=(0, 1)), in_dims=(None, None, 0))(weights, mix, tasks)
    for k, task in enumerate(tasks):
        leaves = {n: w.clone().requires_grad_() for n, w in weights.items()}
        mixed = {n: w.clone().requires_grad_() for n, w in mix.items()}
        value = by_hand(leaves, task, *labelled(space, mixed)).square().mean()
        want = torch.autograd.grad(value, [*leaves.values(), *mixed.values()])
        for a, b in zip([*got[0].values(), *got[1].values()], want, strict=True):
            torch.testing.assert_close(a[k], b, rtol=0, atol=1e-12)


def test_two_scans_start_from_different_weights(problems):
    cell = problems.recurrent(WIDTH).graph.nodes[0].edges[0].content
    steps = (("one", cell), ("two", cell), ("last", op("last")), ("head", op("linear", width=NEEDED)))
    space = Space(chain(*steps, inputs=("sequence",)))
    weights = supernet(space, (TIME, WIDTH), OUT).state_dict()
    a, b = (weights[f"{name}.first/from_state.0.weight"] for name in ("one", "two"))
    assert not torch.equal(a, b)
    assert space.size == problems.recurrent().size
    rng = np.random.default_rng(0)
    y = derived(space, space.sample(rng), (TIME, WIDTH), OUT)(torch.ones(2, TIME, WIDTH))
    assert torch.isfinite(y).all()
