"""A hypernetwork's response and the gradient through it, on ridge regression, where both are known in closed form."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.func import grad, jacrev, vmap

from metanas.bilevel import SGD, Bilevel, FirstOrder, Unrolled, solve, torch_step, train
from metanas.errors import BilevelError
from metanas.modes import meta_parameter
from metanas.modes.hypernetworks import Hypernetwork, hypernetwork

N, D = 30, 3


@pytest.fixture
def ridge() -> SimpleNamespace:
    """L = |Xw - y|^2 / n + sum exp(phi) w^2; w*(phi) = (X'X/n + diag exp(phi))^-1 X'y/n; F = |Vw - u|^2 / n."""
    draw = torch.Generator().manual_seed(0)
    x, v, noise, late = (torch.randn(N, k, generator=draw, dtype=torch.float64) for k in (D, D, 1, 1))
    plane = torch.tensor([1.0, -2.0, 0.1], dtype=torch.float64)
    y, u = x @ plane + 2 * noise[:, 0], v @ plane + late[:, 0]

    def fit(theta, outer, batch):
        return (batch[0] @ theta["w"] - batch[1]).square().mean()

    def inner(theta, outer, batch):
        return fit(theta, outer, batch) + (outer["decay"].exp() * theta["w"].square()).sum()

    def best(phi):
        return torch.linalg.solve(x.T @ x / N + phi.exp().diag(), x.T @ y / N)

    phi = torch.tensor([-1.0, -0.5, -2.0], dtype=torch.float64)
    theta = {"w": torch.zeros(D, dtype=torch.float64)}
    return SimpleNamespace(
        train=(x, y), valid=(v, u), best=best, phi=phi, theta=theta, problem=Bilevel(inner, fit, rule=SGD(0.1)),
        value=lambda phi: fit({"w": best(phi)}, None, (v, u)),
    )  # fmt: skip


def corners(size: float) -> torch.Tensor:
    """Noise with mean zero and no correlation: every corner of a cube (2 ** D, D)."""
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * D)
    return size * signs


def solved(problem, psi, phi, batch):
    """The least psi by one step of Newton: for a linear h, ridge regression is quadratic in psi."""
    names, shapes = list(psi), [x.shape for x in psi.values()]

    def tree(row):
        parts = row.split([x.numel() for x in psi.values()])
        return {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}

    def loss(row):
        return problem.inner_loss(tree(row), phi, batch)

    row = torch.cat([x.reshape(-1) for x in psi.values()])
    row = row - torch.linalg.solve(jacrev(grad(loss))(row), grad(loss)(row))
    assert grad(loss)(row).norm() < 1e-12
    return tree(row)


def test_a_linear_one_is_the_best_response_and_its_slope(ridge):
    """Around phi to second order in the noise: ten times less noise, a hundred times less error."""
    h = Hypernetwork(ridge.theta, {"decay": ridge.phi}, width=2.0)
    problem, phi = hypernetwork(ridge.problem, h), {"decay": ridge.phi}
    want, slope = ridge.best(ridge.phi), jacrev(ridge.best)(ridge.phi)
    exact = grad(ridge.value)(ridge.phi)
    off = {}
    for size in (0.1, 0.01):
        psi = solved(problem, h.first(), phi, (ridge.train, corners(size)))
        found = FirstOrder()(problem, psi, phi, None, ridge.valid)
        off[size] = torch.stack([
            (psi["centre"] - want).norm() / want.norm(),
            (psi["linear"] / h.width - slope).norm() / slope.norm(),
            (found.gradient["decay"] - exact).norm() / exact.norm(),
        ])  # fmt: skip
    assert (off[0.01] < 2e-4).all()
    torch.testing.assert_close(off[0.1] / off[0.01], torch.full((3,), 100.0, dtype=torch.float64), rtol=0.05, atol=0)


def test_without_noise_nothing_is_learned_of_the_slope(ridge):
    h = Hypernetwork(ridge.theta, {"decay": ridge.phi})
    problem = hypernetwork(ridge.problem, h)
    slopes = grad(problem.inner_loss)(h.first(), {"decay": ridge.phi}, (ridge.train, corners(0.0)))
    assert slopes["linear"].abs().max() < 1e-12 and slopes["centre"].norm() > 0.1


def psi_of(h: Hypernetwork, spread: float = 0.3) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    first = h.first(generator=draw)
    return {name: x + spread * torch.randn(x.shape, generator=draw, dtype=x.dtype) for name, x in first.items()}


@pytest.mark.parametrize("steps", [0, 3])
def test_as_a_start_against_central_differences(ridge, steps):
    """theta = {}; the gradients of psi and of phi, with no inner step and through three."""
    h = Hypernetwork(ridge.theta, ridge.phi, width=2.0, hidden=4)
    inner = lambda theta, outer, batch: ridge.problem.inner_loss(theta, {"decay": outer["phi"]}, batch)  # noqa: E731
    problem = Bilevel(inner, ridge.problem.outer_loss, start=h.start, rule=SGD(0.1))
    outer = {"psi": psi_of(h), "phi": ridge.phi + 0.5}
    estimator = Unrolled(steps) if steps else FirstOrder()
    found = estimator(problem, {}, outer, ridge.train, ridge.valid)

    def value(psi, phi):
        return estimator(problem, {}, {"psi": psi, "phi": phi}, ridge.train, ridge.valid).outer_loss

    step = 1e-6
    for name, x in outer["psi"].items():
        for i in range(x.numel()):
            bump = torch.zeros(x.numel(), dtype=x.dtype).index_fill(0, torch.tensor(i), step).view_as(x)
            sides = [value({**outer["psi"], name: x + sign * bump}, outer["phi"]) for sign in (1, -1)]
            want = (sides[0] - sides[1]) / (2 * step)
            torch.testing.assert_close(found.gradient["psi"][name].reshape(-1)[i], want, rtol=1e-6, atol=1e-8)
    for i, bump in enumerate(step * torch.eye(D, dtype=torch.float64)):
        want = (value(outer["psi"], outer["phi"] + bump) - value(outer["psi"], outer["phi"] - bump)) / (2 * step)
        torch.testing.assert_close(found.gradient["phi"][i], want, rtol=1e-6, atol=1e-8)


def test_psi_and_phi_in_turn_find_the_best_decays(ridge):
    """One loop trains psi and moves phi; where it ends the true outer loss has the slope of zero."""
    phi = {"decay": torch.full((D,), 0.5, dtype=torch.float64, requires_grad=True)}
    h = Hypernetwork(ridge.theta, {"decay": phi["decay"].detach()})
    problem, psi = hypernetwork(ridge.problem, h), h.first()
    advance = train(problem, psi, phi, torch.optim.Adam([x.requires_grad_() for x in psi.values()], 0.02))
    step = torch_step(torch.optim.Adam(phi.values(), 0.05), phi)
    given = [(ridge.train, corners(0.3))] * 2
    begun = grad(ridge.value)(phi["decay"].detach())
    for _ in solve(
        problem, FirstOrder(), psi, phi, [(given, None, ridge.valid)] * 400, outer_step=step, advance=advance
    ):
        pass
    ended = phi["decay"].detach()
    finest = min(float(ridge.value(torch.tensor([a, b, c], dtype=torch.float64)))
                 for a in range(-6, 3) for b in range(-6, 3) for c in range(-6, 3))  # fmt: skip
    assert grad(ridge.value)(ended).norm() < 0.2 * begun.norm()
    assert ridge.value(ended) < finest + 0.01


def test_of_a_module_and_many_hyperparameters_at_once():
    """The weights have the module's names and shapes; a row of phis gives a row of weights."""
    network = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    theta = {name: p.detach() for name, p in network.named_parameters()}
    phi = {"decay": torch.zeros(len(theta)), "scale": torch.tensor(1.0)}
    h = Hypernetwork(theta, phi, hidden=6)
    psi = h.first(generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(h(psi, h.moved(phi, torch.ones(5))), theta)
    psi = psi_of(h)
    phis = {"decay": torch.randn(7, 4), "scale": torch.randn(7)}
    rows = vmap(h, in_dims=(None, 0))(psi, phis)
    torch.testing.assert_close(rows["2.weight"][4], h(psi, {k: x[4] for k, x in phis.items()})["2.weight"])
    problem = meta_parameter(
        network,
        penalty=lambda theta, outer: (
            outer["decay"].exp() * torch.stack([p.square().sum() for p in theta.values()])
        ).sum(),
    )
    batch = torch.randn(5, 4), torch.tensor([0, 1, 1, 0, 1])
    noise = torch.randn(3, 5)
    whole = hypernetwork(problem, h).inner_loss(psi, phi, (batch, noise))
    each = [problem.inner_loss(h(psi, h.moved(phi, e)), h.moved(phi, e), batch) for e in noise]
    torch.testing.assert_close(whole, torch.stack(each).mean())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t, p: Hypernetwork(t, p, width=0.0), "width must be > 0 and finite, got 0.0"),
        (lambda t, p: Hypernetwork(t, p, hidden=-1), "hidden must be >= 0, got -1"),
        (lambda t, p: Hypernetwork({}, p), "theta must be a tree of one or more floating tensors"),
        (lambda t, p: Hypernetwork(t, {"n": torch.tensor(3)}), "phi must be a tree of one or more floating tensors"),
        (
            lambda t, p: hypernetwork(Bilevel(None, lambda t, o, b: p), Hypernetwork(t, p)),
            "inner_loss is None, so a hypernetwork has nothing to learn a response to",
        ),
    ],
)
def test_mistakes_are_named(make, words):
    with pytest.raises(BilevelError, match=words):
        make({"w": torch.ones(2)}, torch.tensor(0.0))
