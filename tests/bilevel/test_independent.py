"""Other people's code agrees, on problems that are not convex: `higher` for unrolling, `autograd` (HIPS) for the solve.

`higher` (Grefenstette et al. 2019, arXiv:1910.01727) differentiates through torch's own optimisers. `autograd` knows no
torch: the losses are written anew in its numpy, the Hessian is taken whole and handed to `numpy.linalg.solve`.
"""

import warnings

import autograd
import autograd.numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from metanas.bilevel import (
    SGD,
    Adam,
    Bilevel,
    ConjugateGradient,
    ForwardMode,
    Neumann,
    Nystrom,
    Unrolled,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import higher

STEPS = 8


@pytest.fixture
def perceptron():
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    batches = torch.randn(STEPS, 8, 3), torch.randn(STEPS, 8, 1)
    return net, batches, (torch.randn(16, 3), torch.randn(16, 1))


# Without Adam's epsilon, which `higher` adds where torch had it in 2019, before the bias correction.
RULES = {
    "momentum": (
        SGD(lambda o: o["lr"], lambda o: o["momentum"], lambda o: o["decay"]),
        lambda groups: torch.optim.SGD(groups, 0.1, momentum=0.9, weight_decay=0.1),
        {"momentum": [0.9, 0.8, 0.7, 0.6]},
    ),
    "Adam": (
        Adam(lambda o: o["lr"], (0.8, 0.95), 0.0, lambda o: o["decay"]),
        lambda groups: torch.optim.Adam(groups, 0.1, (0.8, 0.95), 0.0, weight_decay=0.1),
        {},
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_unrolled_is_higher(perceptron, rel, name):
    """Learned for every tensor: the rate, the rule's decay, the momentum, a decay in the loss; and the start."""
    net, batches, valid = perceptron
    rule, torch_like, extra = RULES[name]
    names = [k for k, _ in net.named_parameters()]
    numbers = {"lr": [0.02, 0.05, 0.1, 0.03], "decay": [0.1, 0.02, 0.05, 0.01], **extra}
    outer = {k: {n: torch.tensor(x) for n, x in zip(names, row, strict=True)} for k, row in numbers.items()}
    outer["log_decay"] = {n: torch.tensor(-2.0 - 0.3 * k) for k, n in enumerate(names)}
    outer["start"] = {n: p.detach().clone() for n, p in net.named_parameters()}

    def fit(theta, outer, batch):
        return (functional_call(net, theta, (batch[0],)) - batch[1]).square().mean()

    def inner(theta, outer, batch):
        return fit(theta, outer, batch) + sum(outer["log_decay"][n].exp() * (p**2).sum() for n, p in theta.items())

    problem = Bilevel(inner, fit, start=lambda t, o, b: o["start"], rule=rule, batch_at=lambda b, k: (b[0][k], b[1][k]))
    h = Unrolled(STEPS)(problem, {}, outer, batches, valid)

    leaves = {k: {n: x.clone().requires_grad_() for n, x in tree.items()} for k, tree in outer.items()}
    optimizer = torch_like([{"params": [p]} for p in net.parameters()])
    override = {"lr": list(leaves["lr"].values()), "weight_decay": list(leaves["decay"].values())}
    if extra:
        override["momentum"] = list(leaves["momentum"].values())
    with higher.innerloop_ctx(net, optimizer, copy_initial_weights=True, override=override) as (copy, stepped):
        copy.update_params(list(leaves["start"].values()))
        for k in range(STEPS):
            penalty = sum(
                d.exp() * (p**2).sum() for d, p in zip(leaves["log_decay"].values(), copy.parameters(), strict=True)
            )
            stepped.step(F.mse_loss(copy(batches[0][k]), batches[1][k]) + penalty)
        loss = F.mse_loss(copy(valid[0]), valid[1])
        end = [p.detach() for p in copy.parameters()]
    assert rel(list(h.theta.values()), end) < 1e-12
    assert rel(h.outer_loss, loss.detach()) < 1e-12
    for k, tree in leaves.items():  # each kind on its own, since their sizes differ
        want = torch.autograd.grad(loss, list(tree.values()), retain_graph=True)
        assert rel(h.gradient[k], dict(zip(names, want, strict=True))) < 1e-10, k
    assert rel(ForwardMode(STEPS)(problem, {}, outer, batches, valid).gradient, h.gradient) < 1e-11


def solved_by_numpy():
    """A perceptron with a decay for every weight: the data, the inner problem's solution, the Hessian and the
    hypergradient there, and the Hessian at a random point."""
    draw = np.random.default_rng(0)
    x, xv = draw.normal(size=(20, 2)), draw.normal(size=(15, 2))
    y, yv = np.sin(2 * x[:, 0]) + 0.1 * draw.normal(size=20), np.sin(2 * xv[:, 0])
    log_decay = draw.normal(size=13) - 1.5

    def output(w, x):
        return np.tanh(x @ w[:6].reshape(2, 3) + w[6:9]) @ w[9:12] + w[12]

    def outer_loss(w):
        return np.mean((output(w, xv) - yv) ** 2)

    def inner_loss(w, log_decay):
        return np.mean((output(w, x) - y) ** 2) + np.sum(np.exp(log_decay) * w**2) / 2

    slope = autograd.grad(inner_loss)
    hessian = autograd.hessian(inner_loss)
    w = draw.normal(size=13)
    for _ in range(400):
        w = w - 0.2 * slope(w, log_decay)
    for _ in range(6):  # to the last digit, by Newton
        w = w - np.linalg.solve(hessian(w, log_decay), slope(w, log_decay))
    h = hessian(w, log_decay)
    mixed = autograd.jacobian(slope, 1)(w, log_decay)  # d slope / d log_decay
    exact = -mixed.T @ np.linalg.solve(h, autograd.grad(outer_loss)(w))
    return (x, y), (xv, yv), log_decay, w, h, exact, hessian(draw.normal(size=13), log_decay)


@pytest.fixture(scope="module")
def numpy_says():
    return solved_by_numpy()


def test_the_problem_is_not_convex_and_the_point_is_a_minimum(numpy_says):
    *_, h, exact, elsewhere = numpy_says
    assert np.linalg.eigvalsh(elsewhere)[0] < -0.1
    assert 0.01 < np.linalg.eigvalsh(h)[0] and np.linalg.cond(h) < 100 and np.linalg.norm(exact) > 0.1


@pytest.mark.parametrize(
    ("estimator", "tolerance"),
    [
        (ConjugateGradient(steps=30), 1e-8),
        pytest.param(Neumann(terms=1500, lr=0.2), 1e-8, marks=pytest.mark.long),
        (Nystrom(rank=13, damping=1e-8), 1e-5),
        pytest.param(Unrolled(1200), 1e-6, marks=pytest.mark.long),
    ],
    ids=["conjugate gradients", "Neumann", "Nystrom", "unrolled"],
)
def test_implicit_is_autograd_and_numpy(numpy_says, rel, estimator, tolerance):
    train, valid, log_decay, w, _, exact, _ = numpy_says
    tensors = lambda pair: tuple(map(torch.tensor, pair))  # noqa: E731

    def output(t, x):
        return torch.tanh(x @ t["a"] + t["b"]) @ t["c"] + t["d"]

    def fit(t, o, b):
        return ((output(t, b[0]) - b[1]) ** 2).mean()

    def inner(t, o, b):
        return fit(t, o, b) + sum((o[k].exp() * t[k] ** 2).sum() for k in t) / 2

    def tree(v):
        v = torch.as_tensor(v)
        return {"a": v[:6].view(2, 3), "b": v[6:9], "c": v[9:12], "d": v[12]}

    problem = Bilevel(inner, fit, rule=SGD(0.2, 0.5))
    at = problem, tree(w), tree(log_decay), tensors(train), tensors(valid)
    h = estimator(*at, generator=torch.Generator().manual_seed(0))
    assert rel(h.gradient, tree(exact)) < tolerance
    assert h.stationarity < 1e-9 and h.converged
