"""Weights, decays, transforms and rates learned by their hypergradient: against closed forms in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metanas.bilevel import SGD, Unrolled, adopt, per_step, solve, torch_step
from metanas.modes import cross_entropies, meta_parameter

N, D = 12, 3


def square(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets).square()


@pytest.fixture
def rows():
    """A training and a validation set of a linear model: inputs, targets, positions."""
    draw = torch.Generator().manual_seed(0)
    x, v = (torch.randn(N, D, generator=draw, dtype=torch.float64) for _ in range(2))
    plane = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    y = x @ plane + 0.1 * torch.randn(N, generator=draw, dtype=torch.float64)
    return (x, y, torch.arange(N)), (v, v @ plane, torch.arange(N))


@pytest.fixture
def theta():
    return {"weight": torch.zeros(1, D, dtype=torch.float64)}


def linear():
    return nn.Linear(D, 1, bias=False).double()


def test_weights_and_decays_against_the_solved_problem(rows, theta):
    """Weighted ridge, solved: w = (X'DX/n + diag(d))^-1 X'Dy/n; its derivatives by autograd through the solve."""
    (x, y, _), (v, u, _) = rows
    problem = meta_parameter(
        linear(),
        losses=square,
        weights=lambda outer, batch: outer["weight"][batch[2]].sigmoid(),
        penalty=lambda theta, outer: (outer["decay"].exp() * theta["weight"][0].square()).sum(),
        rule=SGD(lr=0.2),
    )
    outer = {
        "weight": torch.linspace(-1, 1, N, dtype=torch.float64),
        "decay": torch.tensor([-3.0, -1.0, -2.0], dtype=torch.float64),
    }
    found = Unrolled(3000)(problem, theta, outer, rows[0], rows[1])
    leaves = {name: value.clone().requires_grad_() for name, value in outer.items()}
    d = leaves["weight"].sigmoid()
    solved = torch.linalg.solve(x.T @ (d[:, None] * x) / N + leaves["decay"].exp().diag(), x.T @ (d * y) / N)
    loss = (v @ solved - u).square().mean()
    loss.backward()
    assert float(found.outer_loss) == pytest.approx(float(loss.detach()), rel=1e-10)
    for name, leaf in leaves.items():
        torch.testing.assert_close(found.gradient[name], leaf.grad, rtol=1e-8, atol=1e-12)


def test_a_rate_for_each_step_and_a_transform_against_autograd(rows, theta):
    """Three steps written out; the batch is scaled by an outer variable."""
    problem = meta_parameter(
        linear(),
        losses=square,
        transform=lambda outer, batch: (batch[0] * outer["scale"], *batch[1:]),
        rule=SGD(lr=lambda outer: per_step(outer["rates"].exp())),
    )
    outer = {
        "scale": torch.tensor(1.5, dtype=torch.float64),
        "rates": torch.tensor([-2.0, -3.0, -1.5], dtype=torch.float64),
    }
    found = Unrolled(3)(problem, theta, outer, rows[0], rows[1])
    leaves = {name: value.clone().requires_grad_() for name, value in outer.items()}
    w = torch.zeros(D, dtype=torch.float64)
    x, y = rows[0][0] * leaves["scale"], rows[0][1]
    for k in range(3):
        w = w - leaves["rates"].exp()[k] * 2 * x.T @ (x @ w - y) / N
    (rows[1][0] @ w - rows[1][1]).square().mean().backward()
    for name, leaf in leaves.items():
        torch.testing.assert_close(found.gradient[name], leaf.grad, rtol=1e-10, atol=1e-14)


def test_the_outer_loss_knows_no_weights(rows, theta):
    problem = meta_parameter(linear(), losses=square, weights=lambda outer, batch: outer["weight"][batch[2]])
    zero = {"weight": torch.zeros(N, dtype=torch.float64)}
    assert problem.inner_loss(theta, zero, rows[0]) == 0
    torch.testing.assert_close(problem.outer_loss(theta, zero, rows[1]), rows[1][1].square().mean())


def test_wrong_labels_lose_their_weight():
    """Two clouds; a third of the labels is turned round. The loop of every mode, warm from step to step."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 2
    x = torch.randn(120, 4, generator=draw) + 3.0 * labels[:, None] - 1.5
    bad = torch.arange(60) % 3 == 0
    given = torch.where(bad, 1 - labels[:60], labels[:60])
    problem = meta_parameter(
        nn.Linear(4, 2), weights=lambda outer, batch: outer["weight"][batch[2]].sigmoid(), rule=SGD(0.5, 0.9)
    )
    theta = {"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}
    outer = {"weight": torch.zeros(60, requires_grad=True)}
    inner_batch, outer_batch = (x[:60], given, torch.arange(60)), (x[60:], labels[60:])
    step = torch_step(torch.optim.Adam(outer.values(), 0.3), outer)
    batches = [(None, inner_batch, outer_batch)] * 40
    for _ in solve(problem, Unrolled(10), theta, outer, batches, outer_step=step, advance=adopt(theta)):
        pass
    lightest = outer["weight"].detach().argsort()[:20]
    assert int(bad[lightest].sum()) >= 19 and bool((outer["weight"][bad] < 0).all())


def test_cross_entropies_take_labels_and_shares():
    outputs, labels = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1, 0])
    shares = torch.eye(3)[labels] * 0.9 + 0.1 / 3
    torch.testing.assert_close(cross_entropies(outputs, labels).mean(), F.cross_entropy(outputs, labels))
    smoothed = F.cross_entropy(outputs, labels, label_smoothing=0.1)
    torch.testing.assert_close(cross_entropies(outputs, shares).mean(), smoothed)
