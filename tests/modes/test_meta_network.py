"""The mode: its losses are the supernet's at the mixing weights; a module called with other parameters."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, vmap

from metanas.bilevel import SGD, FiniteDifference, Unrolled
from metanas.modes import Stateless, meta_network
from metanas.network import supernet


@pytest.fixture
def net(problems):
    return supernet(problems.nasbench201(2, 1), (3, 8, 8), 4).double()


@pytest.fixture
def outer(problems):
    noise = torch.Generator().manual_seed(1)
    rows = {c.name: torch.rand(5, generator=noise, dtype=torch.float64) for c in problems.nasbench201(2, 1).choices}
    return {"mix": {name: row / row.sum() for name, row in rows.items()}}


@pytest.fixture
def batch():
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64), torch.arange(6) % 4


def theta_of(net):
    return {name: p.detach() * 1.1 for name, p in net.named_parameters()}


def by_hand(net):
    return lambda theta, outer, batch: F.cross_entropy(
        functional_call(net, theta, (batch[0],), {"mix": outer["mix"]}), batch[1]
    )


def test_both_losses_are_the_supernets(net, outer, batch):
    problem, theta = meta_network(net), theta_of(net)
    for loss in (problem.inner_loss, problem.outer_loss):
        assert torch.equal(loss(theta, outer, batch), by_hand(net)(theta, outer, batch))
        ours, theirs = (grad(f, (0, 1))(theta, outer, batch) for f in (loss, by_hand(net)))
        assert all(torch.equal(ours[0][name], theirs[0][name]) for name in theta)
        assert all(torch.equal(ours[1]["mix"][name], row) for name, row in theirs[1]["mix"].items())


def test_own_loss_and_rule(net, outer, batch):
    problem = meta_network(net, loss=lambda outputs, targets: outputs[targets == 1].sum(), rule=SGD(lr=0.5))
    outputs = functional_call(net, theta_of(net), (batch[0],), {"mix": outer["mix"]})
    assert torch.equal(problem.inner_loss(theta_of(net), outer, batch), outputs[batch[1] == 1].sum())
    assert problem.rule == SGD(lr=0.5)


def test_the_rule_looks_ahead_without_nesterov():
    """NAS-Bench-201's DARTS trains with it, and looks ahead without."""
    assert meta_network(nn.Linear(1, 1)).rule == SGD(lr=0.025, momentum=0.9, weight_decay=3e-4, nesterov=False)


def test_estimators_leave_the_network_as_it_was(net, outer, batch):
    before = {name: (p, p.detach().clone()) for name, p in net.named_parameters()}
    for estimator in (Unrolled(1), FiniteDifference()):
        h = estimator(meta_network(net), theta_of(net), outer, batch, batch)
        assert all(torch.isfinite(row).all() for row in h.gradient["mix"].values())
    for name, p in net.named_parameters():
        assert p is before[name][0] and torch.equal(p, before[name][1]) and p.grad is None


def test_a_stateless_call_equals_functional_call_under_transforms():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    call = Stateless(net)
    many = {n: torch.randn(5, *p.shape, dtype=torch.float64) for n, p in net.named_parameters()}
    x = torch.randn(7, 3, dtype=torch.float64)
    torch.testing.assert_close(
        vmap(lambda t: call(t, x))(many), vmap(lambda t: functional_call(net, t, (x,)))(many), rtol=0, atol=0
    )
    one = {n: p[0] for n, p in many.items()}
    ours = grad(lambda t: grad(lambda t: call(t, x).square().sum())(t)["0.weight"].square().sum())(one)
    theirs = grad(lambda t: grad(lambda t: functional_call(net, t, (x,)).square().sum())(t)["0.weight"].square().sum())
    torch.testing.assert_close(ours, theirs(one), rtol=0, atol=0)


def test_tied_weights_are_one_entry():
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    net[1].weight = net[0].weight
    theta = {name: torch.eye(3) * 2 for name, _ in net.named_parameters()}
    assert list(theta) == ["0.weight"]
    assert torch.equal(Stateless(net)(theta, torch.ones(1, 3)), torch.full((1, 3), 4.0))
    assert net[1].weight is net[0].weight


def test_weights_tied_inside_one_module_are_one_entry():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Parameter(torch.eye(3))
            self.second = self.first

        def forward(self, x):
            return x @ self.first @ self.second

    net = Twice()
    theta = {name: torch.eye(3) * 2 for name, _ in net.named_parameters()}
    assert list(theta) == ["first"]
    assert torch.equal(Stateless(net)(theta, torch.ones(1, 3)), torch.full((1, 3), 4.0))
    assert net.second is net.first


def test_the_modules_own_parameters_are_back_after_an_error():
    net = nn.Linear(3, 2)
    own = dict(net.named_parameters())
    theta = {name: p.detach() * 2 for name, p in own.items()}
    with pytest.raises(RuntimeError):
        Stateless(net)(theta, torch.ones(1, 5))
    with pytest.raises(KeyError, match="bias"):
        Stateless(net)({"weight": theta["weight"]}, torch.ones(1, 3))
    assert all(p is own[name] for name, p in net.named_parameters())


def test_a_tracked_norm_is_called_as_it_is():
    """A batch norm writes its buffers, as when the module itself is called."""
    net = nn.BatchNorm1d(2)
    Stateless(net)({name: p.detach() for name, p in net.named_parameters()}, torch.randn(4, 2))
    assert int(net.num_batches_tracked) == 1
