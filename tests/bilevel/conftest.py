"""Test problems with known answers, and the two measures that every test uses. All in float64.

ridge       per-feature log decay on ridge regression: the argmin and the hypergradient in closed form
mixture     a two-edge supernet of convolutions, affine batch norm without running statistics, mixing weights passed in
sines       few-shot regression of sines with a small perceptron and a norm of choice
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from metanas.bilevel import SGD, Bilevel


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


def relative(a: Any, b: Any) -> float:
    """|a - b| / |b| over whole trees; |a| where b is zero."""
    pairs = list(zip(tree_leaves(a), tree_leaves(b), strict=True))
    off = sum(float(((x - y) ** 2).sum()) for x, y in pairs) ** 0.5
    size = sum(float((y**2).sum()) for _, y in pairs) ** 0.5
    return off / (size or 1.0)


def central_difference(function: Callable[[Any], Tensor], tree: Any, step: float = 1e-6) -> Any:
    leaves, spec = tree_flatten(tree)
    slopes = []
    for i, leaf in enumerate(leaves):
        slope = torch.zeros(leaf.numel())
        for j in range(leaf.numel()):
            bump = torch.zeros(leaf.numel())
            bump[j] = step
            bump = bump.view_as(leaf)
            up, down = (
                function(tree_unflatten([*leaves[:i], leaf + sign * bump, *leaves[i + 1 :]], spec)) for sign in (1, -1)
            )
            slope[j] = (up - down) / (2 * step)
        slopes.append(slope.view_as(leaf))
    return tree_unflatten(slopes, spec)


@pytest.fixture
def rel() -> Callable[[Any, Any], float]:
    return relative


@pytest.fixture
def numeric() -> Callable[..., Any]:
    return central_difference


@pytest.fixture
def ridge() -> SimpleNamespace:
    """L = |Xw - y|^2 / 2n + sum exp(log_wd) w^2 / 2, F = |Xv w - yv|^2 / 2m; dF = -w exp(log_wd) H^-1 v."""
    n, m, d = 30, 20, 5
    x, xv, truth = torch.randn(n, d), torch.randn(m, d), torch.randn(d)
    y, yv = x @ truth + 0.3 * torch.randn(n), xv @ truth + 0.3 * torch.randn(m)
    outer = {"log_wd": torch.randn(d) - 1}

    def fit(theta, outer, batch):
        return 0.5 * ((batch[0] @ theta["w"] - batch[1]) ** 2).mean()

    def inner(theta, outer, batch):
        return fit(theta, outer, batch) + 0.5 * (outer["log_wd"].exp() * theta["w"] ** 2).sum()

    def argmin(outer):
        return {"w": torch.linalg.solve(x.T @ x / n + torch.diag(outer["log_wd"].exp()), x.T @ y / n)}

    hessian = x.T @ x / n + torch.diag(outer["log_wd"].exp())
    best = argmin(outer)
    v = xv.T @ (xv @ best["w"] - yv) / m
    exact = {"log_wd": -best["w"] * outer["log_wd"].exp() * torch.linalg.solve(hessian, v)}
    rate = 1.8 / float(torch.linalg.eigvalsh(hessian).max())
    return SimpleNamespace(
        d=d, fit=fit, inner=inner, argmin=argmin, outer=outer, train=(x, y), valid=(xv, yv), best=best, exact=exact,
        problem=Bilevel(inner, fit, rule=SGD(lr=rate)), zero={"w": torch.zeros(d)}, far={"w": torch.randn(d)},
    )  # fmt: skip


class Mixture(nn.Module):
    """stem -> mix of (skip, conv1-BN, conv3-BN, avg pool) -> the same -> head; mix is (2 edges, 4 candidates)."""

    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.act = act
        self.stem = nn.Conv2d(3, 2, 3, padding=1, bias=False)
        self.conv = nn.ModuleList([nn.Conv2d(2, 2, k, padding=k // 2, bias=False) for k in (1, 3, 1, 3)])
        self.norm = nn.ModuleList([nn.BatchNorm2d(2, track_running_stats=False) for _ in range(5)])
        self.head = nn.Linear(2, 3)

    def forward(self, images: Tensor, mix: Tensor) -> Tensor:  # (batch, 3, 8, 8), (2, 4)
        h = self.norm[4](self.stem(images))
        for edge in range(2):
            parts = [h, F.avg_pool2d(h, 3, 1, 1, count_include_pad=False)]
            parts += [self.norm[k](self.conv[k](self.act(h))) for k in (2 * edge, 2 * edge + 1)]
            h = sum(w * p for w, p in zip(mix[edge], parts, strict=True))
        return self.head(self.act(h).mean((2, 3)))


@pytest.fixture
def mixture() -> SimpleNamespace:
    def net(act=F.relu):
        torch.manual_seed(1)
        return Mixture(act)

    def data(n: int, seed: int):
        g = torch.Generator().manual_seed(seed)
        return torch.randn(n, 3, 8, 8, generator=g), torch.randint(0, 3, (n,), generator=g)

    def raw_loss(net):  # the outer variables are the mixing weights themselves
        return lambda theta, outer, batch: F.cross_entropy(
            functional_call(net, theta, (batch[0], outer["mix"])), batch[1]
        )

    def loss(net):
        raw = raw_loss(net)
        return lambda theta, outer, batch: raw(theta, {"mix": torch.softmax(outer["alpha"], -1)}, batch)

    def problem(net, rule=None):
        return Bilevel(loss(net), loss(net), rule=SGD(0.05, 0.9, 5e-4) if rule is None else rule)

    def frozen(net):
        return {k: p.detach().clone() for k, p in net.named_parameters()}

    alpha = {"alpha": 0.5 * torch.randn(2, 4)}
    return SimpleNamespace(
        net=net, data=data, raw_loss=raw_loss, loss=loss, problem=problem, frozen=frozen, alpha=alpha
    )


class Perceptron(nn.Module):
    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.a, self.n, self.b = nn.Linear(1, 8), norm(8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.n(self.a(x))))


@pytest.fixture(params=["none", "batch", "layer"])
def sines(request) -> SimpleNamespace:
    return make_sines(request.param)


@pytest.fixture
def layer_sines() -> SimpleNamespace:
    return make_sines("layer")


def make_sines(norm: str) -> SimpleNamespace:
    norms: dict[str, Callable[[int], nn.Module]] = {
        "none": lambda c: nn.Identity(),
        "batch": lambda c: nn.BatchNorm1d(c, track_running_stats=False),
        "layer": nn.LayerNorm,
    }
    tasks = 4
    torch.manual_seed(2)
    net = Perceptron(norms[norm])
    xs, xq, phase = torch.randn(tasks, 6, 1), torch.randn(tasks, 10, 1), 3 * torch.rand(tasks, 1, 1)
    theta0 = {k: p.detach().clone() for k, p in net.named_parameters()}

    def loss(theta, outer, batch):
        return ((functional_call(net, theta, (batch[0],)) - batch[1]) ** 2).mean()

    return SimpleNamespace(
        norm=norm, net=net, tasks=tasks, theta0=theta0, loss=loss,
        support=(xs, torch.sin(xs + phase)), query=(xq, torch.sin(xq + phase)),
    )  # fmt: skip


@pytest.fixture
def quadratic() -> Callable[..., SimpleNamespace]:
    return make_quadratic


def make_quadratic(spectrum: Any, seed: int = 3) -> SimpleNamespace:
    """L = w'Hw / 2 - w'Bo,  F = |w - t|^2 / 2 + |o|^2 / 2:  w* = H^-1 Bo,  dF/do = o + B'H^-1 (w* - t).

    w is a nested tree of two leaves (the second is empty in one dimension), o one of three, five numbers in all; H has
    the eigenvalues `spectrum` and random eigenvectors, the columns of `turn`.
    """
    c = torch.as_tensor(spectrum, dtype=torch.float64)
    n, draw = len(c), torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(n, n, generator=draw)).Q
    hessian, across = turn @ torch.diag(c) @ turn.T, torch.randn(n, 5, generator=draw)
    target = torch.randn(n, generator=draw)

    def tree(w):  # (n,)
        return {"w": w[: n - n // 2], "deep": {"v": w[n - n // 2 :]}}

    def flat(theta):
        return torch.cat([theta["w"], theta["deep"]["v"]])

    def outer_tree(o):  # (5,)
        return {"scale": o[0], "shift": {"a": o[1:3], "b": o[3:].view(1, 2)}}

    def outer_flat(outer):
        return torch.cat([outer["scale"].view(1), outer["shift"]["a"], outer["shift"]["b"].view(-1)])

    def inner(theta, outer, batch):
        w = flat(theta)
        return w @ hessian @ w / 2 - w @ across @ outer_flat(outer)

    def goal(theta, outer, batch):
        return ((flat(theta) - target) ** 2).sum() / 2 + (outer_flat(outer) ** 2).sum() / 2

    def solved(v):  # H^-1 v, from the spectrum
        return turn @ ((turn.T @ v) / c)

    o = torch.randn(5, generator=draw)
    best = solved(across @ o)
    v = best - target
    low, high = float(c.min()), float(c.max())
    # Polyak's heavy ball: the error falls by (sqrt k - 1) / (sqrt k + 1) a step, k the condition number.
    ball = SGD(4 / (high**0.5 + low**0.5) ** 2, ((high**0.5 - low**0.5) / (high**0.5 + low**0.5)) ** 2)
    return SimpleNamespace(
        n=n, c=c, turn=turn, hessian=hessian, v=v, q=solved(v), tree=tree, flat=flat, solved=solved,
        across=across, through=lambda q: outer_tree(o + across.T @ q),  # the hypergradient of an approximate q
        inner=inner, goal=goal, outer=outer_tree(o), outer_tree=outer_tree, outer_flat=outer_flat, best=tree(best),
        exact=outer_tree(o + across.T @ solved(v)), problem=Bilevel(inner, goal, rule=ball),
        at=(tree(best), outer_tree(o), None, None), rate=2 / (low + high),
    )  # fmt: skip
